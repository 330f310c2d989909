//! What a model takes: windows to point into, or texts to answer.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::examples::read_json;

/// A model's configuration.
pub const CONFIG: &str = "config.json";

/// How questions reach a model, and how answers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Windows of tokens in which the model points at the answer: BERT, LSTM.
    Spans,
    /// A text in, the answer out: T5.
    Seq2Seq,
    /// A text that the answer goes on with: Mamba.
    Causal,
}

impl Form {
    /// The form of a model's folder, by its `config.json`; spans where that is missing or of a family that is not known here.
    ///
    /// # Errors
    /// Where the file is broken.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(CONFIG);
        if !path.is_file() {
            return Ok(Self::Spans);
        }
        let config: Value = read_json(&path)?;
        Ok(match config.get("model_type").and_then(Value::as_str) {
            Some("t5") => Self::Seq2Seq,
            Some("mamba") => Self::Causal,
            // The authors' own form of Mamba's configuration names no family.
            None if ["d_model", "n_layer"].iter().all(|field| config.get(field).is_some()) => Self::Causal,
            _ => Self::Spans,
        })
    }

    /// The template that is usual for it.
    #[must_use]
    pub fn template(self) -> &'static str {
        match self {
            Self::Causal => "{context}\n\nQ: {question}\nA:",
            _ => "question: {question} context: {context}",
        }
    }

    /// What it writes, usually, where there is no answer: nothing, or as much as a text can say of it.
    #[must_use]
    pub fn no_answer(self) -> &'static str {
        if self == Self::Causal { "I don't know." } else { "" }
    }
}

/// The id of the token that ends a text, as a model's configuration states it.
///
/// # Errors
/// Where the file is broken.
pub fn end_id(folder: &Path) -> Result<Option<u32>, Error> {
    let path = folder.join(CONFIG);
    if !path.is_file() {
        return Ok(None);
    }
    let config: Value = read_json(&path)?;
    let stated = config.get("eos_token_id").map(|id| id.get(0).unwrap_or(id));
    Ok(stated.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()))
}
