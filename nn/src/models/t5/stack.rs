//! T5's two stacks of blocks.

use tch::{Kind, Tensor};

use crate::builder::{Builder, Init};
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::layers::{Activation, Bias, Buckets, Heads, Linear, Look, RelativeBias, RmsNorm, Stream, attention};
use crate::models::T5Config;
use crate::packed::Packed;

/// The encoder, or the decoder: blocks over a residual stream in f32, and a norm.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) blocks: Vec<Block>,
    pub(super) positions: RelativeBias,
    norm: RmsNorm,
    is_decoder: bool,
    dropout: f64,
}

impl Stack {
    pub(super) fn new(builder: &mut Builder<'_>, config: &T5Config, is_decoder: bool) -> Result<Self> {
        let (name, layers) = if is_decoder { ("decoder", config.decoder_layers()) } else { ("encoder", config.num_layers) };
        let buckets = Buckets {
            count: config.relative_attention_num_buckets,
            max_distance: config.relative_attention_max_distance,
            bidirectional: !is_decoder,
        };
        let prefix = format!("{name}.block.0.layer.0.SelfAttention.relative_attention_bias");
        let blocks =
            (0..layers).map(|number| Block::new(builder, config, &format!("{name}.block.{number}"), is_decoder)).collect::<Result<_>>()?;
        let positions = RelativeBias::new(builder, &prefix, buckets, config.num_heads, deviation(config, config.d_model))?;
        let norm = RmsNorm::new(builder, &format!("{name}.final_layer_norm"), config.d_model, config.layer_norm_epsilon)?;
        Ok(Self { blocks, positions, norm, is_decoder, dropout: config.dropout_rate })
    }

    /// States `[tokens, d_model]` of embeddings `[tokens, d_model]`; a decoder's look at the encoder's too.
    pub(super) fn forward(&self, embedded: &Tensor, packed: &Packed, source: Option<&Source<'_>>, forward: &Forward) -> Result<Tensor> {
        let bias = Bias::new(self.bias(0, packed.width(), packed.width())?, packed)?;
        let mut states = forward.dropout(embedded.f_to_kind(Kind::Float)?, self.dropout)?;
        forward.enter(packed, &states);
        for block in &self.blocks {
            states = block.forward(&states, packed, &bias, source, forward)?;
            forward.leave(&states);
        }
        self.finish(&states, embedded.kind(), forward)
    }

    /// The last norm; gives states of a kind.
    fn finish(&self, states: &Tensor, kind: Kind, forward: &Forward) -> Result<Tensor> {
        forward.dropout(self.norm.forward(states, kind)?, self.dropout)
    }

    /// The last norm of a text that is being written; gives states of a kind.
    pub(super) fn end(&self, stream: &mut Stream, kind: Kind) -> Result<Tensor> {
        self.norm.settle(stream, kind)
    }

    /// What is added to the scores that `rows` tokens from the token `first` on give to those of a text as wide as this,
    /// `[1, heads, rows, width]`: where tokens stand to each other, and for a decoder that none sees what comes later.
    pub(super) fn bias(&self, first: i64, rows: i64, width: i64) -> Result<Tensor> {
        let table = self.positions.table(first, rows, width)?;
        if !self.is_decoder {
            return Ok(table);
        }
        let later = Tensor::f_ones([rows, width], (Kind::Bool, table.device()))?.f_triu(1 + first)?;
        Ok(table.f_masked_fill(&later, f64::NEG_INFINITY)?)
    }
}

/// What a decoder reads: the encoder's states, packed as they are.
pub(super) struct Source<'a> {
    pub(super) states: &'a Tensor,
    pub(super) packed: &'a Packed,
}

/// Attention within the text, attention to the source (in a decoder), and a feed-forward part, each with a norm before it and a residual.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) own: OwnAttention,
    pub(super) cross: Option<CrossAttention>,
    pub(super) feed: FeedForward,
    dropout: f64,
}

impl Block {
    fn new(builder: &mut Builder<'_>, config: &T5Config, prefix: &str, is_decoder: bool) -> Result<Self> {
        let own = OwnAttention::new(builder, config, &format!("{prefix}.layer.0"))?;
        let cross = if is_decoder { Some(CrossAttention::new(builder, config, &format!("{prefix}.layer.1"))?) } else { None };
        let feed = FeedForward::new(builder, config, &format!("{prefix}.layer.{}", if is_decoder { 2 } else { 1 }))?;
        Ok(Self { own, cross, feed, dropout: config.dropout_rate })
    }

