//! Linear maps.

use tch::{Kind, Tensor};

use crate::builder::{Builder, Init, Wanted};
use crate::error::Result;

/// y = x Wᵀ + b. Layers ask for this and do not care how the weight is represented.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

/// How a weight `[out, in]` is represented.
#[derive(Debug)]
enum Weight {
    Dense(Tensor),
}

impl Linear {
    /// A map with a bias, `prefix.weight` and `prefix.bias` on disk, drawn from N(0, deviation).
    pub(crate) fn new(builder: &mut Builder<'_>, prefix: &str, inputs: i64, outputs: i64, deviation: f64) -> Result<Self> {
        Self::stacked(builder, &[prefix.to_owned()], inputs, outputs, deviation)
    }

    /// Several maps of the same input in one: `outputs` each, one after the other.
    pub(crate) fn stacked(builder: &mut Builder<'_>, prefixes: &[String], inputs: i64, outputs: i64, deviation: f64) -> Result<Self> {
        let rows = outputs * crate::packed::signed(prefixes.len());
        let names = |kind: &str| prefixes.iter().map(|prefix| format!("{prefix}.{kind}")).collect::<Vec<_>>();
        let (weights, biases) = (names("weight"), names("bias"));
        let weight = Wanted { names: &weights, shape: &[rows, inputs], init: Init::Normal(deviation), decay: true };
        let bias = Wanted { names: &biases, shape: &[rows], init: Init::Zeros, decay: false };
        Ok(Self { weight: Weight::Dense(builder.tensor(&weight)?), bias: Some(builder.tensor(&bias)?) })
    }

    /// Of states `[tokens, in]`: `[tokens, out]`.
    pub(crate) fn forward(&self, states: &Tensor) -> Result<Tensor> {
        let Weight::Dense(weight) = &self.weight;
        Ok(states.f_linear(weight, self.bias.as_ref())?)
    }

    /// The same computed in f32, whatever the weight's kind: for the few numbers that a model's answer hangs on.
    pub(crate) fn forward_f32(&self, states: &Tensor) -> Result<Tensor> {
        let Weight::Dense(weight) = &self.weight;
        let bias = self.bias.as_ref().map(|bias| bias.f_to_kind(Kind::Float)).transpose()?;
        Ok(states.f_to_kind(Kind::Float)?.f_linear(&weight.f_to_kind(Kind::Float)?, bias.as_ref())?)
    }
}
