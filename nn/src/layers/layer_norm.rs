//! Layer normalisation.

use tch::Tensor;

use crate::builder::{Builder, Init, Wanted};
use crate::error::Result;

/// Layer normalisation (Ba et al. 2016, arXiv 1607.06450), with statistics in f32.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    epsilon: f64,
}

impl LayerNorm {
    /// `prefix.weight` and `prefix.bias` on disk, `[width]`.
    pub(crate) fn new(builder: &mut Builder<'_>, prefix: &str, width: i64, epsilon: f64) -> Result<Self> {
        let names = |kind: &str| [format!("{prefix}.{kind}")];
        let weight = builder.tensor(&Wanted { names: &names("weight"), shape: &[width], inits: &[Init::Ones], decay: false })?;
        let bias = builder.tensor(&Wanted { names: &names("bias"), shape: &[width], inits: &[Init::Zeros], decay: false })?;
        Ok(Self { weight, bias, width, epsilon })
    }

    /// Of states `[tokens, width]`.
    pub(crate) fn forward(&self, states: &Tensor) -> Result<Tensor> {
        Ok(states.f_layer_norm([self.width], Some(&self.weight), Some(&self.bias), self.epsilon, true)?)
    }
}
