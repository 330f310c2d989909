//! Writing with a Mamba, one token at a time.

use tch::Tensor;

use super::MambaForCausalLm;
use super::mixer::Memory;
use crate::error::Result;
use crate::forward::Forward;
use crate::models::Decoding;
use crate::packed::Packed;

/// A batch under way. What is remembered of a text does not grow with it.
pub(super) struct MambaDecoding<'a> {
    model: &'a MambaForCausalLm,
    layers: Vec<Memory>,
    /// One token of each text, as a batch.
    one: Packed,
    /// Logits after the sources.
    first: Tensor,
}

impl<'a> MambaDecoding<'a> {
    /// Reads the sources once.
    pub(super) fn new(model: &'a MambaForCausalLm, sources: &Packed) -> Result<Self> {
        let rows = sources.sequences();
        let mut layers = model.layers.iter().map(|layer| layer.mixer.memory(rows)).collect::<Result<Vec<_>>>()?;
        let states = model.states(&sources.ids()?, sources, Some(&mut layers), &Forward::inference())?;
        let last = sources.cu_seqlens()?.f_narrow(0, 1, rows)?.f_sub_scalar(1)?;
        let first = model.of_states(&states.f_index_select(0, &last)?, &Forward::inference())?;
        let tokens: Vec<&[u32]> = vec![&[0]; sources.lengths().len()];
        Ok(Self { model, layers, one: Packed::of_one_segment(&tokens)?.to_device(sources.device())?, first })
    }
}

impl Decoding for MambaDecoding<'_> {
    fn next(&mut self, last: Option<&Tensor>) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let Some(last) = last else { return Ok(self.first.shallow_clone()) };
        let states = self.model.states(last, &self.one, Some(&mut self.layers), &Forward::inference())?;
        self.model.of_states(&states, &Forward::inference())
    }

    fn fork(&self) -> Result<Box<dyn Decoding + '_>> {
        let layers = self.layers.iter().map(Memory::fork).collect::<Result<_>>()?;
        Ok(Box::new(MambaDecoding { model: self.model, layers, one: self.one.shallow_clone(), first: self.first.shallow_clone() }))
    }
}
