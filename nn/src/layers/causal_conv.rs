//! A short convolution along each sequence.

use tch::{Kind, Tensor};

use crate::builder::{Builder, Init, Wanted};
use crate::error::Result;
use crate::packed::Packed;
use crate::shim;

/// silu(b + Σ w_k x_{t-k}) in each channel by itself: a token sees itself and the tokens just before it of its own sequence.
#[derive(Debug)]
pub(crate) struct CausalConv {
    /// `[channels, 1, taps]`; the last tap is for the token itself.
    weight: Tensor,
    bias: Option<Tensor>,
    taps: i64,
}

impl CausalConv {
    /// `prefix.weight` and, where there is one, `prefix.bias` on disk, `[channels, 1, taps]` and `[channels]`.
    pub(crate) fn new(builder: &mut Builder<'_>, prefix: &str, channels: i64, taps: i64, with_bias: bool) -> Result<Self> {
        #[allow(clippy::cast_precision_loss)]
        let inits = [Init::Uniform((taps as f64).powf(-0.5))];
        let names = |kind: &str| [format!("{prefix}.{kind}")];
        let weight = builder.tensor(&Wanted { names: &names("weight"), shape: &[channels, 1, taps], inits: &inits, decay: true })?;
        let bias = Wanted { names: &names("bias"), shape: &[channels], inits: &inits, decay: false };
        let bias = if with_bias { Some(builder.tensor(&bias)?) } else { None };
        Ok(Self { weight, bias, taps })
    }

    /// Of states `[tokens, channels]`: `[tokens, channels]`.
    pub(crate) fn forward(&self, states: &Tensor, packed: &Packed) -> Result<Tensor> {
        shim::causal_conv(states, &self.weight, self.bias.as_ref(), &packed.positions()?)
    }

    /// The last states of each sequence, all that its next token will see: `[sequences, taps - 1, channels]`, zero where there are none.
    pub(crate) fn window(&self, states: &Tensor, packed: &Packed) -> Result<Tensor> {
        let (mut places, mut there, mut end) = (Vec::new(), Vec::new(), 0);
        for length in packed.lengths() {
            end += length;
            places.extend((end - self.taps + 1..end).map(|place| place.max(0)));
            there.extend((1..self.taps).rev().map(|back| back <= *length));
        }
        let shape = [packed.sequences(), self.taps - 1, states.size()[1]];
        let window = states.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to(states.device())?)?.f_view(shape)?;
        let there = Tensor::f_from_slice(&there)?.f_to(states.device())?.f_view([shape[0], shape[1], 1])?;
        Ok(window.f_where_self(&there, &window.f_zeros_like()?)?)
    }

    /// Of one more state of each sequence `[sequences, channels]`: `[sequences, channels]`. Moves the window on.
    pub(crate) fn step(&self, states: &Tensor, window: &mut Tensor) -> Result<Tensor> {
        let seen = Tensor::f_cat(&[window.shallow_clone(), states.f_unsqueeze(1)?], 1)?;
        *window = seen.f_narrow(1, 1, self.taps - 1)?;
        let weight = self.weight.f_squeeze_dim(1)?.f_transpose(0, 1)?;
        let sum = seen.f_to_kind(Kind::Float)?.f_mul(&weight)?.f_sum_dim_intlist(1_i64, false, Kind::Float)?;
        let sum = self.bias.as_ref().map_or(Ok(sum.shallow_clone()), |bias| sum.f_add(bias))?;
        Ok(sum.f_silu()?.f_to_kind(states.kind())?)
    }
}
