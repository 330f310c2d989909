//! Checked parameter values of one stage.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A stage's values after checking: every given parameter and every default, hints included.
/// References and paths stay the text that the user wrote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Values(pub Map<String, Value>);

impl Values {
    /// The value at a dotted path (`train.lr`, `files.0`), if there is one.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let mut value = self.0.get(parts.next()?)?;
        for part in parts {
            value = match value {
                Value::Array(list) => list.get(part.parse::<usize>().ok()?)?,
                other => other.as_object()?.get(part)?,
            };
        }
        Some(value)
    }

    /// The text at a dotted path.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    /// Whether anything stands at a dotted path.
    pub fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// The values as a kind's own struct.
    ///
    /// # Errors
    /// Where the struct and the declared parameters disagree, which is a bug of the kind.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(Value::Object(self.0.clone()))
    }
}
