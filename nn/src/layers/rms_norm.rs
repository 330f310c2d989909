//! Root-mean-square normalisation.

use tch::{Kind, Tensor};

use crate::builder::{Builder, Init};
use crate::error::Result;
use crate::shim;

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

    /// Of a residual stream, once what is still to be added is added: as [`RmsNorm::forward`], in fewer kernels. Without gradients.
    pub(crate) fn settle(&self, stream: &mut Stream, kind: Kind) -> Result<Tensor> {
        if kind == Kind::BFloat16
            && let Some(normed) = shim::add_norm(&stream.sum, stream.change.as_ref(), &self.weight, self.epsilon)?
        {
            stream.change = None;
            return Ok(normed);
        }
        if let Some(change) = stream.change.take() {
            stream.sum = stream.sum.f_add(&change)?;
        }
        self.forward(&stream.sum, kind)
    }
}

/// A residual stream of a text that is being written, f32 `[rows, width]`, and what is still to be added to it.
pub(crate) struct Stream {
    sum: Tensor,
    change: Option<Tensor>,
}

impl Stream {
    /// A stream that begins with some states, which become its own.
    pub(crate) fn new(states: &Tensor) -> Result<Self> {
        let mut sum = Tensor::f_empty(states.size(), (Kind::Float, states.device()))?;
        sum.f_copy_(states)?;
        Ok(Self { sum, change: None })
    }

    /// Adds something; the next norm carries it out.
    pub(crate) fn add(&mut self, change: Tensor) -> Result<()> {
        if let Some(before) = self.change.replace(change) {
            self.sum = self.sum.f_add(&before)?;
        }
        Ok(())
    }
}
