//! Model families. A family is one file here and one line in [`MODELS`].

mod bert;
mod bert_config;
mod lstm;
mod lstm_config;
mod mamba;
mod mamba_config;
mod network;
mod shallower;
mod stored;
mod t5;
mod t5_config;

use std::path::Path;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Kind;

pub use bert::{BertForQuestionAnswering, write_word_head};
pub use bert_config::BertConfig;
pub use lstm::LstmForQuestionAnswering;
pub use lstm_config::{LstmAttention, LstmConfig, LstmHead};
pub use mamba::MambaForCausalLm;
pub use mamba_config::MambaConfig;
pub use network::{AnyModel, Decoding, Network, Reader, SpanLogits, Writer};
pub use shallower::{LayerNames, keep_layers};
pub use stored::{BASE, Stored};
pub use t5::T5ForConditionalGeneration;
pub use t5_config::T5Config;

use crate::builder::LoadReport;
use crate::error::{NnError, Result};
use crate::parameters::{Parameters, Placement};
use crate::parity::Check;
use crate::resident::Resident;
use crate::tuning::Tuning;

/// A model, and what became of the names when its weights were read.
pub type Loaded = (AnyModel, LoadReport);

/// A model family.
pub struct Model {
    /// The `model_type` in its configuration.
    pub family: &'static str,
    /// Whether a configuration is one of its: the text of `config.json`.
    pub check: fn(&str) -> Result<()>,
    /// A model out of what a folder holds, tuned. A head that the file lacks is drawn by the seed, and what a tuning adds.
    pub load: fn(&Stored, &Placement, u64, &Tuning) -> Result<Loaded>,
    /// A model at random, out of the text of a `config.json`.
    pub init: fn(&str, &Placement, u64) -> Result<AnyModel>,
    /// The modules that get adapters where none are named, as in PEFT; none means all.
    pub adapted: &'static [&'static str],
    /// Its stacks of layers: of an encoder with a decoder two.
    pub layers: &'static [LayerNames],
    /// Compares the model of a folder with the golden tensors beside it.
    pub parity: fn(&Path) -> Result<Vec<Check>>,
}

/// All families.
pub const MODELS: &[Model] = &[bert::MODEL, lstm::MODEL, mamba::MODEL, t5::MODEL];

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

/// The `model_type` of the text of a `config.json`; the authors' own form of Mamba's has none.
pub(crate) fn family_name(config: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Named {
        model_type: String,
    }
    let config: Value = serde_json::from_str(config)?;
    if mamba_config::is_original(&config) {
        return Ok("mamba".to_owned());
    }
    Ok(serde_json::from_value::<Named>(config)?.model_type)
}

/// A model out of a folder, whatever its family; a head that it lacks is drawn by `seed`, and reported.
///
/// # Errors
/// Where a file is missing or wrong, or the weights do not fit the configuration.
pub fn load(folder: &Path, placement: &Placement, seed: u64) -> Result<Loaded> {
    load_tuned(folder, placement, seed, &Tuning::Whole)
}

/// The same with what of it trains, and in what form.
///
/// # Errors
/// As [`load`], and where the tuning does not fit the model: what it is to touch is not there, or it has a form already.
pub fn load_tuned(folder: &Path, placement: &Placement, seed: u64, tuning: &Tuning) -> Result<Loaded> {
    let stored = Stored::open(folder)?;
    (family(&stored.config)?.load)(&stored, placement, seed, tuning)
}

/// A model for answers out of a folder, that shares its weights with the one before it where both are adapters beside the same, or one is what the
/// other stands beside: `resident` holds them, and then holds those of this one.
///
/// # Errors
/// As [`load`].
pub fn load_beside(folder: &Path, placement: &Placement, seed: u64, resident: &mut Option<Rc<Resident>>) -> Result<Loaded> {
    let mut stored = Stored::open(folder)?;
    // Let go of before the others are loaded: both may not fit.
    *resident = resident.take().filter(|resident| resident.is_of(&stored, placement));
    stored.resident.clone_from(resident);
    let (model, report) = (family(&stored.config)?.load)(&stored, placement, seed, &Tuning::Whole)?;
    if resident.is_none() {
        *resident = Some(Rc::new(Resident::of(&stored, model.network().parameters(), &report, placement)));
    }
    Ok((model, report))
}

/// A model at random out of the text of a `config.json`, whatever its family.
///
/// # Errors
/// Where the configuration is wrong.
pub fn init(config: &str, placement: &Placement, seed: u64) -> Result<AnyModel> {
    (family(config)?.init)(config, placement, seed)
}

/// The text of a folder's `config.json`.
///
/// # Errors
/// Where it cannot be read.
pub fn read_config(folder: &Path) -> Result<String> {
    let path = folder.join("config.json");
    std::fs::read_to_string(&path).map_err(NnError::io(&path))
}

/// Checks sizes of a configuration: positive, and not so large that a mistake would take all memory.
pub(crate) fn check_sizes(sizes: &[(&'static str, i64)]) -> Result<()> {
    const MOST: i64 = 1 << 24;
    match sizes.iter().find(|(_, size)| !(1..=MOST).contains(size)) {
        Some(&(field, size)) => Err(NnError::Config { field, message: format!("is {size}, and must be between 1 and {MOST}") }),
        None => Ok(()),
    }
}

/// Refuses a token id that a model of so many does not know: on CUDA, an index out of range would take the device down.
pub(crate) fn check_ids(largest: i64, vocabulary: i64) -> Result<()> {
    if largest < vocabulary {
        return Ok(());
    }
    Err(NnError::Input(format!("token id {largest} is not below vocab_size {vocabulary}: the tokenizer is another model's")))
}

/// Writes `config.json` and `model.safetensors` into a folder, as Hugging Face's libraries read them; the weights that stay in matrices with
/// masks in a kind.
pub(crate) fn save(folder: &Path, config: &impl Serialize, parameters: &Parameters, values: Kind) -> Result<()> {
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(config)? + "\n";
    std::fs::write(&path, text).map_err(NnError::io(&path))?;
    parameters.save_pruned(&folder.join("model.safetensors"), values)
}
