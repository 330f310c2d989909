//! What can go wrong in this crate.

use std::path::{Path, PathBuf};

use tch::TchError;

use crate::weights::WeightsError;

/// Why something with a model or a tensor did not work. Messages read after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// An exception of libtorch, its first line.
    #[error("libtorch: {0}")]
    Torch(String),
    /// A weights file that cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A model configuration that cannot be used.
    #[error("config.json: {field}: {message}")]
    Config {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it, and what is accepted.
        message: String,
    },
    /// A configuration that is not JSON, or has a field of the wrong type.
    #[error("config.json: {0}")]
    ConfigJson(#[from] serde_json::Error),
    /// A model family that is not known.
    #[error("model_type {0:?} is not known; known are {known}", known = crate::models::families().join(", "))]
    Family(String),
    /// Weights that do not fit the model.
    #[error("weights do not fit the model: {0}")]
    Fit(String),
    /// Input that the model cannot take.
    #[error("input: {0}")]
    Input(String),
    /// A device that is not there.
    #[error("device: {0}")]
    Device(String),
    /// Reading or writing a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
}

impl NnError {
    /// Ties an IO error to its path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// An error of libtorch out of its message; the C++ backtrace below the first line is left out.
    pub(crate) fn torch(message: &str) -> Self {
        Self::Torch(message.lines().next().unwrap_or_default().to_owned())
    }

    /// Whether memory ran out, on a device or on the host.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        let Self::Torch(message) = self else { return false };
        let message = message.to_ascii_lowercase();
        ["out of memory", "can't allocate memory", "status_alloc_failed"].iter().any(|text| message.contains(text))
    }
}

impl From<TchError> for NnError {
    fn from(error: TchError) -> Self {
        match error {
            TchError::Torch(message) => Self::torch(&message),
            other => Self::torch(&other.to_string()),
        }
    }
}

/// What this crate's functions return.
pub type Result<T, E = NnError> = std::result::Result<T, E>;
