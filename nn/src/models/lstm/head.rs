//! How the answer is found among the states of the paragraph.

use tch::{Kind, Tensor};

use super::dense;
use super::flow::{hidden, table};
use crate::builder::Builder;
use crate::error::Result;
use crate::forward::Forward;
use crate::layers::{BiLstm, Linear};
use crate::models::{LstmConfig, LstmHead, SpanLogits};
use crate::packed::{Packed, Part};

/// The logit of what cannot be an answer: e to it is zero, and it is a number.
const IMPOSSIBLE: f64 = -1e4;

/// Scores for the start and the end.
#[derive(Debug)]
pub(super) struct Head {
    start: Linear,
    end: Linear,
    way: Way,
    positions: i64,
    dropout: f64,
}

#[derive(Debug)]
enum Way {
    Flatten,
    MaxPooling,
    Span { start: Box<BiLstm>, end: Box<BiLstm> },
}

impl Head {
    pub(super) fn new(builder: &mut Builder<'_>, config: &LstmConfig) -> Result<Self> {
        let (states, hidden) = (config.states(), config.hidden_size);
        let way = match config.head {
            LstmHead::Flatten => Way::Flatten,
            LstmHead::MaxPooling => Way::MaxPooling,
            LstmHead::Span => Way::Span {
                start: Box::new(BiLstm::new(builder, "start.layer", states, hidden)?),
                end: Box::new(BiLstm::new(builder, "end.layer", 2 * states, hidden)?),
            },
        };
        // No answer comes first among the positions.
        let scores = if config.head == LstmHead::MaxPooling { config.positions + 1 } else { 1 };
        let (start, end) = (dense(builder, "start", states, scores)?, dense(builder, "end", states, scores)?);
        // This head can point anywhere.
        let positions = if config.head == LstmHead::Span { i64::MAX } else { config.positions };
        Ok(Self { start, end, way, positions, dropout: config.dropout_rate })
    }

    /// Of the paragraphs' states `[tokens of the paragraphs, states]`: logits of all tokens of the windows.
    pub(super) fn forward(&self, states: &Tensor, windows: &Packed, context: &Part, forward: &Forward) -> Result<SpanLogits> {
        let place = Place::new(windows, context, self.positions)?;
        let of = |map: &Linear, states: &Tensor| place.logits(&map.forward_f32(states)?.f_select(1, 0)?);
        match &self.way {
            Way::Flatten => Ok(SpanLogits { start: of(&self.start, states)?, end: of(&self.end, states)? }),
            Way::MaxPooling => {
                let pooled = pooled(states, &context.packed)?;
                let of = |map: &Linear| place.logits_of_positions(&map.forward_f32(&pooled)?);
                Ok(SpanLogits { start: of(&self.start)?, end: of(&self.end)? })
            }
            Way::Span { start, end } => {
                let drop = |states: &Tensor| forward.dropout_alike(states, &context.packed, self.dropout);
                let first = start.forward(&drop(states)?, &context.packed, forward)?;
                let last = end.forward(&drop(&Tensor::f_cat(&[states, &first], 1)?)?, &context.packed, forward)?;
                Ok(SpanLogits { start: of(&self.start, &first)?, end: of(&self.end, &last)? })
            }
        }
    }
}

/// The greatest value of each feature over a sequence, `[sequences, features]`.
fn pooled(states: &Tensor, packed: &Packed) -> Result<Tensor> {
    let hidden = hidden(packed)?.f_transpose(1, 2)?;
    Ok(table((states, packed))?.f_masked_fill(&hidden, f64::NEG_INFINITY)?.f_amax([1], false)?)
}

/// Where logits go in the windows.
struct Place<'a> {
    windows: &'a Packed,
    context: &'a Part,
    /// The first token of each window, and the last: that of no answer, and what follows the paragraph.
    first: Tensor,
    last: Tensor,
    positions: i64,
}

impl<'a> Place<'a> {
    fn new(windows: &'a Packed, context: &'a Part, positions: i64) -> Result<Self> {
        let (begins, count) = (windows.cu_seqlens()?.f_to_kind(Kind::Int64)?, windows.sequences());
        let (first, last) = (begins.f_narrow(0, 0, count)?, begins.f_narrow(0, 1, count)?.f_sub_scalar(1)?);
        Ok(Self { windows, context, first, last, positions })
    }

    /// Logits of all tokens out of scores of the paragraphs' tokens, f32 `[tokens of the paragraphs]`: what follows a paragraph has the
    /// score of no answer.
    fn logits(&self, scores: &Tensor) -> Result<Tensor> {
        let beyond = self.context.packed.positions()?.f_ge(self.positions)?;
        let spread = self.spread(scores)?;
        let nothing = spread.f_index_select(0, &self.last)?;
        let spread = self.spread(&scores.f_masked_fill(&beyond, IMPOSSIBLE)?)?;
        self.with_nothing(&spread, &nothing)
    }

    /// Logits of all tokens out of scores of positions, f32 `[windows, 1 + positions]`, the first of no answer.
    fn logits_of_positions(&self, scores: &Tensor) -> Result<Tensor> {
        let packed = &self.context.packed;
        let columns = packed.positions()?.f_add_scalar(1)?;
        let beyond = columns.f_gt(self.positions)?;
        let places = packed.sequence_of_tokens()?.f_mul_scalar(self.positions + 1)?.f_add(&columns.f_clamp_max(self.positions)?)?;
        let of_tokens = scores.f_view([-1])?.f_index_select(0, &places)?.f_masked_fill(&beyond, IMPOSSIBLE)?;
        self.with_nothing(&self.spread(&of_tokens)?, &scores.f_select(1, 0)?)
    }

    /// Scores of the paragraphs' tokens in their places in the windows.
    fn spread(&self, scores: &Tensor) -> Result<Tensor> {
        let empty = Tensor::f_full([self.windows.tokens()], IMPOSSIBLE, (Kind::Float, scores.device()))?;
        Ok(empty.f_index_copy(0, &self.context.rows, scores)?)
    }

    /// The same with the scores of no answer where they are looked for, and none where there is no text.
    fn with_nothing(&self, logits: &Tensor, nothing: &Tensor) -> Result<Tensor> {
        Ok(logits.f_index_fill(0, &self.last, IMPOSSIBLE)?.f_index_copy(0, &self.first, nothing)?)
    }
}
