//! `export`: a model as other programs know it.

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::models::{self, Stored};
use qapipe_nn::{Placement, weights};
use serde::Deserialize;
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
    std::fs::create_dir(output).map_err(Error::io(output))?;
    weights::write(&output.join(checkpoint::WEIGHTS), tensors, &[]).map_err(Error::from)?;
    checkpoint::write_config(&Stored::base(folder), output, |config| {
        config.remove(QUANTIZATION);
    })?;
    checkpoint::copy_tokenizer(folder, output)?;
    let trained = Trained::open(folder)?.unwrap_or_default();
    Trained { touched: Vec::new(), ..trained }.write(output)?;
    Ok(())
}
