//! A weight in any of the forms.

use tch::{Device, Kind, Tensor};

use super::{Int4, Int8, Nf4};
use crate::error::Result;
use crate::weights::Weights;

/// A weight in few bits, in whichever form.
#[derive(Debug)]
pub enum Quantized {
    /// NormalFloat of four bits.
    Nf4(Nf4),
    /// Eight bits a number, a scale a row.
    Int8(Int8),
    /// Four bits a number, a scale and a minimum a group.
    Int4(Int4),
}

impl Quantized {
    /// Reads the weight of a name, to the CPU; none where the file has it in full.
    ///
    /// # Errors
    /// Where a part is missing or does not fit the others.
    pub fn open(weights: &Weights, name: &str) -> Result<Option<Self>> {
        if let Some(weight) = Nf4::open(weights, name)? {
            return Ok(Some(Self::Nf4(weight)));
        }
        if let Some(weight) = Int4::open(weights, name)? {
            return Ok(Some(Self::Int4(weight)));
        }
        Ok(Int8::open(weights, name)?.map(Self::Int8))
    }

    /// `[out, in]`.
    #[must_use]
    pub fn shape(&self) -> [i64; 2] {
        match self {
            Self::Nf4(weight) => weight.shape,
            Self::Int8(weight) => weight.shape(),
            Self::Int4(weight) => weight.shape,
        }
    }

    /// How many numbers it stands for.
    pub(crate) fn numel(&self) -> u64 {
        self.shape().iter().product::<i64>().unsigned_abs()
    }

    /// The numbers `[out, in]` that it stands for, in a kind of floating-point number.
    ///
    /// # Errors
    /// Where the kind is another, or memory runs out.
    pub fn dequantize(&self, kind: Kind) -> Result<Tensor> {
        match self {
            Self::Nf4(weight) => weight.dequantize(kind),
            Self::Int8(weight) => weight.dequantize(kind),
            Self::Int4(weight) => weight.dequantize(kind),
        }
    }

    /// Fills `out` `[out, in]` with the numbers that it stands for.
    ///
    /// # Errors
    /// Where `out` is of another shape, or memory runs out.
    pub fn dequantize_into(&self, out: &mut Tensor) -> Result<()> {
        match self {
            Self::Nf4(weight) => weight.dequantize_into(out),
            Self::Int8(weight) => weight.dequantize_into(out),
            Self::Int4(weight) => weight.dequantize_into(out),
        }
    }

    /// The same on a device.
    ///
    /// # Errors
    /// Where the device has no room for it.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        Ok(match self {
            Self::Nf4(weight) => Self::Nf4(weight.to_device(device)?),
            Self::Int8(weight) => Self::Int8(weight.to_device(device)?),
            Self::Int4(weight) => Self::Int4(weight.to_device(device)?),
        })
    }

    /// Bytes that codes and scales take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Nf4(weight) => weight.bytes(),
            Self::Int8(weight) => weight.bytes(),
            Self::Int4(weight) => weight.bytes(),
        }
    }

    /// The tensors to store for a weight called `name`.
    #[must_use]
    pub fn tensors(&self, name: &str) -> Vec<(String, Tensor)> {
        match self {
            Self::Nf4(weight) => weight.tensors(name),
            Self::Int8(weight) => weight.tensors(name),
            Self::Int4(weight) => weight.tensors(name),
        }
    }
}
