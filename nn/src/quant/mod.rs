//! Weights in few bits: what a matrix is packed into, on disk and in memory, and how its numbers come back.
//!
//! - [`Nf4`]: four bits a number and a scale for each block of 64 (QLoRA, arXiv 2305.14314); nested scales take eight bits.
//! - [`Int8`]: eight bits a number and a scale for each row (LLM.int8(), arXiv 2208.07339); [`int8_product`] multiplies in whole numbers.
//! - [`Int4`]: four bits a number, a scale and a minimum for each group of inputs, rounded with regard to the inputs that matter.
//!
//! A weight is a matrix `[out, in]`. The first two are the bytes that bitsandbytes 0.48 makes on the CPU, and are stored under its names.

mod dynamic_map;
mod int4;
mod int8;
mod int8_product;
mod model;
mod nearest;
mod nf4;
mod parts;
mod quantized;
mod state;

use tch::{Kind, Tensor};

pub use dynamic_map::dynamic_map;
pub use int4::Int4;
pub use int8::Int8;
pub use int8_product::int8_product;
pub use model::{PackedModel, Scheme, pack_model};
pub use nf4::{Absmax, Nested, Nf4};
pub use quantized::Quantized;

use crate::error::{NnError, Result};

/// The shape of a weight that can be packed: a matrix of finite floating-point numbers, not empty. Waits for the weight's device.
fn matrix(weight: &Tensor) -> Result<[i64; 2]> {
    let (Ok([height, width]), true) = (<[i64; 2]>::try_from(weight.size()), weight.is_floating_point()) else {
        let found =
            format!("a weight of shape {:?} and kind {:?} cannot be quantized: it should be a matrix", weight.size(), weight.kind());
        return Err(NnError::Input(format!("{found} of floating-point numbers")));
    };
    if height * width == 0 {
        return Err(NnError::Input(format!("a weight of shape {:?} cannot be quantized: it is empty", weight.size())));
    }
    if !truth(&weight.f_isfinite()?.f_all()?)? {
        return Err(NnError::Input("a weight cannot be quantized: some of its numbers are not finite".into()));
    }
    Ok([height, width])
}

/// The truth value that a tensor holds. Waits for its device.
fn truth(tensor: &Tensor) -> Result<bool> {
    Ok(tensor.f_int64_value(&[])? != 0)
}

/// A weight as it is quantized: without its history, in one of the kinds that bitsandbytes takes.
fn plain(weight: &Tensor) -> Result<Tensor> {
    let weight = weight.f_detach()?;
    let kind = if weight.kind() == Kind::Double { Kind::Float } else { weight.kind() };
    Ok(weight.f_to_kind(kind)?.f_contiguous()?)
}

/// A matrix of a kind, filled with a weight's numbers.
fn filled(shape: [i64; 2], kind: Kind, like: &Tensor, fill: impl FnOnce(&mut Tensor) -> Result<()>) -> Result<Tensor> {
    if !matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16) {
        return Err(NnError::Input(format!("a weight cannot be dequantized to {kind:?}")));
    }
    let mut out = Tensor::f_empty(shape, (kind, like.device()))?;
    fill(&mut out)?;
    Ok(out)
}

/// Refuses a place for a weight's numbers that is of another shape.
fn refuse_other_shape(shape: [i64; 2], out: &Tensor) -> Result<()> {
    if out.size() == shape {
        return Ok(());
    }
    Err(NnError::Input(format!("a weight of shape {shape:?} does not fit into {:?}", out.size())))
}

/// How many parts of a size there are in a whole, the last perhaps not full; all are positive.
fn ceil(whole: i64, part: i64) -> i64 {
    (whole - 1) / part + 1
}

/// Bytes that tensors take.
fn bytes(tensors: &[&Tensor]) -> usize {
    tensors.iter().map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum()
}
