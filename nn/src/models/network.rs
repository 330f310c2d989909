//! What a model is to the rest: something that reads and points, or something that reads and writes.

use std::path::Path;

use tch::{Kind, Tensor};

use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::loss::log_probabilities;
use crate::packed::Packed;
use crate::pairs::{Form, Pairs};
use crate::parameters::Parameters;

/// What every model has.
pub trait Network: Send {
    /// Its parameters.
    fn parameters(&self) -> &Parameters;

    /// Its parameters, to train them.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// The longest sequence that it takes, where there is a limit.
    fn max_tokens(&self) -> Option<i64>;

    /// How many token ids it knows.
    fn vocabulary(&self) -> i64;

    /// Writes `config.json` and `model.safetensors` into a folder, as Hugging Face's libraries read them.
    ///
    /// # Errors
    /// Where a file cannot be written.
    fn save(&self, folder: &Path) -> Result<()> {
        self.save_pruned(folder, Kind::Float)
    }

    /// The same, the weights that stay in matrices with masks in a kind of floating-point number.
    ///
    /// # Errors
    /// Where a file cannot be written.
    fn save_pruned(&self, folder: &Path, values: Kind) -> Result<()>;
}

/// Where an answer begins and ends, as a model sees it: one logit a token, f32 `[tokens]`, packed.
#[derive(Debug)]
pub struct SpanLogits {
    /// For the first token of the answer.
    pub start: Tensor,
    /// For the last token of the answer.
    pub end: Tensor,
}

/// A model that reads a question with its context and points at the answer.
pub trait Reader: Network {
    /// Logits for packed input on the model's device.
    ///
    /// # Errors
    /// Where a token id, a segment or a length is beyond what the model knows, and what libtorch reports.
    fn forward(&self, packed: &Packed, forward: &mut Forward) -> Result<SpanLogits>;

    /// Floating-point operations of a forward pass over sequences of these lengths: a multiplication and an addition are two.
    fn flops(&self, lengths: &[i64]) -> f64;

    /// Whether it reads questions and paragraphs apart: a batch that was taken apart on the host ([`Packed::take_apart`]) spares the
    /// device a wait.
    fn reads_apart(&self) -> bool {
        false
    }
}

/// A model that reads a text and writes another: an encoder with a decoder, or a language model that goes on with a prompt.
pub trait Writer: Network {
    /// How its sources and targets are laid out.
    fn form(&self) -> Form;

    /// Logits for each target token, given its source and the target tokens before it: f32 `[target tokens, vocabulary]`, with their
    /// gradient in training.
    ///
    /// # Errors
    /// Where a token id or a length is beyond what the model knows, and what libtorch reports.
    fn logits(&self, pairs: &Pairs, forward: &mut Forward) -> Result<Tensor>;

    /// The log-probability of each target token: f32 `[target tokens]`, with its gradient in training.
    ///
    /// # Errors
    /// As [`Writer::logits`].
    fn forward(&self, pairs: &Pairs, forward: &mut Forward) -> Result<Tensor> {
        let _guard = forward.guard();
        log_probabilities(&self.logits(pairs, forward)?, &pairs.targets()?)
    }

    /// Reads sources, on the model's device, and begins to write.  `most` is how many tokens may come.
    ///
    /// # Errors
    /// As [`Writer::forward`].
    fn start(&self, sources: &Packed, most: i64) -> Result<Box<dyn Decoding + '_>>;

    /// Floating-point operations of reading a source and writing a target of so many tokens.
    fn flops(&self, source: i64, target: i64) -> f64;
}

/// A batch of texts under way: what a [`Writer`] remembers between two tokens.
pub trait Decoding {
    /// Logits of the next token, f32 `[rows, vocabulary]`. `last`, i64 `[rows]`, are the tokens that were chosen after the call before;
    /// none at first.
    ///
    /// # Errors
    /// What libtorch reports.
    fn next(&mut self, last: Option<&Tensor>) -> Result<Tensor>;

    /// The same batch once more, as far as it is: what is written to one of the two leaves the other as it is.
    ///
    /// # Errors
    /// Where there is no memory for it.
    fn fork(&self) -> Result<Box<dyn Decoding + '_>>;
}

/// A model of either sort.
pub enum AnyModel {
    /// One that points.
    Reader(Box<dyn Reader>),
    /// One that writes.
    Writer(Box<dyn Writer>),
}

impl AnyModel {
    /// What it has in common with the others.
    #[must_use]
    pub fn network(&self) -> &dyn Network {
        match self {
            Self::Reader(model) => &**model,
            Self::Writer(model) => &**model,
        }
    }

    /// The same, to change it.
    pub fn network_mut(&mut self) -> &mut dyn Network {
        match self {
            Self::Reader(model) => &mut **model,
            Self::Writer(model) => &mut **model,
        }
    }

    /// The model as one that points at answers.
    ///
    /// # Errors
    /// Where it writes them.
    pub fn into_reader(self) -> Result<Box<dyn Reader>> {
        match self {
            Self::Reader(model) => Ok(model),
            Self::Writer(_) => Err(NnError::Input("the model writes answers, it does not point at them".into())),
        }
    }

    /// The model as one that writes answers.
    ///
    /// # Errors
    /// Where it points at them.
    pub fn into_writer(self) -> Result<Box<dyn Writer>> {
        match self {
            Self::Writer(model) => Ok(model),
            Self::Reader(_) => Err(NnError::Input("the model points at answers, it does not write them".into())),
        }
    }
}
