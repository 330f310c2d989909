//! BERT with a head for question answering (Devlin et al. 2019, arXiv 1810.04805).

mod head;

use std::path::Path;

use tch::{Kind, Tensor};

use super::{AnyModel, BertConfig, LayerNames, Model, Network, Reader, SpanLogits, save};
use crate::builder::{Builder, LoadReport};
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::layers::{Activation, Embedding, Heads, LayerNorm, Linear, Look, attention};
use crate::packed::Packed;
use crate::parameters::{Parameters, Placement};
use crate::parity;
use crate::weights::Weights;
use head::Head;
pub use head::write_word_head;

/// The family's line in [`super::MODELS`].
pub(super) const MODEL: Model = Model {
    family: "bert",
    check: |config| BertConfig::parse(config).map(|_| ()),
    load: |stored, placement, seed, tuning| {
        let config = BertConfig::parse(&stored.config)?;
        let builder = BertForQuestionAnswering::reading(&stored.weights, seed).tuned(stored, tuning, placement);
        let (model, report) = BertForQuestionAnswering::build(builder, &config, placement)?;
        Ok((AnyModel::Reader(Box::new(model)), report))
    },
    init: |config, placement, seed| {
        let model = BertForQuestionAnswering::init(&BertConfig::parse(config)?, placement, seed)?;
        Ok(AnyModel::Reader(Box::new(model)))
    },
    adapted: &["query", "value"],
    layers: &[LayerNames { prefix: "bert.encoder.layer.", fields: &["num_hidden_layers"], shared: None }],
    parity: parity::spans,
};

/// What names begin with in a file, or not.
const PREFIX: &str = "bert.";
/// What a file may lack: the head, in a model that was only pretrained.
const OPTIONAL: [&str; 1] = ["qa_outputs."];
/// What a file may have besides, without the prefix: parts that pretraining used, and a constant.
const IGNORED: [&str; 3] = ["pooler.", "cls.", "embeddings.position_ids"];

/// BERT that points at answers.
#[derive(Debug)]
pub struct BertForQuestionAnswering {
    config: BertConfig,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    head: Head,
    parameters: Parameters,
}

impl BertForQuestionAnswering {
    /// Puts weights into a model. Names may lack `bert.`; a missing head is drawn by `seed`, and reported.
    ///
    /// # Errors
    /// Where the configuration is wrong, or tensors are missing or of another shape; they are named.
    pub fn load(weights: &Weights, config: &BertConfig, placement: &Placement, seed: u64) -> Result<(Self, LoadReport)> {
        Self::build(Self::reading(weights, seed), config, placement)
    }

    fn reading(weights: &Weights, seed: u64) -> Builder<'_> {
        Builder::from_weights(weights, PREFIX, &OPTIONAL, seed).with_heads(&head::MODULES)
    }

    /// A model at random: weights from N(0, `initializer_range`), biases zero.
    ///
    /// # Errors
    /// Where the configuration is wrong.
    pub fn init(config: &BertConfig, placement: &Placement, seed: u64) -> Result<Self> {
        Ok(Self::build(Builder::random(seed), config, placement)?.0)
    }

    fn build(mut builder: Builder<'_>, config: &BertConfig, placement: &Placement) -> Result<(Self, LoadReport)> {
        config.check()?;
        let embeddings = Embeddings::new(&mut builder, config)?;
        let layers = (0..config.num_hidden_layers).map(|number| Layer::new(&mut builder, config, number)).collect::<Result<_>>()?;
        let head = Head::new(&mut builder, config)?;
        let (parameters, report) = builder.finish(placement, &IGNORED)?;
        Ok((Self { config: config.clone(), embeddings, layers, head, parameters }, report))
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// States of the last layer, `[tokens, hidden]`.
    fn states(&self, packed: &Packed, forward: &Forward) -> Result<Tensor> {
        let mut states = self.embeddings.forward(packed, forward)?;
        forward.enter(packed, &states);
        for layer in &self.layers {
            states = layer.forward(&states, packed, forward)?;
            forward.leave(&states);
        }
        Ok(states)
    }

    /// Refuses input beyond what the model knows: on CUDA, an index out of range would take the device down.
    fn check(&self, packed: &Packed) -> Result<()> {
        let limits = [
            ("token id", packed.max_id(), "vocab_size", self.config.vocab_size, "the tokenizer is another model's"),
            ("position", packed.max_len() - 1, "max_position_embeddings", self.config.max_position_embeddings, "use a smaller max_length"),
            ("segment", packed.max_segment(), "type_vocab_size", self.config.type_vocab_size, "the model knows fewer segments"),
        ];
        match limits.into_iter().find(|&(_, found, _, limit, _)| found >= limit) {
            Some((what, found, field, limit, hint)) => Err(NnError::Input(format!("{what} {found} is not below {field} {limit}: {hint}"))),
            None => Ok(()),
        }
    }
}

impl Network for BertForQuestionAnswering {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn max_tokens(&self) -> Option<i64> {
        Some(self.config.max_position_embeddings)
    }

    fn vocabulary(&self) -> i64 {
        self.config.vocab_size
    }

