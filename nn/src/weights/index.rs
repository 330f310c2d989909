//! The index of weights in several files, as Hugging Face's libraries write it: `model.safetensors.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::error::{Problem, WeightsError};
use super::header::modern;

/// Which tensor is in which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    tensors: BTreeMap<String, String>,
}

/// The file's form; beside it stands metadata, which says nothing that the files do not say.
#[derive(Deserialize)]
struct Form {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Name of the file.
    pub const FILE: &str = "model.safetensors.index.json";

    /// Reads an index, and checks that it names safetensors files that lie beside it, and nothing else.
    ///
    /// # Errors
    /// Where it cannot be read, is no JSON of the right form, names no tensor, or names a file elsewhere or of another kind.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let wrong = |problem| WeightsError { path: path.to_path_buf(), problem };
        let text = std::fs::read(path).map_err(|source| wrong(Problem::Io(source)))?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &[u8]) -> Result<Self, Problem> {
        let form: Form = serde_json::from_slice(text).map_err(|error| Problem::Index(error.to_string()))?;
        if form.weight_map.is_empty() {
            return Err(Problem::Index("it names no tensor".to_owned()));
        }
        match form.weight_map.values().find(|file| !is_shard(file)) {
            Some(file) => Err(Problem::ShardName(file.clone())),
            None => Ok(Self { tensors: form.weight_map.into_iter().map(|(name, file)| (modern(name), file)).collect() }),
        }
    }

    /// The names of the files, sorted.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.tensors.values().map(String::as_str).collect::<BTreeSet<_>>().into_iter()
    }

    /// The names of the tensors, sorted, each with its file.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tensors.iter().map(|(name, file)| (name.as_str(), file.as_str()))
    }
}

/// Whether a name is that of a safetensors file in the same folder.
fn is_shard(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part.to_str() == Some(name));
    plain && name.ends_with(".safetensors")
}
