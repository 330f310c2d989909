//! How a paragraph learns of the question.

use tch::Tensor;

use super::dense;
use super::flow::{Flow, Read};
use crate::builder::Builder;
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::layers::{BiLstm, Heads, Linear, Look, attention};
use crate::models::{LstmAttention, LstmConfig};
use crate::packed::Packed;

/// The part between the encoder and the layers.
#[derive(Debug)]
pub(super) struct Fusion {
    way: Way,
    dropout: f64,
    width: i64,
}

#[derive(Debug)]
enum Way {
    Dot,
    MultiHead(MultiHead),
    SelfAttention { merged: Linear, within: MultiHead },
    Bidaf(Box<Bidaf>),
}

#[derive(Debug)]
struct Bidaf {
    flow: Flow,
    merged: Linear,
    layer: BiLstm,
    within: Flow,
    seen: Linear,
}

impl Fusion {
    pub(super) fn new(builder: &mut Builder<'_>, config: &LstmConfig) -> Result<Self> {
        let (states, heads) = (config.states(), config.num_attention_heads);
        let way = match config.attention {
            LstmAttention::Dot => Way::Dot,
            LstmAttention::MultiHead => Way::MultiHead(MultiHead::new(builder, "attention", states, heads)?),
            LstmAttention::SelfAttention => Way::SelfAttention {
                merged: dense(builder, "attention.merged", 2 * states, states)?,
                within: MultiHead::new(builder, "self_attention", states, heads)?,
            },
            LstmAttention::Bidaf => Way::Bidaf(Box::new(Bidaf {
                flow: Flow::new(builder, "attention", states)?,
                merged: dense(builder, "attention.merged", 4 * states, states)?,
                layer: BiLstm::new(builder, "attention.layer", states, config.hidden_size)?,
                within: Flow::new(builder, "self_attention", states)?,
                seen: dense(builder, "self_attention.merged", 3 * states, states)?,
            })),
        };
        let width = if config.attention == LstmAttention::Dot { 2 * states } else { states };
        Ok(Self { way, dropout: config.dropout_rate, width })
    }

    /// Width of what it gives.
    pub(super) fn width(&self) -> i64 {
        self.width
    }

    /// Of the states of question and paragraph: `[tokens of the paragraph, width]`.
    pub(super) fn forward(&self, question: Read<'_>, context: Read<'_>, forward: &Forward) -> Result<Tensor> {
        let read = context.0;
        match &self.way {
            Way::Dot => Ok(Tensor::f_cat(&[read, &dot(question, context, forward)?], 1)?),
            Way::MultiHead(heads) => Ok(heads.forward(question, context, forward)?.f_add(read)?),
            Way::SelfAttention { merged, within } => {
                let both = Tensor::f_cat(&[read, &dot(question, context, forward)?], 1)?;
                let fused = merged.forward(&both, forward)?.f_relu()?;
                let context = (&fused, context.1);
                Ok(within.forward(context, context, forward)?.f_add(&fused)?)
            }
            Way::Bidaf(bidaf) => bidaf.forward(question, context, self.dropout, forward),
        }
    }
}

impl Bidaf {
    fn forward(&self, question: Read<'_>, context: Read<'_>, dropout: f64, forward: &Forward) -> Result<Tensor> {
        let (read, packed) = context;
        let (seen, chosen) = self.flow.both_ways(question, context)?;
        let both = Tensor::f_cat(&[read, &seen, &read.f_mul(&seen)?, &read.f_mul(&chosen)?], 1)?;
        let fused = self.merged.forward(&both, forward)?.f_relu()?;
        let states = self.layer.forward(&forward.dropout_alike(&fused, packed, dropout)?, packed, forward)?;
        let seen = self.within.within((&states, packed))?;
        let both = Tensor::f_cat(&[&states, &seen, &states.f_mul(&seen)?], 1)?;
        Ok(self.seen.forward(&both, forward)?.f_relu()?.f_add(&fused)?)
    }
}

/// What each token of the paragraph sees in the question by dot products, `[tokens of the paragraph, states]`.
fn dot((asked, question): Read<'_>, (read, context): Read<'_>, forward: &Forward) -> Result<Tensor> {
    let heads = Heads { query: read.f_unsqueeze(1)?, key: asked.f_unsqueeze(1)?, value: asked.f_unsqueeze(1)? };
    attention(&heads, &look(question, context, Some(1.0)), forward)
}

fn look<'a>(keys: &'a Packed, queries: &'a Packed, scale: Option<f64>) -> Look<'a> {
    Look { queries, keys, bias: None, scale, dropout: 0.0 }
}

/// Attention with several heads.
#[derive(Debug)]
struct MultiHead {
    query: Linear,
    /// Key and value in one.
    keys: Linear,
    out: Linear,
    heads: i64,
}

impl MultiHead {
    fn new(builder: &mut Builder<'_>, prefix: &str, width: i64, heads: i64) -> Result<Self> {
        let query = dense(builder, &format!("{prefix}.query"), width, width)?;
        let keys = dense(builder, &format!("{prefix}.keys"), width, 2 * width)?;
        let out = dense(builder, &format!("{prefix}.out"), width, width)?;
        Ok(Self { query, keys, out, heads })
    }

    /// What the tokens of one packed batch see in another's, `[tokens, width]`.
    fn forward(&self, keys: Read<'_>, queries: Read<'_>, forward: &Forward) -> Result<Tensor> {
        let size = queries.0.size()[1] / self.heads;
        let query = self.query.forward(queries.0, forward)?.f_view([-1, self.heads, size])?;
        let mut parts = self.keys.forward(keys.0, forward)?.f_view([-1, 2, self.heads, size])?.f_unbind(1)?.into_iter();
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
            return Err(NnError::torch("a product of two projections has no two parts"));
        };
        self.out.forward(&attention(&Heads { query, key, value }, &look(keys.1, queries.1, None), forward)?, forward)
    }
}
