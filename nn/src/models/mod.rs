//! Model families. A family is one file here and one line in [`MODELS`].

mod bert;
mod bert_config;

use std::path::Path;

use serde::Deserialize;
use tch::Tensor;

pub use bert::BertForQuestionAnswering;
pub use bert_config::BertConfig;

use crate::builder::LoadReport;
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::packed::Packed;
use crate::parameters::{Parameters, Placement};
use crate::parity::Check;

/// Where an answer begins and ends, as a model sees it: one logit a token, f32 `[tokens]`, packed.
#[derive(Debug)]
pub struct SpanLogits {
    /// For the first token of the answer.
    pub start: Tensor,
    /// For the last token of the answer.
    pub end: Tensor,
}

/// A model that reads a question with its context and points at the answer.
pub trait Reader: Send {
    /// Logits for packed input on the model's device.
    ///
    /// # Errors
    /// Where a token id, a segment or a length is beyond what the model knows, and what libtorch reports.
    fn forward(&self, packed: &Packed, forward: &mut Forward) -> Result<SpanLogits>;

    /// Its parameters.
    fn parameters(&self) -> &Parameters;

    /// Its parameters, to train them.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// The longest sequence that it takes, where there is a limit.
    fn max_tokens(&self) -> Option<i64>;

    /// How many token ids it knows.
    fn vocabulary(&self) -> i64;

    /// Floating-point operations of a forward pass over sequences of these lengths: a multiplication and an addition are two.
    fn flops(&self, lengths: &[i64]) -> f64;

    /// Writes `config.json` and `model.safetensors` into a folder, as Hugging Face's libraries read them.
    ///
    /// # Errors
    /// Where a file cannot be written.
    fn save(&self, folder: &Path) -> Result<()>;
}

/// A reader, and what became of the names when its weights were read.
pub type Loaded = (Box<dyn Reader>, LoadReport);

/// A model family.
pub struct Model {
    /// The `model_type` in its configuration.
    pub family: &'static str,
    /// Whether a configuration is one of its: the text of `config.json`.
    pub check: fn(&str) -> Result<()>,
    /// A reader out of a folder with `config.json` and `model.safetensors`. A head that the file lacks is drawn by the seed.
    pub load: fn(&Path, &Placement, u64) -> Result<Loaded>,
    /// A reader at random, out of the text of a `config.json`.
    pub init: fn(&str, &Placement, u64) -> Result<Box<dyn Reader>>,
    /// Compares the model of a folder with the golden tensors beside it.
    pub parity: fn(&Path) -> Result<Vec<Check>>,
}

/// All families.
pub const MODELS: &[Model] = &[bert::MODEL];

/// The names of all families.
#[must_use]
pub fn families() -> Vec<&'static str> {
    MODELS.iter().map(|model| model.family).collect()
}

/// The family of the text of a `config.json`.
///
/// # Errors
/// Where the text is no configuration, or of a family that is not known.
pub fn family(config: &str) -> Result<&'static Model> {
    let name = family_name(config)?;
    MODELS.iter().find(|model| model.family == name).ok_or(NnError::Family(name))
}

/// The `model_type` of the text of a `config.json`.
pub(crate) fn family_name(config: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Named {
        model_type: String,
    }
    Ok(serde_json::from_str::<Named>(config)?.model_type)
}

/// A reader out of a model's folder, whatever its family; a head that it lacks is drawn by `seed`, and reported.
///
/// # Errors
/// Where a file is missing or wrong, or the weights do not fit the configuration.
pub fn load(folder: &Path, placement: &Placement, seed: u64) -> Result<Loaded> {
    (family(&read_config(folder)?)?.load)(folder, placement, seed)
}

/// A reader at random out of the text of a `config.json`, whatever its family.
///
/// # Errors
/// Where the configuration is wrong.
pub fn init(config: &str, placement: &Placement, seed: u64) -> Result<Box<dyn Reader>> {
    (family(config)?.init)(config, placement, seed)
}

/// The text of a folder's `config.json`.
pub(crate) fn read_config(folder: &Path) -> Result<String> {
    let path = folder.join("config.json");
    std::fs::read_to_string(&path).map_err(NnError::io(&path))
}
