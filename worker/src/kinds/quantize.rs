//! `quantize`: packs a model's weights into fewer bits.

use std::path::Path;

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::quant::{PackedModel, Scheme, pack_model};
use qapipe_nn::{AnyModel, Forward, Placement, Watch, models};
use qapipe_stages::examples::Part;
use qapipe_stages::features::{Features, Info, InfoForm};
use qapipe_stages::text_features::Texts;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tch::Device;

use super::choice::{Choice, Written};
use crate::checkpoint::{self, Trained};
use crate::error::Error;
use crate::training::{Source, SpanSource, TextSource};

/// The parameters, as `qapipe_stages` declares them.
#[derive(Deserialize)]
struct Wanted {
    scheme: Name,
    double_quant: bool,
    block: i64,
    group: i64,
    calibration_windows: usize,
    activations: String,
    outliers: Option<f64>,
    rest: Written,
    #[serde(flatten)]
    choice: Choice,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Int8,
    Nf4,
    Int4,
}

impl Wanted {
    fn scheme(&self) -> Scheme {
        match self.scheme {
            Name::Int8 => Scheme::Int8,
            Name::Nf4 => Scheme::Nf4 { block: self.block, nested: self.double_quant },
            Name::Int4 => Scheme::Int4 { group: self.group },
        }
    }

    /// What a configuration says of it: bitsandbytes's words where it knows the scheme, and `activations`, a word of ours.
    fn described(&self, left: &[String]) -> Value {
        match self.scheme {
            Name::Int4 => json!({ "quant_method": "qapipe", "scheme": "int4", "group": self.group }),
            Name::Nf4 => json!({
                "quant_method": "bitsandbytes", "load_in_4bit": true, "load_in_8bit": false, "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": self.double_quant, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "uint8",
                "llm_int8_skip_modules": left,
            }),
            Name::Int8 => json!({
                "quant_method": "bitsandbytes", "load_in_4bit": false, "load_in_8bit": true,
                "llm_int8_threshold": self.outliers.unwrap_or(0.0), "llm_int8_skip_modules": left, "activations": self.activations,
            }),
        }
    }
}

/// The key of a configuration that tells of quantization.
pub(super) const QUANTIZATION: &str = "quantization_config";

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let (base, output) = (cx.input("model")?, cx.output("model")?);
    let place = crate::precision::prepare(cx)?;
    let watch = cx.maybe_input("calibrate").map(|data| calibrated(base, data, place, wanted.calibration_windows, cx)).transpose()?;
    // On the CPU, whose rounding is the same on every machine: it decides about bits.
    let (model, _) = models::load(base, &Placement::inference(Device::Cpu), cx.request.seed).map_err(Error::from)?;
    let parameters = model.network().parameters();
    let selection = wanted.choice.selection(&[]);
    let packed = pack_model(parameters, &selection, wanted.scheme(), wanted.rest.kind(), watch.as_ref()).map_err(Error::from)?;
    cx.reporter.log(&format!("{} matrices packed, {} left", packed.modules.len(), packed.left.len()));
    let before = Trained::open(base)?.unwrap_or_default();
    let remaining = parameters.remaining().map_err(Error::from)?;
    let remaining = (remaining < parameters.count()).then_some(remaining).or(before.parameters_remaining);
    let PackedModel { tensors, modules, left } = packed;
    let trained = Trained { touched: modules, parameters_remaining: remaining, ..before };
    let told = |config: &mut Map<String, Value>| drop(config.insert(QUANTIZATION.to_owned(), wanted.described(&left)));
    Ok(checkpoint::write_model(base, output, tensors, told, &trained)?)
}

/// What goes into the matrices of a model while it reads some windows, evenly taken.
fn calibrated(base: &Path, data: &Path, place: Device, windows: usize, cx: &StageCx<'_>) -> Result<Watch, Error> {
    let info = Info::open(data)?;
    let (model, _) = models::load(base, &Placement::inference(place), cx.request.seed)?;
    let watch = Watch::default();
    let mut forward = Forward::watching(&watch);
    match (&model, &info.form) {
        (AnyModel::Reader(model), InfoForm::Spans { .. }) => {
            let features = Features::open(data, Part::Train)?;
            checkpoint::check_features(&**model, base, &info, features.longest())?;
            let source = SpanSource::new(&features, &**model);
            for row in spread(features.len(), windows) {
                cx.checkpoint()?;
                model.forward(&source.collate(&[row], false)?.packed.to_device(place)?, &mut forward)?;
            }
        }
        (AnyModel::Writer(model), InfoForm::Texts { .. }) => {
            let texts = Texts::open(data, Part::Train)?;
            checkpoint::check_features(&**model, base, &info, texts.longest().0 + texts.longest().1)?;
            let source = TextSource::new(&texts, model.form());
            for row in spread(texts.len(), windows) {
                cx.checkpoint()?;
                let _seen = model.forward(&source.collate(&[row], false)?.to_device(place)?, &mut forward)?;
            }
        }
        _ => return Err(checkpoint::other_form(&model).into()),
    }
    Ok(watch)
}

/// Some numbers of rows, evenly taken.
fn spread(rows: usize, wanted: usize) -> impl Iterator<Item = u32> {
    let wanted = wanted.min(rows);
    (0..wanted).filter_map(move |at| u32::try_from(at * rows / wanted.max(1)).ok())
}
