//! A model's folder: configuration and weights, and perhaps an adapter on top of them.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserialize;

use super::read_config;
use crate::adapter_file::{ADAPTER_CONFIG, AdapterFile};
use crate::error::Result;
use crate::layers::Activations;
use crate::resident::Resident;
use crate::weights::Weights;

/// Where, in the folder of an adapter, the model lies that it belongs to.
pub const BASE: &str = "base";

/// What a model's folder holds.
#[derive(Debug)]
pub struct Stored {
    /// The text of `config.json`.
    pub config: String,
    pub(crate) weights: Weights,
    pub(crate) adapter: Option<AdapterFile>,
    pub(crate) activations: Activations,
    /// The weights, where another model holds them in memory.
    pub(crate) resident: Option<Rc<Resident>>,
}

impl Stored {
    /// Opens a folder; that of an adapter holds its model in [`BASE`].
    ///
    /// # Errors
    /// Where a file is missing or broken.
    pub fn open(folder: &Path) -> Result<Self> {
        let adapted = Self::is_adapter(folder);
        let adapter = if adapted { Some(AdapterFile::open(folder)?) } else { None };
        let base = Self::base(folder);
        let config = read_config(&base)?;
        let activations = activations(&config)?;
        Ok(Self { config, weights: Weights::open_folder(&base)?, adapter, activations, resident: None })
    }

    /// Whether a folder is that of an adapter.
    #[must_use]
    pub fn is_adapter(folder: &Path) -> bool {
        folder.join(ADAPTER_CONFIG).exists()
    }

    /// The folder of the model itself: of an adapter, that of its base.
    #[must_use]
    pub fn base(folder: &Path) -> PathBuf {
        if Self::is_adapter(folder) { folder.join(BASE) } else { folder.to_path_buf() }
    }
}

/// What products with weights of eight bits are made of, as a configuration's `quantization_config` says: bitsandbytes means LLM.int8() where
/// it says nothing of `activations`, which is a word of ours.
fn activations(config: &str) -> Result<Activations> {
    #[derive(Deserialize)]
    struct Config {
        quantization_config: Option<Quantization>,
    }
    #[derive(Deserialize)]
    struct Quantization {
        #[serde(default)]
        load_in_8bit: bool,
        activations: Option<Way>,
        llm_int8_threshold: Option<f64>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Way {
        Plain,
        Dynamic,
    }
    let Some(quantization) = serde_json::from_str::<Config>(config)?.quantization_config else { return Ok(Activations::Plain) };
    let outliers = quantization.llm_int8_threshold.filter(|threshold| *threshold > 0.0);
    Ok(match quantization.activations {
        Some(Way::Plain) => Activations::Plain,
        Some(Way::Dynamic) => Activations::Dynamic(outliers),
        None if quantization.load_in_8bit => Activations::Dynamic(outliers.or(Some(6.0))),
        None => Activations::Plain,
    })
}
