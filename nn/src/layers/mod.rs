//! Layers: what models are put together from. States are packed, `[tokens, features]`.

mod activation;
mod adapter;
mod attention;
mod causal_conv;
mod embedding;
mod layer_norm;
mod linear;
mod lstm;
mod matrix;
mod packed_weight;
mod relative_bias;
mod rms_norm;
mod selective_scan;

use tch::Tensor;

use crate::error::Result;

pub(crate) use activation::Activation;
pub(crate) use adapter::{Adapters, Up};
pub(crate) use attention::{Bias, Heads, Look, attention, biased};
pub(crate) use causal_conv::CausalConv;
pub(crate) use embedding::Embedding;
pub(crate) use layer_norm::LayerNorm;
pub(crate) use linear::Linear;
pub(crate) use lstm::BiLstm;
pub(crate) use matrix::{Matrix, Weight};
pub use packed_weight::Activations;
pub(crate) use packed_weight::{PackedPart, PackedWeight, Rows};
pub(crate) use relative_bias::{Buckets, RelativeBias};
pub(crate) use rms_norm::{RmsNorm, Stream};
pub use selective_scan::{Scan, ScanWay, selective_scan};

/// A product with a bias, where there is one.
pub(crate) fn with_bias(product: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => Ok(product.f_add(bias)?),
        None => Ok(product),
    }
}
