//! Root-mean-square normalisation.

use tch::{Kind, Tensor};

use crate::builder::{Builder, Init};
use crate::error::Result;

/// x / √(mean x² + ε) · w (Zhang and Sennrich 2019, arXiv 1910.07467), in f32, its weight too.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    width: i64,
    epsilon: f64,
}

impl RmsNorm {
    /// `prefix.weight` on disk, `[width]`.
    pub(crate) fn new(builder: &mut Builder<'_>, prefix: &str, width: i64, epsilon: f64) -> Result<Self> {
        Ok(Self { weight: builder.precise(&format!("{prefix}.weight"), &[width], Init::Ones)?, width, epsilon })
    }

    /// Of states `[tokens, width]`, given in a kind: that of the weights that read them. The residual stream may stay in f32.
    pub(crate) fn forward(&self, states: &Tensor, kind: Kind) -> Result<Tensor> {
        let states = states.f_to_kind(Kind::Float)?.f_rms_norm([self.width], Some(&self.weight), self.epsilon)?;
        Ok(states.f_to_kind(kind)?)
    }
}