    fn forward(&self, states: &Tensor, packed: &Packed, bias: &Bias, source: Option<&Source<'_>>, forward: &Forward) -> Result<Tensor> {
        let add = |states: &Tensor, more: Tensor| Ok::<_, NnError>(states.f_add(&forward.dropout(more, self.dropout)?)?);
        let look = Look { queries: packed, keys: packed, bias: Some(bias), scale: Some(1.0), dropout: self.dropout };
        let heads = self.own.heads(states, forward)?;
        if self.cross.is_none() {
            forward.look(&heads, &look);
        }
        let mut states = add(states, self.own.out.forward(&attention(&heads, &look, forward)?, forward)?)?;
        if let (Some(cross), Some(source)) = (&self.cross, source) {
            let (key, value) = cross.memory(source.states, forward)?;
            let heads = Heads { query: cross.query(&states, forward)?, key, value };
            let look = Look { queries: packed, keys: source.packed, bias: None, scale: Some(1.0), dropout: self.dropout };
            states = add(&states, cross.out.forward(&attention(&heads, &look, forward)?, forward)?)?;
        }
        add(&states, self.feed.forward(&states, forward)?)
    }
}

/// Attention of a text to itself.
#[derive(Debug)]
pub(super) struct OwnAttention {
    norm: RmsNorm,
    /// Query, key and value in one.
    projections: Linear,
    pub(super) out: Linear,
    heads: i64,
}

impl OwnAttention {
    fn new(builder: &mut Builder<'_>, config: &T5Config, prefix: &str) -> Result<Self> {
        let (width, inner) = (config.d_model, config.inner());
        let names = ["q", "k", "v"].map(|part| format!("{prefix}.SelfAttention.{part}"));
        let inits = [query_init(config), memory_init(config), memory_init(config)];
        Ok(Self {
            norm: RmsNorm::new(builder, &format!("{prefix}.layer_norm"), width, config.layer_norm_epsilon)?,
            projections: Linear::without_bias(builder, &names, width, inner, &inits)?,
            out: Linear::without_bias(builder, &[format!("{prefix}.SelfAttention.o")], inner, width, &[out_init(config)])?,
            heads: config.num_heads,
        })
    }

    /// Queries, keys and values of normed states, `[tokens, 3, heads, d_kv]`.
    fn product(&self, normed: &Tensor, forward: &Forward) -> Result<Tensor> {
        let product = self.projections.forward(normed, forward)?;
        Ok(product.f_view([product.size()[0], 3, self.heads, -1])?)
    }

    /// The same apart: views of one product, whose gradient is one copy.
    fn heads(&self, states: &Tensor, forward: &Forward) -> Result<Heads> {
        match self.product(&self.norm.forward(states, self.projections.kind())?, forward)?.f_unbind(1)?.as_slice() {
            [query, key, value] => Ok(Heads { query: query.shallow_clone(), key: key.shallow_clone(), value: value.shallow_clone() }),
            _ => Err(NnError::torch("a product of three projections has no three parts")),
        }
    }

    /// Queries, keys and values of a text that is being written, `[rows, 3, heads, d_kv]`.
    pub(super) fn next(&self, stream: &mut Stream) -> Result<Tensor> {
        self.product(&self.norm.settle(stream, self.projections.kind())?, &Forward::inference())
    }
}

/// Attention of a target to its source.
#[derive(Debug)]
pub(super) struct CrossAttention {
    norm: RmsNorm,
    query: Linear,
    /// Key and value in one.
    memory: Linear,
    pub(super) out: Linear,
    heads: i64,
}

impl CrossAttention {
    fn new(builder: &mut Builder<'_>, config: &T5Config, prefix: &str) -> Result<Self> {
        let (width, inner) = (config.d_model, config.inner());
        let name = |part: &str| format!("{prefix}.EncDecAttention.{part}");
        Ok(Self {
            norm: RmsNorm::new(builder, &format!("{prefix}.layer_norm"), width, config.layer_norm_epsilon)?,
            query: Linear::without_bias(builder, &[name("q")], width, inner, &[query_init(config)])?,
            memory: Linear::without_bias(builder, &[name("k"), name("v")], width, inner, &[memory_init(config)])?,
            out: Linear::without_bias(builder, &[name("o")], inner, width, &[out_init(config)])?,
            heads: config.num_heads,
        })
    }

