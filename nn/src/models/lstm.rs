//! LSTMs that point at answers: the study's four, and one of the BiDAF class (Seo et al. 2017, Clark and Gardner 2018).
//!
//! All read a question and a paragraph by the same bidirectional LSTM, let the paragraph look at the question, read it once more, and
//! give each of its tokens a score. What follows the paragraph, `[SEP]`, has read all of it in the one direction and begins the other: its
//! score is that of no answer, and stands at the window's first token, where post-processing looks for it.

mod flow;
mod fusion;
mod head;
mod words;

use std::path::Path;

use tch::{Kind, Tensor};

use super::{AnyModel, LayerNames, LstmConfig, Model, Network, Reader, SpanLogits, check_ids, save};
use crate::builder::{Builder, Init, LoadReport};
use crate::error::Result;
use crate::forward::Forward;
use crate::layers::{BiLstm, Linear};
use crate::packed::Packed;
use crate::parameters::{Parameters, Placement};
use crate::parity;
use crate::weights::Weights;
use fusion::Fusion;
use head::Head;
use words::Words;

/// The family's line in [`super::MODELS`].
pub(super) const MODEL: Model = Model {
    family: "lstm",
    check: |config| LstmConfig::parse(config).map(|_| ()),
    load: |stored, placement, seed, tuning| {
        let config = LstmConfig::parse(&stored.config)?;
        let builder = LstmForQuestionAnswering::reading(&stored.weights, seed).tuned(stored, tuning, placement);
        let (model, report) = LstmForQuestionAnswering::build(builder, &config, placement)?;
        Ok((AnyModel::Reader(Box::new(model)), report))
    },
    init: |config, placement, seed| {
        let model = LstmForQuestionAnswering::init(&LstmConfig::parse(config)?, placement, seed)?;
        Ok(AnyModel::Reader(Box::new(model)))
    },
    adapted: &[],
    layers: &[LayerNames { prefix: "layers.", fields: &["num_hidden_layers"], shared: None }],
    parity: parity::spans,
};

/// Modules that make the answer.
const HEADS: [&str; 2] = ["start", "end"];

/// An LSTM that points at answers.
#[derive(Debug)]
pub struct LstmForQuestionAnswering {
    config: LstmConfig,
    words: Words,
    encoder: BiLstm,
    fusion: Fusion,
    layers: Vec<BiLstm>,
    head: Head,
    parameters: Parameters,
}

impl LstmForQuestionAnswering {
    /// Name of the words' vectors, f32 `[vocab_size, word_size]`, whether they train or not.
    pub const WORDS: &'static str = words::WORDS;
    /// Name of the table of each word's characters, i32 `[vocab_size, word_length]`, padded with 0.
    pub const CHARACTERS: &'static str = words::CHARACTERS;

    /// Puts weights into a model.
    ///
    /// # Errors
    /// Where the configuration is wrong, or tensors are missing or of another shape; they are named.
    pub fn load(weights: &Weights, config: &LstmConfig, placement: &Placement, seed: u64) -> Result<(Self, LoadReport)> {
        Self::build(Self::reading(weights, seed), config, placement)
    }

    fn reading(weights: &Weights, seed: u64) -> Builder<'_> {
        Builder::from_weights(weights, "", &[], seed).with_heads(&HEADS)
    }

    /// A model at random: maps as Glorot and Bengio 2010 draw them, LSTMs as torch does with the forget gate open.
    ///
    /// # Errors
    /// Where the configuration is wrong.
    pub fn init(config: &LstmConfig, placement: &Placement, seed: u64) -> Result<Self> {
        Ok(Self::build(Builder::random(seed), config, placement)?.0)
    }

    fn build(mut builder: Builder<'_>, config: &LstmConfig, placement: &Placement) -> Result<(Self, LoadReport)> {
        config.check()?;
        let words = Words::new(&mut builder, config)?;
        let encoder = BiLstm::new(&mut builder, "encoder", config.input(), config.hidden_size)?;
        let fusion = Fusion::new(&mut builder, config)?;
        let width = |number| if number == 0 { fusion.width() } else { config.states() };
        let layers = (0..config.num_hidden_layers)
            .map(|number| BiLstm::new(&mut builder, &format!("layers.{number}"), width(number), config.hidden_size))
            .collect::<Result<_>>()?;
        let head = Head::new(&mut builder, config)?;
        let (parameters, report) = builder.finish(placement, &[])?;
        Ok((Self { config: config.clone(), words, encoder, fusion, layers, head, parameters }, report))
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &LstmConfig {
        &self.config
    }

    /// Reads a part of the windows, `[tokens of the part, states]`. `found`: which of its words stand in the other part.
    fn encode(&self, part: &Packed, found: Option<&Tensor>, forward: &Forward) -> Result<Tensor> {
        let words = self.words.forward(&part.ids()?, found, self.parameters.kind(), forward)?;
        self.encoder.forward(&forward.dropout_alike(&words, part, self.config.dropout_rate)?, part, forward)
    }

    /// The paragraph's states in the last layer, `[tokens of the paragraph, states]`.
    fn states(&self, question: &Packed, context: &Packed, forward: &Forward) -> Result<Tensor> {
        let found = if self.config.exact_match { Some(words::exact_matches(question, context)?) } else { None };
        let asked = self.encode(question, found.as_ref().map(|found| &found.0), forward)?;
        let read = self.encode(context, found.as_ref().map(|found| &found.1), forward)?;
        let mut states = self.fusion.forward((&asked, question), (&read, context), forward)?;
        forward.enter(context, &states);
        for layer in &self.layers {
            let next = layer.forward(&forward.dropout_alike(&states, context, self.config.dropout_rate)?, context, forward)?;
            let fits = self.config.residual && next.size() == states.size();
            states = if fits { next.f_add(&states)? } else { next };
            forward.leave(&states);
        }
        Ok(states)
    }
}

impl Network for LstmForQuestionAnswering {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn max_tokens(&self) -> Option<i64> {
        None
    }

    fn vocabulary(&self) -> i64 {
        self.config.vocab_size
    }

    fn save_pruned(&self, folder: &Path, values: Kind) -> Result<()> {
        save(folder, &self.config, &self.parameters, values)
    }
}

impl Reader for LstmForQuestionAnswering {
    fn forward(&self, packed: &Packed, forward: &mut Forward) -> Result<SpanLogits> {
        check_ids(packed.max_id(), self.config.vocab_size)?;
        let _guard = forward.guard();
        forward.begin(self.parameters.device())?;
        let [question, context] = packed.apart()?;
        let states = self.states(&question.packed, &context.packed, forward)?;
        self.head.forward(&states, packed, &context, forward)
    }

    fn flops(&self, lengths: &[i64]) -> f64 {
        self.config.flops(lengths)
    }

    fn reads_apart(&self) -> bool {
        true
    }
}

/// A map that begins as Glorot and Bengio 2010 draw it, with a bias.
fn dense(builder: &mut Builder<'_>, prefix: &str, inputs: i64, outputs: i64) -> Result<Linear> {
    Linear::drawn(builder, prefix, (inputs, outputs), glorot(inputs, outputs), true)
}

#[allow(clippy::cast_precision_loss)]
fn glorot(inputs: i64, outputs: i64) -> Init {
    Init::Uniform((6.0 / (inputs + outputs) as f64).sqrt())
}
