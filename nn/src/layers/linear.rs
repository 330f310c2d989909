//! Linear maps.

use tch::{Kind, Tensor};

use super::matrix::Matrix;
use crate::builder::{Builder, Init, Wanted};
use crate::error::Result;
use crate::forward::Forward;
use crate::select::Role;

/// y = x Wᵀ + b. Layers ask for this and do not care how the weight is represented.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
}

impl Linear {
    /// A map with a bias, `prefix.weight` and `prefix.bias` on disk, drawn from N(0, deviation).
    pub(crate) fn new(builder: &mut Builder<'_>, prefix: &str, inputs: i64, outputs: i64, deviation: f64) -> Result<Self> {
        Self::stacked(builder, &[prefix.to_owned()], inputs, outputs, deviation)
    }

    /// Several maps of the same input in one: `outputs` each, one after the other.
    pub(crate) fn stacked(builder: &mut Builder<'_>, prefixes: &[String], inputs: i64, outputs: i64, deviation: f64) -> Result<Self> {
        let map = Self::without_bias(builder, prefixes, inputs, outputs, &[Init::Normal(deviation)])?;
        let names = names(prefixes, "bias");
        let bias = Wanted { names: &names, shape: &[rows(prefixes, outputs)], inits: &[Init::Zeros], decay: false };
        Ok(Self { bias: Some(builder.tensor(&bias)?), ..map })
    }

    /// Several maps of the same input in one, none with a bias; each begins as `inits` say.
    pub(crate) fn without_bias(builder: &mut Builder<'_>, prefixes: &[String], inputs: i64, outputs: i64, inits: &[Init]) -> Result<Self> {
        let names = names(prefixes, "weight");
        let weight = Wanted { names: &names, shape: &[rows(prefixes, outputs), inputs], inits, decay: true };
        let role = if outputs == 1 { Role::Vector } else { Role::Projection };
        Ok(Self { weight: builder.matrix(&weight, role)?, bias: None })
    }

    /// A map that begins as `init` says, with a bias of zeros or without one; its size is of inputs and outputs.
    pub(crate) fn drawn(builder: &mut Builder<'_>, prefix: &str, size: (i64, i64), init: Init, with_bias: bool) -> Result<Self> {
        let map = Self::without_bias(builder, &[prefix.to_owned()], size.0, size.1, &[init])?;
        let bias = Wanted { names: &[format!("{prefix}.bias")], shape: &[size.1], inits: &[Init::Zeros], decay: false };
        Ok(Self { bias: if with_bias { Some(builder.tensor(&bias)?) } else { None }, ..map })
    }

    /// The kind of number that it takes and gives.
    pub(crate) fn kind(&self) -> Kind {
        self.weight.kind()
    }

    /// Of states `[tokens, in]`: `[tokens, out]`.
    pub(crate) fn forward(&self, states: &Tensor, forward: &Forward) -> Result<Tensor> {
        self.weight.product(states, self.bias.as_ref(), forward)
    }

    /// The same computed in f32, whatever the weight's kind: for the few numbers that a model's answer hangs on.
    pub(crate) fn forward_f32(&self, states: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|bias| bias.f_to_kind(Kind::Float)).transpose()?;
        Ok(states.f_to_kind(Kind::Float)?.f_linear(&self.weight.value()?.f_to_kind(Kind::Float)?, bias.as_ref())?)
    }
}

/// The names of one kind of tensor under some prefixes.
fn names(prefixes: &[String], kind: &str) -> Vec<String> {
    prefixes.iter().map(|prefix| format!("{prefix}.{kind}")).collect()
}

/// Rows of maps in one.
fn rows(prefixes: &[String], outputs: i64) -> i64 {
    outputs * crate::packed::signed(prefixes.len())
}
