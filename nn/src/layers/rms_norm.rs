//! Root-mean-square normalisation.

use tch::{Kind, Tensor};

use crate::builder::{Builder, Init, Wanted};
use crate::error::Result;

/// x / √(mean x² + ε) · w (Zhang and Sennrich 2019, arXiv 1910.07467), with statistics in f32.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    width: i64,
    epsilon: f64,
}

impl RmsNorm {
    /// `prefix.weight` on disk, `[width]`.
    pub(crate) fn new(builder: &mut Builder<'_>, prefix: &str, width: i64, epsilon: f64) -> Result<Self> {
        let names = [format!("{prefix}.weight")];
        let weight = builder.tensor(&Wanted { names: &names, shape: &[width], inits: &[Init::Ones], decay: false })?;
        Ok(Self { weight, width, epsilon })
    }

    /// Of states `[tokens, width]`.
    pub(crate) fn forward(&self, states: &Tensor) -> Result<Tensor> {
        Ok(states.f_rms_norm([self.width], Some(&self.weight), self.epsilon)?)
    }

    /// Of f32 states, given in the kind of the weights: for a residual stream that stays in f32.
    pub(crate) fn narrowed(&self, states: &Tensor) -> Result<Tensor> {
        if states.kind() == self.weight.kind() {
            return self.forward(states);
        }
        let weight = self.weight.f_to_kind(Kind::Float)?;
        Ok(states.f_rms_norm([self.width], Some(&weight), self.epsilon)?.f_to_kind(self.weight.kind())?)
    }
}
