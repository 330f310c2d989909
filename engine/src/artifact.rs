//! What stages hand to one another.

use std::fmt;

/// The type of an artifact: what may be wired to what. Two artifacts of one type have one layout on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactType(pub &'static str);

impl ArtifactType {
    /// A plain file or folder, as `command` writes it.
    pub const FILE: Self = Self("file");
    /// Questions, contexts and answers: a folder with `train.arrow` and/or `dev.arrow`.
    pub const EXAMPLES: Self = Self("examples");
    /// Tokenized windows: a folder with `train.arrow`, `dev.arrow` and the examples they come from.
    pub const FEATURES: Self = Self("features");
    /// A model in the Hugging Face layout: a folder with `config.json`, `model.safetensors`, `tokenizer.json`.
    pub const MODEL: Self = Self("model");
    /// One answer a question: a Parquet file.
    pub const PREDICTIONS: Self = Self("predictions");
    /// One row an evaluation: a Parquet file.
    pub const METRICS: Self = Self("metrics");
    /// One row a logged training step: a Parquet file.
    pub const TRAINING_LOG: Self = Self("training-log");

    /// Whether it is a small table that reports read, which is wanted here whatever else is not.
    #[must_use]
    pub fn is_table(self) -> bool {
        matches!(self, Self::PREDICTIONS | Self::METRICS | Self::TRAINING_LOG)
    }

    /// The type in a sentence, with its article: `a features table`.
    pub fn noun(self) -> String {
        match self {
            Self::FILE => "a plain file or folder".to_owned(),
            Self::EXAMPLES => "an examples table".to_owned(),
            Self::FEATURES => "a features table".to_owned(),
            Self::PREDICTIONS => "a predictions table".to_owned(),
            Self::METRICS => "a metrics table".to_owned(),
            Self::TRAINING_LOG => "a training log".to_owned(),
            Self(name) => format!("a {name}"),
        }
    }
}

impl fmt::Display for ArtifactType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// One output that a stage declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// Name, as in `@stage.name`. The first output of a stage is what `@stage` alone means.
    pub name: String,
    /// What it is.
    pub artifact: ArtifactType,
    /// Where in the pipeline's folder it is put as well, if anywhere.
    pub place: Option<std::path::PathBuf>,
}

impl OutputSpec {
    /// An output that lives in the store alone.
    pub fn new(name: &str, artifact: ArtifactType) -> Self {
        Self { name: name.to_owned(), artifact, place: None }
    }
}
