//! One tensor that trains.

use tch::Tensor;

use super::SCORES;
use crate::error::Result;

/// A name that a file has for a part of a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// Its size along the first dimension.
    pub(crate) height: i64,
}

/// One tensor that a layer computes with. It may hold several of a file's tensors, stacked.
#[derive(Debug)]
pub struct Parameter {
    pub(super) parts: Vec<Part>,
    pub(super) shape: Vec<i64>,
    pub(super) decay: bool,
    /// Whether it is computed with in f32, whatever the rest is.
    pub(super) precise: bool,
    /// What its learning rate is to the optimiser's.
    pub(super) rate: f64,
    /// What the layer holds, too: both share values and gradient.
    pub(super) tensor: Tensor,
    /// Where it begins in the flat tensors.
    pub(super) offset: i64,
}

impl Parameter {
    pub(crate) fn new(parts: Vec<Part>, shape: Vec<i64>, decay: bool, tensor: Tensor) -> Self {
        Self { parts, shape, decay, precise: false, rate: 1.0, tensor, offset: 0 }
    }

    /// The same computed with in f32, whatever the rest is. Weight decay does not apply to it.
    pub(crate) fn precise(self) -> Self {
        Self { precise: true, decay: false, ..self }
    }

    /// The same with a learning rate of so many times the optimiser's.
    pub(crate) fn at_rate(self, rate: f64) -> Self {
        Self { rate, ..self }
    }

    /// The names that Hugging Face's files have for it; several where it is stacked.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// Whether weight decay applies to it.
    #[must_use]
    pub fn decays(&self) -> bool {
        self.decay
    }

    /// Whether it decides about weights and is none.
    pub(super) fn is_scores(&self) -> bool {
        self.parts.iter().any(|part| part.name.ends_with(SCORES))
    }

    pub(super) fn numel(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Its part of a flat tensor.
    pub(super) fn view(&self, flat: &Tensor) -> Result<Tensor> {
        self.view_from(flat, 0)
    }

    /// Its part of a flat tensor that holds what comes from a place on.
    pub(super) fn view_from(&self, flat: &Tensor, start: i64) -> Result<Tensor> {
        Ok(flat.f_narrow(0, self.offset - start, self.numel())?.f_view(self.shape.as_slice())?)
    }
}
