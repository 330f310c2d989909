//! A model's folder: configuration and weights, and perhaps an adapter on top of them.

use std::path::{Path, PathBuf};

use super::read_config;
use crate::adapter_file::{ADAPTER_CONFIG, AdapterFile};
use crate::error::Result;
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
        Ok(Self { config: read_config(&base)?, weights: Weights::open_folder(&base)?, adapter })
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
