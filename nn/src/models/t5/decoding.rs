//! Writing with a T5, one token at a time.

use tch::{Kind, Tensor};

use super::T5ForConditionalGeneration;
use super::stack::{Block, Source};
use crate::error::Result;
use crate::forward::Forward;
use crate::models::Decoding;
use crate::packed::Packed;

/// A batch under way: keys and values of what was written and of the sources.
pub(super) struct T5Decoding<'a> {
    model: &'a T5ForConditionalGeneration,
    layers: Vec<Memory>,
    /// Zero where a source has a token, minus infinity elsewhere: `[rows, 1, 1, width]`. None where all are equally long.
    mask: Option<Tensor>,
    rows: i64,
    /// Tokens written so far.
    written: i64,
}

/// Keys and values of one layer, each `[rows, heads, places, d_kv]`.
struct Memory {
    own: (Tensor, Tensor),
    source: (Tensor, Tensor),
}

impl<'a> T5Decoding<'a> {
    /// Reads the encoder's states once; there will be at most `most` tokens.
    pub(super) fn new(model: &'a T5ForConditionalGeneration, states: &Tensor, packed: &Packed, most: i64) -> Result<Self> {
        let source = Source { states, packed };
        let layers = model.decoder.blocks.iter().map(|block| Memory::new(block, &source, model, most)).collect::<Result<_>>()?;
        let mask = if packed.is_even() { None } else { Some(additive(packed.mask()?, states.kind())?) };
        Ok(Self { model, layers, mask, rows: packed.sequences(), written: 0 })
    }

    /// One layer: what it makes of residual states `[rows, d_model]`.
    fn layer(&self, number: usize, states: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (block, memory, forward) = (&self.model.decoder.blocks[number], &self.layers[number], Forward::inference());
        let heads = block.own.heads(states)?;
        let own = (memory.keep(0, &heads.key, self.written)?, memory.keep(1, &heads.value, self.written)?);
        let mut states = states.f_add(&block.own.out.forward(&look(&heads.query, &own.0, &own.1, Some(bias))?)?)?;
        if let Some(cross) = &block.cross {
            let (key, value) = &memory.source;
            let seen = look(&cross.query(&states)?, key, value, self.mask.as_ref())?;
            states = states.f_add(&cross.out.forward(&seen)?)?;
        }
        Ok(states.f_add(&block.feed.forward(&states, &forward)?)?)
    }
}

impl Decoding for T5Decoding<'_> {
    fn next(&mut self, last: Option<&Tensor>) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let model = self.model;
        let device = model.parameters.device();
        let start = || Tensor::f_full([self.rows], model.config.start(), (Kind::Int64, device));
        let ids = last.map_or_else(start, |last| Ok(last.shallow_clone()))?;
        let mut states = model.shared.forward(&ids)?.f_to_kind(Kind::Float)?;
        let bias = model.decoder.positions.table(self.written, 1, self.written + 1)?;
        for number in 0..self.layers.len() {
            states = self.layer(number, &states, &bias)?;
        }
        self.written += 1;
        model.logits(&model.decoder.finish(&states, &Forward::inference())?)
    }
}

impl Memory {
    fn new(block: &Block, source: &Source<'_>, model: &T5ForConditionalGeneration, most: i64) -> Result<Self> {
        let (key, value) = match &block.cross {
            Some(cross) => cross.memory(source.states)?,
            None => (source.states.shallow_clone(), source.states.shallow_clone()),
        };
        let size = [source.packed.sequences(), model.config.num_heads, most, model.config.d_kv];
        let empty = || Tensor::f_zeros(size, (source.states.kind(), source.states.device()));
        Ok(Self { own: (empty()?, empty()?), source: (source.packed.spread(&key)?, source.packed.spread(&value)?) })
    }

    /// Puts keys (0) or values (1) of the newest token `[rows, heads, d_kv]` in its place; gives all up to it.
    fn keep(&self, which: usize, newest: &Tensor, at: i64) -> Result<Tensor> {
        let all = if which == 0 { &self.own.0 } else { &self.own.1 };
        all.f_select(2, at)?.f_copy_(newest)?;
        Ok(all.f_narrow(2, 0, at + 1)?)
    }
}

/// One query a row `[rows, heads, d_kv]` at keys and values `[rows, heads, places, d_kv]`: `[rows, heads * d_kv]`.
fn look(query: &Tensor, key: &Tensor, value: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let scores = query.f_unsqueeze(2)?.f_matmul(&key.f_transpose(2, 3)?)?;
    let scores = match bias {
        Some(bias) => scores.f_add(bias)?,
        None => scores,
    };
    let weights = scores.f_softmax(-1, Kind::Float)?.f_to_kind(value.kind())?;
    Ok(weights.f_matmul(value)?.f_flatten(1, 3)?)
}

/// A mask as something to add: zero where it holds, minus infinity elsewhere.
fn additive(mask: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(mask.f_zeros_like()?.f_to_kind(kind)?.f_masked_fill(&mask.f_logical_not()?, f64::NEG_INFINITY)?)
}
