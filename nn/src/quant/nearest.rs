//! The nearest of a few numbers, as it comes out in f32.

use tch::{Kind, Tensor};

use crate::error::Result;

/// For each of some values in f32 the place of the nearest code, the lower of two that are as near; as u8. Codes are in ascending order, at
/// most 256, and values that are no numbers count as below all of them.
///
/// What is nearest is decided by distances that are rounded to f32, as bitsandbytes does; so a border is not the middle of two codes but
/// the first value whose rounded distance to the upper one is less.
pub(super) fn nearest(values: &Tensor, codes: &[f32]) -> Result<Tensor> {
    let borders: Vec<f32> =
        codes.windows(2).filter_map(|pair| pair.first().zip(pair.last())).map(|(&low, &high)| border(low, high)).collect();
    let borders = Tensor::from_slice(&borders).f_to(values.device())?;
    let values = values.f_nan_to_num(f64::from(f32::MIN), None, None)?;
    Ok(values.f_bucketize(&borders, true, true)?.f_to_kind(Kind::Uint8)?)
}

/// The least value that is nearer to the upper one of two codes.
fn border(low: f32, high: f32) -> f32 {
    let (mut below, mut above) = (rank(low), rank(high));
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        let value = of_rank(middle);
        if (high - value).abs() < (value - low).abs() { above = middle } else { below = middle }
    }
    of_rank(above)
}

/// A whole number for each number, in the same order.
fn rank(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The number of a rank.
fn of_rank(rank: u32) -> f32 {
    f32::from_bits(if rank >> 31 == 1 { rank & !(1 << 31) } else { !rank })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_is_the_first_value_that_is_nearer_to_the_upper_code() {
        for (low, high) in [(-1.0, -0.7), (-0.09, 0.0), (0.0, 0.08), (-1e-7, 1e-7), (0.5, 1.0)] {
            let nearer = |value: f32| (high - value).abs() < (value - low).abs();
            let border = border(low, high);
            assert!(nearer(border) && !nearer(of_rank(rank(border) - 1)), "{low} {high}: {border}");
        }
    }
}
