//! Writing with a T5, one token at a time.

use tch::{Kind, Tensor};

use super::T5ForConditionalGeneration;
use super::stack::{Block, Source};
use crate::error::Result;
use crate::forward::Forward;
use crate::layers::{Stream, biased};
use crate::models::Decoding;
use crate::packed::Packed;

/// Tokens whose bias is made at once: of all that may come it would grow with their square.
const ROWS: i64 = 64;

/// A batch under way: keys and values of what was written and of the sources.
pub(super) struct T5Decoding<'a> {
    model: &'a T5ForConditionalGeneration,
    layers: Vec<Memory>,
    /// What is added to the scores of the tokens that come next, at most [`ROWS`] of them, `[1, heads, rows, places]`; the first of them is
    /// a multiple of that.
    bias: Tensor,
    /// Zero where a source has a token, minus infinity elsewhere: `[rows, heads, 1, width]`. None where all are equally long.
    mask: Option<Tensor>,
    rows: i64,
    /// Tokens written so far.
    written: i64,
}

/// Keys and values of one layer.
struct Memory {
    /// Of what was written, `[2, rows, heads, places, d_kv]`.
    own: Tensor,
    /// Of the sources, each `[rows, heads, width, d_kv]`.
    source: (Tensor, Tensor),
}

impl<'a> T5Decoding<'a> {
    /// Reads the encoder's states once; there will be at most `most` tokens.
    pub(super) fn new(model: &'a T5ForConditionalGeneration, states: &Tensor, packed: &Packed, most: i64) -> Result<Self> {
        // As many places as matrix kernels like; those that are not written yet have no weight.
        let (rows, places) = (packed.sequences(), most.saturating_add(7) / 8 * 8);
        let source = Source { states, packed };
        let layers = model.decoder.blocks.iter().map(|block| Memory::new(block, &source, model, places)).collect::<Result<_>>()?;
        let wide = [rows, model.config.num_heads, 1, packed.width()];
        let mask = if packed.is_even() { None } else { Some(additive(packed.mask()?, states.kind())?.f_expand(wide, false)?) };
        Ok(Self { model, layers, bias: model.decoder.bias(0, places.min(ROWS), places)?, mask, rows, written: 0 })
    }

    /// One layer: what it adds to the residual stream, `[rows, d_model]`.
    fn layer(&self, number: usize, stream: &mut Stream, bias: &Tensor) -> Result<()> {
        let (block, memory) = (&self.model.decoder.blocks[number], &self.layers[number]);
        let product = block.own.next(stream)?;
        memory.own.f_select(3, self.written)?.f_copy_(&product.f_narrow(1, 1, 2)?.f_transpose(0, 1)?)?;
        let seen = look(&product.f_select(1, 0)?, &memory.own.f_get(0)?, &memory.own.f_get(1)?, Some(bias))?;
        stream.add(block.own.out.forward(&seen, &Forward::inference())?)?;
        if let Some(cross) = &block.cross {
            let (key, value) = &memory.source;
            let seen = look(&cross.next(stream)?, key, value, self.mask.as_ref())?;
            stream.add(cross.out.forward(&seen, &Forward::inference())?)?;
        }
        let fed = block.feed.next(stream)?;
        stream.add(fed)
    }
}

impl Decoding for T5Decoding<'_> {
    fn next(&mut self, last: Option<&Tensor>) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (model, kind) = (self.model, self.model.shared.kind());
        let start = || Tensor::f_full([self.rows], model.config.start(), (Kind::Int64, model.parameters.device()));
        let ids = last.map_or_else(start, |last| Ok(last.shallow_clone()))?;
        let mut stream = Stream::new(&model.shared.forward(&ids)?)?;
        let row = self.written % ROWS;
        if row == 0 && self.written > 0 {
            let places = self.bias.size()[3];
            self.bias = model.decoder.bias(self.written, ROWS.min(places - self.written), places)?;
        }
        let bias = self.bias.f_narrow(2, row, 1)?.f_expand([self.rows, -1, -1, -1], false)?;
        for number in 0..self.layers.len() {
            self.layer(number, &mut stream, &bias)?;
        }
        self.written += 1;
        model.of_states(&model.decoder.end(&mut stream, kind)?, &Forward::inference())
    }

    fn fork(&self) -> Result<Box<dyn Decoding + '_>> {
        let layers = self.layers.iter().map(Memory::fork).collect::<Result<_>>()?;
        let (bias, mask) = (self.bias.shallow_clone(), self.mask.as_ref().map(Tensor::shallow_clone));
        Ok(Box::new(T5Decoding { model: self.model, layers, bias, mask, rows: self.rows, written: self.written }))
    }
}

impl Memory {
    fn new(block: &Block, source: &Source<'_>, model: &T5ForConditionalGeneration, places: i64) -> Result<Self> {
        let (key, value) = match &block.cross {
            Some(cross) => cross.memory(source.states, &Forward::inference())?,
            None => (source.states.shallow_clone(), source.states.shallow_clone()),
        };
        let size = [2, source.packed.sequences(), model.config.num_heads, places, model.config.d_kv];
        let own = Tensor::f_zeros(size, (source.states.kind(), source.states.device()))?;
        Ok(Self { own, source: (source.packed.spread(&key)?, source.packed.spread(&value)?) })
    }

    /// The same once more: of what was written a copy, of the sources the same numbers.
    fn fork(&self) -> Result<Self> {
        let (key, value) = &self.source;
        let mut own = self.own.f_zeros_like()?;
        own.f_copy_(&self.own)?;
        Ok(Self { own, source: (key.shallow_clone(), value.shallow_clone()) })
    }
}

/// One query a row `[rows, heads, d_kv]` at keys and values `[rows, heads, places, d_kv]`: `[rows, heads * d_kv]`.
fn look(query: &Tensor, key: &Tensor, value: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    Ok(biased(&query.f_unsqueeze(2)?, key, value, bias, 0.0, Some(1.0))?.f_flatten(1, 3)?)
}

/// A mask as something to add: zero where it holds, minus infinity elsewhere.
fn additive(mask: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(mask.f_zeros_like()?.f_to_kind(kind)?.f_masked_fill(&mask.f_logical_not()?, f64::NEG_INFINITY)?)
}
