//! What a training leaves beside the weights.

use std::path::Path;

use qapipe_nn::Network;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::training::Outcome;

/// Name of the file.
const FILE: &str = "qapipe.json";

/// What `qapipe.json` of a trained model says; other programs pass it over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// The null threshold that is best on the train questions that were held out; none where none were.
    pub null_threshold: Option<f64>,
    /// How many parameters the last training moved.
    pub parameters_trained: u64,
    /// How many parameters are left, where some were pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_remaining: Option<u64>,
    /// The modules whose matrices the last method touched, where it touched some and not all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<String>,
}

impl Trained {
    /// What a training leaves.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn of(outcome: &Outcome, model: &dyn Network) -> Result<Self, Error> {
        let parameters = model.parameters();
        let (count, remaining) = (parameters.weights(), parameters.remaining()?);
        Ok(Self {
            null_threshold: outcome.summary.kept.and_then(|kept| kept.null_threshold),
            parameters_trained: parameters.trainable(),
            parameters_remaining: (remaining < count).then_some(remaining),
            touched: Vec::new(),
        })
    }

    /// Reads it from a model's folder; none for a model that was not trained here.
    ///
    /// # Errors
    /// Where the file is broken.
    pub fn open(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| Error::failed(format!("{}: {e}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Writes it into a model's folder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::failed(format!("{}: {e}", path.display())))?;
        std::fs::write(&path, text + "\n").map_err(Error::io(&path))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Trained::open(folder.path()).unwrap(), None);
        let trained = Trained { null_threshold: Some(-0.123_456_789_012_345_6), parameters_trained: 7, ..Trained::default() };
        trained.write(folder.path()).unwrap();
        assert_eq!(Trained::open(folder.path()).unwrap(), Some(trained));
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(Trained::open(folder.path()).unwrap_err().to_string().contains(FILE));
    }
}
