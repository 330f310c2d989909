//! Tables of vectors.

use tch::{Kind, Tensor};

use crate::builder::{Builder, Init, Wanted};
use crate::error::Result;

/// A vector for each of some numbers.
#[derive(Debug)]
pub(crate) struct Embedding {
    weight: Tensor,
    /// A row that does not train.
    padding: i64,
}

impl Embedding {
    /// `prefix.weight` on disk, `[rows, width]`, drawn from N(0, deviation). `padding`: a row that does not train, where there is one.
    pub(crate) fn new(builder: &mut Builder<'_>, prefix: &str, size: (i64, i64), deviation: f64, padding: Option<i64>) -> Result<Self> {
        let names = [format!("{prefix}.weight")];
        let weight = builder.tensor(&Wanted { names: &names, shape: &[size.0, size.1], inits: &[Init::Normal(deviation)], decay: true })?;
        Ok(Self { weight, padding: padding.unwrap_or(-1) })
    }

    /// The kind of number that it gives.
    pub(crate) fn kind(&self) -> Kind {
        self.weight.kind()
    }

    /// How well states `[tokens, width]` fit each vector: `[tokens, rows]`. A head that shares the table's weights.
    pub(crate) fn scores(&self, states: &Tensor) -> Result<Tensor> {
        Ok(states.f_linear(&self.weight, None::<&Tensor>)?)
    }

    /// Of numbers `[tokens]`: `[tokens, width]`.
    pub(crate) fn forward(&self, numbers: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(&self.weight, numbers, self.padding, false, false)?)
    }
}
