//! Layers: what models are put together from. States are packed, `[tokens, features]`.

mod activation;
mod attention;
mod embedding;
mod layer_norm;
mod linear;
mod rms_norm;

pub(crate) use activation::Activation;
pub(crate) use attention::{Heads, attention};
pub(crate) use embedding::Embedding;
pub(crate) use layer_norm::LayerNorm;
pub(crate) use linear::Linear;
#[allow(unused_imports)]
pub(crate) use rms_norm::RmsNorm;
