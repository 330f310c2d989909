//! How parameters begin.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::forward::mix;
use crate::shim;

/// How a parameter begins where there are no weights for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Init {
    /// Normally distributed around zero, with this standard deviation.
    Normal(f64),
    /// Evenly distributed between minus this and this.
    Uniform(f64),
    /// All this.
    Filled(f64),
    /// The logarithms of 1, 2 and so on along the last dimension.
    Logarithms,
    /// Numbers whose softplus is evenly distributed on a logarithmic scale.
    Steps {
        /// The smallest softplus drawn.
        least: f64,
        /// The largest softplus drawn.
        most: f64,
        /// What no softplus is below.
        floor: f64,
    },
    /// Zero, but one for the second of four equal parts: the forget gate of an LSTM.
    ForgetGate,
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

impl Init {
    /// A tensor f32 at random: what it is depends on the seed and its name alone, not on what was drawn before.
    pub(super) fn drawn(self, seed: u64, name: &str, shape: &[i64]) -> Result<Tensor> {
        let empty = Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?;
        if matches!(self, Self::Normal(_) | Self::Uniform(_) | Self::Steps { .. }) {
            shim::seed(Device::Cpu, mix(seed, hash(name)))?;
        }
        self.filled(empty, shape)
    }

    /// A tensor of zeros, filled.
    fn filled(self, mut zeros: Tensor, shape: &[i64]) -> Result<Tensor> {
        Ok(match self {
            Self::Zeros => zeros,
            Self::Ones => zeros.f_fill_(1.0)?,
            Self::Filled(value) => zeros.f_fill_(value)?,
            Self::Normal(deviation) => zeros.f_normal_(0.0, deviation)?,
            Self::Uniform(bound) => zeros.f_uniform_(-bound, bound)?,
            Self::ForgetGate => {
                let part = shape[0] / 4;
                let _same = zeros.f_narrow(0, part, part)?.f_fill_(1.0)?;
                zeros
            }
            Self::Logarithms => {
                let numbers = Tensor::f_arange_start(1, shape.last().unwrap_or(&0) + 1, (Kind::Float, Device::Cpu))?;
                numbers.f_log()?.f_expand(shape, false)?.f_contiguous()?
            }
            Self::Steps { least, most, floor } => {
                let steps = zeros.f_uniform_(least.ln(), most.ln())?.f_exp()?.f_clamp_min(floor)?;
                // The inverse of softplus, exact also for small numbers.
                steps.f_add(&steps.f_neg()?.f_expm1()?.f_neg()?.f_log()?)?
            }
        })
    }
}

/// A number for a name (FNV-1a, 64 bits).
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}
