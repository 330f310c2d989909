//! The weights of a linear map, however they are represented.

use tch::{Kind, Tensor};

use super::adapter::Adapters;
use super::packed_weight::PackedWeight;
use super::with_bias;
use crate::error::Result;
use crate::forward::Forward;
use crate::masks::Masked;

/// W, `[out, in]`, perhaps with adapters. Layers multiply with it and do not ask what it is made of.
#[derive(Debug)]
pub(crate) struct Matrix {
    /// The name of its tensor; of several in one, the first.
    name: String,
    weight: Weight,
    adapters: Option<Adapters>,
}

/// How a matrix is represented.
#[derive(Debug)]
pub(crate) enum Weight {
    /// As it is.
    Dense(Tensor),
    /// With weights left out.
    Masked(Masked),
    /// In few bits.
    Packed(PackedWeight),
}

impl Weight {
    /// The kind of number that it is multiplied with.
    fn kind(&self) -> Kind {
        match self {
            Self::Dense(weight) => weight.kind(),
            Self::Masked(masked) => masked.kind(),
            Self::Packed(packed) => packed.kind(),
        }
    }

    /// As a dense tensor, with its gradient.
    fn value(&self) -> Result<Tensor> {
        match self {
            Self::Dense(weight) => Ok(weight.shallow_clone()),
            Self::Masked(masked) => masked.value(),
            Self::Packed(packed) => packed.value(),
        }
    }

    /// x Wᵀ + b.
    fn product(&self, states: &Tensor, bias: Option<&Tensor>, forward: &Forward) -> Result<Tensor> {
        match self {
            Self::Packed(packed) => packed.product(states, bias, forward.is_training()),
            _ => Ok(states.f_linear(&self.value()?, bias)?),
        }
    }
}

impl Matrix {
    pub(crate) fn new(name: String, weight: Weight, adapters: Option<Adapters>) -> Self {
        Self { name, weight, adapters }
    }

    /// The kind of number that it is multiplied with.
    pub(crate) fn kind(&self) -> Kind {
        self.weight.kind()
    }

    /// x Wᵀ + b of states `[tokens, in]`: `[tokens, out]`.
    pub(crate) fn product(&self, states: &Tensor, bias: Option<&Tensor>, forward: &Forward) -> Result<Tensor> {
        forward.see(&self.name, states)?;
        match &self.adapters {
            None => self.weight.product(states, bias, forward),
            Some(adapters) if adapters.decomposed() => {
                let product = adapters.add(&self.weight.product(states, None, forward)?, states, forward)?;
                let scaled = product.f_mul(&adapters.lengths(&self.weight.value()?)?)?;
                with_bias(scaled, bias)
            }
            Some(adapters) => adapters.add(&self.weight.product(states, bias, forward)?, states, forward),
        }
    }

    /// All of it as one dense tensor with its gradient: for what multiplies in a kernel of its own.
    pub(crate) fn value(&self) -> Result<Tensor> {
        let weight = self.weight.value()?;
        match &self.adapters {
            None => Ok(weight),
            Some(adapters) => adapters.merged(&weight),
        }
    }
}
