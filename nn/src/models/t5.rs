//! T5: text to text (Raffel et al. 2020, arXiv 1910.10683), version 1.0 and 1.1.

mod decoding;
mod stack;

use std::path::Path;

use tch::{Kind, Tensor};

use super::{AnyModel, Decoding, LayerNames, Model, Network, T5Config, Writer, check_ids, save};
use crate::builder::{Builder, Init, LoadReport};
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::layers::{Embedding, Linear};
use crate::packed::Packed;
use crate::pairs::{Form, Pairs};
use crate::parameters::{Parameters, Placement};
use crate::parity;
use crate::weights::Weights;
use decoding::T5Decoding;
use stack::{Source, Stack};

/// The family's line in [`super::MODELS`].
pub(super) const MODEL: Model = Model {
    family: "t5",
    check: |config| T5Config::parse(config).map(|_| ()),
    load: |stored, placement, seed, tuning| {
        let config = T5Config::parse(&stored.config)?;
        let builder = T5ForConditionalGeneration::reading(&stored.weights, seed).tuned(stored, tuning, placement);
        let (model, report) = T5ForConditionalGeneration::build(builder, &config, placement)?;
        Ok((AnyModel::Writer(Box::new(model)), report))
    },
    init: |config, placement, seed| {
        let model = T5ForConditionalGeneration::init(&T5Config::parse(config)?, placement, seed)?;
        Ok(AnyModel::Writer(Box::new(model)))
    },
    adapted: &["q", "v"],
    layers: &[
        LayerNames { prefix: "encoder.block.", fields: &["num_layers"], shared: POSITIONS },
        LayerNames { prefix: "decoder.block.", fields: &["num_decoder_layers"], shared: POSITIONS },
    ],
    parity: parity::t5,
};

/// What a file may have besides: other names for the embedding, and a bias that older versions wrote and never read.
const IGNORED: [&str; 3] =
    ["encoder.embed_tokens.", "decoder.embed_tokens.", "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias."];

/// What all layers of a stack use and the first one holds.
const POSITIONS: Option<&str> = Some("relative_attention_bias");

/// Modules that make the answer.
const HEADS: [&str; 1] = ["lm_head"];

/// T5 with a head that writes.
#[derive(Debug)]
pub struct T5ForConditionalGeneration {
    config: T5Config,
    shared: Embedding,
    encoder: Stack,
    decoder: Stack,
    /// The head, where it has weights of its own (version 1.1).
    head: Option<Linear>,
    parameters: Parameters,
}

impl T5ForConditionalGeneration {
    /// Puts weights into a model.
    ///
    /// # Errors
    /// Where the configuration is wrong, or tensors are missing or of another shape; they are named.
    pub fn load(weights: &Weights, config: &T5Config, placement: &Placement, seed: u64) -> Result<(Self, LoadReport)> {
        Self::build(Self::reading(weights, seed), config, placement)
    }

    fn reading(weights: &Weights, seed: u64) -> Builder<'_> {
        Builder::from_weights(weights, "", &[], seed).with_heads(&HEADS)
    }

    /// A model at random, spread as the published ones were (`initializer_factor`).
    ///
    /// # Errors
    /// Where the configuration is wrong.
    pub fn init(config: &T5Config, placement: &Placement, seed: u64) -> Result<Self> {
        Ok(Self::build(Builder::random(seed), config, placement)?.0)
    }

    fn build(mut builder: Builder<'_>, config: &T5Config, placement: &Placement) -> Result<(Self, LoadReport)> {
        config.check()?;
        let (vocabulary, width, factor) = (config.vocab_size, config.d_model, config.initializer_factor);
        let shared = Embedding::new(&mut builder, "shared", (vocabulary, width), factor, None)?;
        let mut encoder = Stack::new(&mut builder, config, false)?;
        let mut decoder = Stack::new(&mut builder, config, true)?;
        let mut ignored = IGNORED.to_vec();
        let head = if config.tie_word_embeddings {
            ignored.push("lm_head.");
            None
        } else {
            Some(Linear::without_bias(&mut builder, &["lm_head".to_owned()], width, vocabulary, &[Init::Normal(factor)])?)
        };
        let (parameters, report) = builder.finish(placement, &ignored)?;
        encoder.positions.settle(parameters.device())?;
        decoder.positions.settle(parameters.device())?;
        Ok((Self { config: config.clone(), shared, encoder, decoder, head, parameters }, report))
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Logits of the next token after each token of `output`, f32 `[output tokens, vocabulary]`.
    ///
    /// # Errors
    /// Where a token id is beyond the vocabulary, and what libtorch reports.
    pub fn forward_logits(&self, input: &Packed, output: &Packed, forward: &mut Forward) -> Result<Tensor> {
        check_ids(input.max_id(), self.config.vocab_size)?;
        check_ids(output.max_id(), self.config.vocab_size)?;
        let _guard = forward.guard();
        forward.begin(self.parameters.device())?;
        let states = self.encode(input, forward)?;
        let source = Source { states: &states, packed: input };
        let states = self.decoder.forward(&self.shared.forward(&output.ids()?)?, output, Some(&source), forward)?;
        self.of_states(&states, forward)
    }

    /// The encoder's states, `[tokens, d_model]`.
    fn encode(&self, packed: &Packed, forward: &Forward) -> Result<Tensor> {
        self.encoder.forward(&self.shared.forward(&packed.ids()?)?, packed, None, forward)
    }

    /// Logits f32 of the decoder's states; version 1.0 scales the states down, for its head is its embedding.
    fn of_states(&self, states: &Tensor, forward: &Forward) -> Result<Tensor> {
        let logits = match &self.head {
            Some(head) => head.forward(states, forward)?,
            None => {
                #[allow(clippy::cast_precision_loss)]
                let scale = (self.config.d_model as f64).powf(-0.5);
                self.shared.scores(&states.f_mul_scalar(scale)?)?
            }
        };
        Ok(logits.f_to_kind(Kind::Float)?)
    }
}

impl Network for T5ForConditionalGeneration {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// None: positions are relative, and beyond some distance all alike.
    fn max_tokens(&self) -> Option<i64> {
        None
    }

    fn vocabulary(&self) -> i64 {
        self.config.vocab_size
    }

    fn save_pruned(&self, folder: &Path, values: Kind) -> Result<()> {
        let config = T5Config {
            architectures: vec!["T5ForConditionalGeneration".into()],
            decoder_start_token_id: Some(self.config.start()),
            num_decoder_layers: Some(self.config.decoder_layers()),
            ..self.config.clone()
        };
        save(folder, &config, &self.parameters, values)
    }
}

impl Writer for T5ForConditionalGeneration {
    fn form(&self) -> Form {
        Form::Seq2Seq { start: u32::try_from(self.config.start()).unwrap_or(0) }
    }

    fn logits(&self, pairs: &Pairs, forward: &mut Forward) -> Result<Tensor> {
        let missing = || NnError::Input("the batch has no targets for a decoder: it was laid out for a language model".into());
        self.forward_logits(&pairs.input, pairs.output.as_ref().ok_or_else(missing)?, forward)
    }

    fn start(&self, sources: &Packed, most: i64) -> Result<Box<dyn Decoding + '_>> {
        check_ids(sources.max_id(), self.config.vocab_size)?;
        let _guard = tch::no_grad_guard();
        let states = self.encode(sources, &Forward::inference())?;
        Ok(Box::new(T5Decoding::new(self, &states, sources, most)?))
    }

    fn flops(&self, source: i64, target: i64) -> f64 {
        self.config.flops(source, target)
    }
}