    fn save_pruned(&self, folder: &Path, values: Kind) -> Result<()> {
        let config = BertConfig { architectures: vec!["BertForQuestionAnswering".into()], ..self.config.clone() };
        save(folder, &config, &self.parameters, values)
    }
}

impl Reader for BertForQuestionAnswering {
    fn forward(&self, packed: &Packed, forward: &mut Forward) -> Result<SpanLogits> {
        self.check(packed)?;
        let _guard = forward.guard();
        forward.begin(self.parameters.device())?;
        let logits = self.head.forward(&self.states(packed, forward)?, forward)?;
        Ok(SpanLogits { start: logits.f_select(1, 0)?, end: logits.f_select(1, 1)? })
    }

    fn flops(&self, lengths: &[i64]) -> f64 {
        self.config.flops(lengths)
    }
}

/// Token, position and segment, added up and normalised.
#[derive(Debug)]
struct Embeddings {
    word: Embedding,
    position: Embedding,
    segment: Embedding,
    norm: LayerNorm,
    dropout: f64,
}

impl Embeddings {
    fn new(builder: &mut Builder<'_>, config: &BertConfig) -> Result<Self> {
        let mut table = |name: &str, rows, padding| {
            let prefix = format!("bert.embeddings.{name}_embeddings");
            Embedding::new(builder, &prefix, (rows, config.hidden_size), config.initializer_range, padding)
        };
        let word = table("word", config.vocab_size, config.pad_token_id)?;
        let position = table("position", config.max_position_embeddings, None)?;
        let segment = table("token_type", config.type_vocab_size, None)?;
        let norm = LayerNorm::new(builder, "bert.embeddings.LayerNorm", config.hidden_size, config.layer_norm_eps)?;
        Ok(Self { word, position, segment, norm, dropout: config.hidden_dropout_prob })
    }

    fn forward(&self, packed: &Packed, forward: &Forward) -> Result<Tensor> {
        let word = self.word.forward(&packed.ids()?)?;
        let segment = self.segment.forward(&packed.segments()?)?;
        let position = self.position.forward(&packed.positions()?)?;
        let sum = word.f_add(&segment)?.f_add(&position)?;
        forward.dropout(self.norm.forward(&sum)?, self.dropout)
    }
}

/// Attention and a feed-forward part, each with a residual and a norm after it.
#[derive(Debug)]
struct Layer {
    /// Query, key and value in one.
    projections: Linear,
    mixed: Linear,
    mixed_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
    outer_norm: LayerNorm,
    activation: Activation,
    heads: i64,
    dropout: f64,
    attention_dropout: f64,
}

impl Layer {
    fn new(builder: &mut Builder<'_>, config: &BertConfig, number: i64) -> Result<Self> {
        let name = |rest: &str| format!("bert.encoder.layer.{number}.{rest}");
        let (hidden, inner, deviation) = (config.hidden_size, config.intermediate_size, config.initializer_range);
        let projections = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        let projections = Linear::stacked(builder, &projections, hidden, hidden, deviation)?;
        let mixed = Linear::new(builder, &name("attention.output.dense"), hidden, hidden, deviation)?;
        let mixed_norm = LayerNorm::new(builder, &name("attention.output.LayerNorm"), hidden, config.layer_norm_eps)?;
        let widened = Linear::new(builder, &name("intermediate.dense"), hidden, inner, deviation)?;
        let outer = Linear::new(builder, &name("output.dense"), inner, hidden, deviation)?;
        let outer_norm = LayerNorm::new(builder, &name("output.LayerNorm"), hidden, config.layer_norm_eps)?;
        let unknown = || NnError::Config { field: "hidden_act", message: format!("{:?} is not known", config.hidden_act) };
        Ok(Self {
            projections,
            mixed,
            mixed_norm,
            inner: widened,
            outer,
            outer_norm,
            activation: Activation::named(&config.hidden_act).ok_or_else(unknown)?,
            heads: config.num_attention_heads,
            dropout: config.hidden_dropout_prob,
            attention_dropout: config.attention_probs_dropout_prob,
        })
    }

    fn forward(&self, states: &Tensor, packed: &Packed, forward: &Forward) -> Result<Tensor> {
        let (heads, look) = (self.split(states, forward)?, Look::within(packed, self.attention_dropout));
        forward.look(&heads, &look);
        let seen = attention(&heads, &look, forward)?;
        let mixed = forward.dropout(self.mixed.forward(&seen, forward)?, self.dropout)?;
        let states = self.mixed_norm.forward(&mixed.f_add(states)?)?;
        let inner = self.activation.apply(&self.inner.forward(&states, forward)?)?;
        let outer = forward.dropout(self.outer.forward(&inner, forward)?, self.dropout)?;
        self.outer_norm.forward(&outer.f_add(&states)?)
    }

    /// Queries, keys and values of all heads: views of one product, whose gradient is one copy.
    fn split(&self, states: &Tensor, forward: &Forward) -> Result<Heads> {
        let size = states.size()[1] / self.heads;
        let mut parts = self.projections.forward(states, forward)?.f_view([-1, 3, self.heads, size])?.f_unbind(1)?.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(query), Some(key), Some(value)) => Ok(Heads { query, key, value }),
            _ => Err(NnError::torch("a product of three projections has no three parts")),
        }
    }
}
