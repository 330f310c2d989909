//! Pruned matrices on disk: a bit for each weight, and those that stay.

use std::fmt::Display;

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::weights::Weights;

/// What is put after a tensor's name: its bits, the first weight of eight in the highest (as `numpy.packbits` has them), u8 `[weights / 8]`;
/// the values that stay, row by row; its shape, i32.
const PARTS: [&str; 3] = [".mask", ".mask_values", ".mask_shape"];

/// Pruned matrices as they are stored.
pub(crate) struct Pruned;

impl Pruned {
    /// Whether a tensor of a name is stored so.
    pub(crate) fn is_in(weights: &Weights, name: &str) -> bool {
        weights.contains(&format!("{name}{}", PARTS[0]))
    }

    /// The names of the tensors that a tensor of a name is stored in.
    pub(crate) fn names(name: &str) -> [String; 3] {
        PARTS.map(|part| format!("{name}{part}"))
    }

    /// Reads a tensor of a name: all its weights, f32, zero where they are left out.
    pub(crate) fn open(weights: &Weights, name: &str) -> Result<Tensor> {
        let [_, values, _] = Self::names(name);
        let (mask, values) = (Self::mask(weights, name)?, weights.floats(&values)?);
        let stay = mask.f_sum(Kind::Int64)?.int64_value(&[]);
        if values.size() != [stay] {
            return Err(wrong(weights, name, &format!("mask keeps {stay} weights, and there are {:?}", values.size())));
        }
        Ok(Tensor::f_zeros(mask.size(), (Kind::Float, Device::Cpu))?.f_masked_scatter(&mask, &values)?)
    }

    /// Reads which weights of a tensor of a name stay: truth values of its shape.
    pub(crate) fn mask(weights: &Weights, name: &str) -> Result<Tensor> {
        let wrong = |what: &dyn Display| wrong(weights, name, what);
        let [mask, _, shape] = Self::names(name);
        let shape: Vec<i64> = Vec::<i32>::try_from(weights.whole_numbers(&shape)?)?.into_iter().map(i64::from).collect();
        let count = shape.iter().try_fold(1_i64, |count, &size| if size > 0 { count.checked_mul(size) } else { None });
        let count = count.filter(|&count| shape.len() == 2 && count < 1 << 40).ok_or_else(|| wrong(&"shape is none of a matrix"))?;
        let bits = weights.tensor(&mask)?;
        if bits.kind() != Kind::Uint8 || bits.size() != [(count + 7) / 8] {
            return Err(wrong(&format!("mask has no bit for each of {count} weights")));
        }
        Ok(unpack(&bits, count)?.f_view(shape.as_slice())?)
    }

    /// The tensors that a matrix is stored in, by name, the values in a kind.
    pub(crate) fn tensors(name: &str, weight: &Tensor, mask: &Tensor, kind: Kind) -> Result<Vec<(String, Tensor)>> {
        let [bits, values, shape] = Self::names(name);
        let (weight, mask) = (weight.f_to(Device::Cpu)?, mask.f_to(Device::Cpu)?);
        let sizes = Tensor::f_from_slice(&weight.size())?.f_to_kind(Kind::Int)?;
        let kept = weight.f_masked_select(&mask)?.f_to_kind(kind)?;
        Ok(vec![(bits, pack(&mask)?), (values, kept), (shape, sizes)])
    }
}

/// The error for a tensor of a name of which something does not fit.
fn wrong(weights: &Weights, name: &str, what: &dyn Display) -> NnError {
    NnError::Fit(format!("{name}: its {what} ({})", weights.path().display()))
}

/// The place values of eight bits.
const PLACES: [u8; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

/// Truth values as bits, zero where the last byte is not full.
fn pack(mask: &Tensor) -> Result<Tensor> {
    let flat = mask.f_contiguous()?.f_view([-1])?.f_to_kind(Kind::Uint8)?;
    let missing = (8 - flat.size()[0] % 8) % 8;
    let flat = flat.f_constant_pad_nd([0, missing])?.f_view([-1, 8])?;
    Ok(flat.f_mul(&Tensor::f_from_slice(&PLACES)?)?.f_sum_dim_intlist(1_i64, false, Kind::Uint8)?)
}

/// So many truth values out of bits.
fn unpack(bits: &Tensor, count: i64) -> Result<Tensor> {
    let set = bits.f_unsqueeze(1)?.f_bitwise_and_tensor(&Tensor::f_from_slice(&PLACES)?)?.f_ne(0)?;
    Ok(set.f_view([-1])?.f_narrow(0, 0, count)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_numpys() {
        let mask = Tensor::from_slice(&[true, false, false, false, false, false, true, true, false, true]);
        let bits = pack(&mask).unwrap();
        assert_eq!(Vec::<u8>::try_from(&bits).unwrap(), [0b1000_0011, 0b0100_0000]);
        assert_eq!(Vec::<bool>::try_from(unpack(&bits, 10).unwrap()).unwrap(), Vec::<bool>::try_from(mask).unwrap());
    }
}
