//! Activation functions.

use tch::Tensor;

use crate::error::Result;

/// A function of each number alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x Φ(x), exact (Hendrycks and Gimpel 2016, arXiv 1606.08415).
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
    /// The positive part.
    Relu,
}

impl Activation {
    /// The names that configurations use.
    pub(crate) const NAMES: [&str; 5] = ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu"];

    /// The function of a configuration's name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Some(Self::GeluTanh),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }

    /// Of each number.
    pub(crate) fn apply(self, states: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Gelu => states.f_gelu("none")?,
            Self::GeluTanh => states.f_gelu("tanh")?,
            Self::Relu => states.f_relu()?,
        })
    }
}
