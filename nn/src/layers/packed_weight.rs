//! A matrix in few bits.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::with_bias;
use crate::error::Result;
use crate::quant::{Quantized, int8_product};
use crate::shim;

/// A matrix that is dequantized whenever it is multiplied with: nothing of its size is kept, not even for the way back.
#[derive(Debug)]
pub(crate) struct PackedWeight {
    rows: Arc<Rows>,
    /// How states are multiplied with eight bits in inference.
    activations: Activations,
}

/// What products with weights of eight bits are made of in inference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activations {
    /// The states as they are, and the weights dequantized.
    #[default]
    Plain,
    /// Both in eight bits, the states by rows; with a bound, columns of states that exceed it stay as they are (LLM.int8()).
    Dynamic(Option<f64>),
}

#[derive(Debug)]
pub(crate) struct Rows {
    parts: Vec<PackedPart>,
    shape: [i64; 2],
    kind: Kind,
    device: Device,
}

/// Some rows of the matrix.
#[derive(Debug)]
pub(crate) enum PackedPart {
    Quantized(Arc<Quantized>),
    /// Rows that are as they were.
    Dense(Tensor),
}

impl PackedPart {
    fn height(&self) -> i64 {
        match self {
            Self::Quantized(weight) => weight.shape()[0],
            Self::Dense(weight) => weight.size()[0],
        }
    }
}

impl Rows {
    /// The matrix in full, `[out, in]`.
    pub(crate) fn value(&self) -> Result<Tensor> {
        if let [PackedPart::Quantized(weight)] = self.parts.as_slice() {
            return weight.dequantize(self.kind);
        }
        let _guard = tch::no_grad_guard();
        let whole = Tensor::f_empty(self.shape, (self.kind, self.device))?;
        let mut start = 0;
        for part in &self.parts {
            let mut rows = whole.f_narrow(0, start, part.height())?;
            match part {
                PackedPart::Quantized(weight) => weight.dequantize_into(&mut rows)?,
                PackedPart::Dense(weight) => rows.f_copy_(weight)?,
            }
            start += part.height();
        }
        Ok(whole)
    }
}

impl PackedWeight {
    pub(crate) fn new(parts: Vec<PackedPart>, shape: [i64; 2], (kind, device): (Kind, Device), activations: Activations) -> Self {
        Self { rows: Arc::new(Rows { parts, shape, kind, device }), activations }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.rows.kind
    }

    /// In full, without a gradient: it does not train.
    pub(crate) fn value(&self) -> Result<Tensor> {
        self.rows.value()
    }

    /// x Wᵀ + b, with gradients for x and b.
    pub(crate) fn product(&self, states: &Tensor, bias: Option<&Tensor>, trains: bool) -> Result<Tensor> {
        if trains && states.requires_grad() {
            return shim::restored_product(states, bias, &self.rows);
        }
        match self.activations {
            Activations::Dynamic(outliers) if !trains => self.in_whole_numbers(states, bias, outliers),
            _ => Ok(states.f_linear(&self.value()?, bias)?),
        }
    }

    fn in_whole_numbers(&self, states: &Tensor, bias: Option<&Tensor>, outliers: Option<f64>) -> Result<Tensor> {
        let of = |part: &PackedPart| match part {
            PackedPart::Quantized(weight) => match &**weight {
                Quantized::Int8(weight) => int8_product(states, weight, outliers),
                other => Ok(states.f_linear(&other.dequantize(self.kind())?, None::<&Tensor>)?),
            },
            PackedPart::Dense(weight) => Ok(states.f_linear(weight, None::<&Tensor>)?),
        };
        let products = self.rows.parts.iter().map(of).collect::<Result<Vec<_>>>()?;
        with_bias(Tensor::f_cat(&products, -1)?, bias)
    }
}