    /// Queries of residual states, `[tokens, heads, d_kv]`.
    fn query(&self, states: &Tensor, forward: &Forward) -> Result<Tensor> {
        self.of_normed(&self.norm.forward(states, self.query.kind())?, forward)
    }

    /// Queries of a text that is being written, `[rows, heads, d_kv]`.
    pub(super) fn next(&self, stream: &mut Stream) -> Result<Tensor> {
        self.of_normed(&self.norm.settle(stream, self.query.kind())?, &Forward::inference())
    }

    fn of_normed(&self, normed: &Tensor, forward: &Forward) -> Result<Tensor> {
        let product = self.query.forward(normed, forward)?;
        Ok(product.f_view([product.size()[0], self.heads, -1])?)
    }

    /// Keys and values of the encoder's states, each `[source tokens, heads, d_kv]`.
    pub(super) fn memory(&self, source: &Tensor, forward: &Forward) -> Result<(Tensor, Tensor)> {
        let product = self.memory.forward(source, forward)?;
        match product.f_view([product.size()[0], 2, self.heads, -1])?.f_unbind(1)?.as_slice() {
            [key, value] => Ok((key.shallow_clone(), value.shallow_clone())),
            _ => Err(NnError::torch("a product of two projections has no two parts")),
        }
    }
}

/// The feed-forward part, with or without a gate (Shazeer 2020, arXiv 2002.05202).
#[derive(Debug)]
pub(super) struct FeedForward {
    norm: RmsNorm,
    /// The map in; with a gate, the gate's before it.
    inner: Linear,
    outer: Linear,
    activation: Activation,
    gated: bool,
    dropout: f64,
}

impl FeedForward {
    fn new(builder: &mut Builder<'_>, config: &T5Config, prefix: &str) -> Result<Self> {
        let (activation, gated) = config.activation()?;
        let parts: &[&str] = if gated { &["wi_0", "wi_1"] } else { &["wi"] };
        let names: Vec<String> = parts.iter().map(|part| format!("{prefix}.DenseReluDense.{part}")).collect();
        Ok(Self {
            norm: RmsNorm::new(builder, &format!("{prefix}.layer_norm"), config.d_model, config.layer_norm_epsilon)?,
            inner: Linear::without_bias(builder, &names, config.d_model, config.d_ff, &[Init::Normal(deviation(config, config.d_model))])?,
            outer: Linear::without_bias(
                builder,
                &[format!("{prefix}.DenseReluDense.wo")],
                config.d_ff,
                config.d_model,
                &[Init::Normal(deviation(config, config.d_ff))],
            )?,
            activation,
            gated,
            dropout: config.dropout_rate,
        })
    }

    /// What it adds to residual states.
    fn forward(&self, states: &Tensor, forward: &Forward) -> Result<Tensor> {
        self.of_normed(&self.norm.forward(states, self.inner.kind())?, forward)
    }

    /// What it adds to a text that is being written.
    pub(super) fn next(&self, stream: &mut Stream) -> Result<Tensor> {
        self.of_normed(&self.norm.settle(stream, self.inner.kind())?, &Forward::inference())
    }

    fn of_normed(&self, normed: &Tensor, forward: &Forward) -> Result<Tensor> {
        let inner = self.inner.forward(normed, forward)?;
        let active = if self.gated {
            let half = inner.size()[1] / 2;
            self.activation.apply(&inner.f_narrow(1, 0, half)?)?.f_mul(&inner.f_narrow(1, half, half)?)?
        } else {
            self.activation.apply(&inner)?
        };
        self.outer.forward(&forward.dropout(active, self.dropout)?, forward)
    }
}

/// How weights that take `inputs` numbers are spread, at random.
#[allow(clippy::cast_precision_loss)]
fn deviation(config: &T5Config, inputs: i64) -> f64 {
    config.initializer_factor * (inputs as f64).powf(-0.5)
}

/// Queries begin small: nothing else scales the scores.
fn query_init(config: &T5Config) -> Init {
    Init::Normal(deviation(config, config.d_model * config.d_kv))
}

fn memory_init(config: &T5Config) -> Init {
    Init::Normal(deviation(config, config.d_model))
}

fn out_init(config: &T5Config) -> Init {
    Init::Normal(deviation(config, config.inner()))
}
