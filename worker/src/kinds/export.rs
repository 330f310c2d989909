//! `export`: a model as other programs know it.

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::{Placement, models};
use serde::Deserialize;
use serde_json::{Map, Value};
use tch::Device;

use super::choice::Written;
use super::quantize::QUANTIZATION;
use crate::checkpoint::{self, Trained};
use crate::error::Error;

/// The parameters, as `qapipe_stages` declares them.
#[derive(Deserialize)]
struct Wanted {
    weights: Written,
}

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let (folder, output) = (cx.input("model")?, cx.output("model")?);
    crate::precision::prepare(cx)?;
    let (model, _) = models::load(folder, &Placement::inference(Device::Cpu), cx.request.seed).map_err(Error::from)?;
    let tensors = model.network().parameters().dense(wanted.weights.kind()).map_err(Error::from)?;
    let trained = Trained { touched: Vec::new(), ..Trained::open(folder)?.unwrap_or_default() };
    let plain = |config: &mut Map<String, Value>| drop(config.remove(QUANTIZATION));
    Ok(checkpoint::write_model(folder, output, tensors, plain, &trained)?)
}
