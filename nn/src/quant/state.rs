//! What bitsandbytes writes beside a weight in four bits, besides tensors: a JSON text, stored as a tensor of bytes.

use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::error::Result;

/// The state of a quantized weight; the last three where its scales are quantized as well.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) quant_type: String,
    pub(super) blocksize: i64,
    pub(super) dtype: String,
    pub(super) shape: Vec<i64>,
    pub(super) nested_blocksize: Option<i64>,
    pub(super) nested_dtype: Option<String>,
    pub(super) nested_offset: Option<f64>,
}

impl State {
    /// Reads the text out of a tensor of bytes.
    pub(super) fn read(tensor: &Tensor) -> Result<Self, String> {
        let mut bytes = vec![0; tensor.numel()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel()).map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// The text as a tensor of bytes, spaced as Python writes it.
    pub(super) fn written(&self) -> Tensor {
        let mut text = format!(
            r#"{{"quant_type": "{}", "blocksize": {}, "dtype": "{}", "shape": {:?}"#,
            self.quant_type, self.blocksize, self.dtype, self.shape
        );
        if let (Some(blocksize), Some(dtype), Some(offset)) = (self.nested_blocksize, &self.nested_dtype, self.nested_offset) {
            text += &format!(r#", "nested_blocksize": {blocksize}, "nested_dtype": "{dtype}", "nested_offset": {}"#, number(offset));
        }
        text.push('}');
        Tensor::from_slice(text.as_bytes())
    }
}

/// A number as Python writes it: with as few digits as say which it is, and of two such texts that are equally near the even one, where Rust
/// takes the larger; with an exponent of two digits where it is below -4 or above 15.
fn number(value: f64) -> String {
    let shortest = format!("{value:e}");
    let Some((digits, exponent)) = shortest.split_once('e') else { return shortest };
    let Ok(exponent) = exponent.parse::<i32>() else { return shortest };
    let after_point = digits.split_once('.').map_or(0, |(_, digits)| digits.len());
    if !(-4..16).contains(&exponent) {
        let even = exactly(value, format!("{value:.after_point$e}"), &shortest);
        let digits = even.split_once('e').map_or(digits, |(digits, _)| digits);
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let places = i32::try_from(after_point).unwrap_or(0) - exponent;
    let places = usize::try_from(places).unwrap_or(0).max(1);
    exactly(value, format!("{value:.places$}"), &format!("{value:?}"))
}

/// A text of a number, where it says which it is; else another.
fn exactly(value: f64, text: String, other: &str) -> String {
    if text.parse() == Ok(value) { text } else { other.to_owned() }
}

/// torch's name of a kind of floating-point number.
pub(super) fn dtype(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        _ => "float32",
    }
}

/// The kind of a name that [`dtype`] gives.
pub(super) fn kind(dtype: &str) -> Option<Kind> {
    [Kind::Float, Kind::Half, Kind::BFloat16].into_iter().find(|&kind| self::dtype(kind) == dtype)
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (value, text) in [
            (2.5, "2.5"),
            (0.0001, "0.0001"),
            (0.000_015, "1.5e-05"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (-3.25e-120, "-3.25e-120"),
            (0.0, "0.0"),
            (100.0, "100.0"),
            // Each lies in the middle between two texts of so many digits.
            (0.699_440_002_441_406_2, "0.6994400024414062"),
            (2.980_232_238_769_531_2e-8, "2.9802322387695312e-08"),
        ] {
            assert_eq!(super::number(value), text);
        }
    }
}
