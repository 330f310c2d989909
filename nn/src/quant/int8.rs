//! Eight bits a number and a scale for each row.

use tch::{Device, Kind, Tensor};

use super::parts::{Parts, beside};
use super::{bytes, filled, matrix, plain, refuse_other_shape};
use crate::error::Result;
use crate::shim;
use crate::weights::Weights;

/// A weight in eight bits (LLM.int8(), arXiv 2208.07339, section 2): what bitsandbytes' `int8_vectorwise_quant` gives.
#[derive(Debug)]
pub struct Int8 {
    /// i8 `[out, in]`.
    pub values: Tensor,
    /// The largest magnitude of each row, f32 `[out]`: a number is `value * scb / 127`.
    pub scb: Tensor,
}

impl Int8 {
    /// Packs a weight `[out, in]` of any kind of floating-point number, on its device: each number times 127 over the largest magnitude of
    /// its row, in f32, rounded half to even. A row of zeros stays one.
    ///
    /// bitsandbytes' function computes from the numbers that it is given; its layers round a weight to f16 before they call it. Whoever
    /// wants the bytes of `Linear8bitLt` gives the weight in f16. Waits for the device, to see that all numbers are finite.
    ///
    /// # Errors
    /// Where the weight is no matrix of finite numbers.
    pub fn quantize(weight: &Tensor) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        matrix(weight)?;
        let (values, scb) = by_rows(&plain(weight)?)?;
        Ok(Self { values, scb })
    }

    /// `[out, in]`.
    #[must_use]
    pub fn shape(&self) -> [i64; 2] {
        <[i64; 2]>::try_from(self.values.size()).unwrap_or_default()
    }

    /// The weight's numbers `[out, in]` in f32, f16 or bf16: in f32 those of bitsandbytes, bit for bit; in the others those, rounded once.
    ///
    /// # Errors
    /// Where the kind is another, or memory runs out.
    pub fn dequantize(&self, kind: Kind) -> Result<Tensor> {
        filled(self.shape(), kind, &self.values, |out| self.dequantize_into(out))
    }

    /// Fills `out` `[out, in]`, in f32, f16 or bf16 and on the same device, with the weight's numbers. It may be some rows of a larger
    /// matrix.
    ///
    /// # Errors
    /// Where `out` is of another shape, or memory runs out.
    pub fn dequantize_into(&self, out: &mut Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        refuse_other_shape(self.shape(), out)?;
        #[allow(clippy::cast_possible_truncation)]
        if !shim::dequantise_int8(out, &self.values, &self.scb, STEP as f32)? {
            out.f_copy_(&self.dequantize_plainly()?)?;
        }
        Ok(())
    }

    /// What [`Int8::dequantize`] gives in f32, by plain tensor operations: slower, for comparison.
    ///
    /// # Errors
    /// Where memory runs out.
    pub fn dequantize_plainly(&self) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        numbers(&self.values, &self.scb)
    }

    /// The same on a device.
    ///
    /// # Errors
    /// Where the device has no room for it.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        Ok(Self { values: self.values.f_to(device)?, scb: self.scb.f_to(device)? })
    }

    /// Bytes that values and scales take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes(&[&self.values, &self.scb])
    }

    /// The tensors to store for a weight called `name`, under the names that bitsandbytes has: `X.weight`, `X.SCB`, and `X.weight_format`,
    /// whose 0 says that rows lie behind each other.
    #[must_use]
    pub fn tensors(&self, name: &str) -> Vec<(String, Tensor)> {
        vec![
            (name.to_owned(), self.values.shallow_clone()),
            (beside(name, "SCB"), self.scb.shallow_clone()),
            (beside(name, FORMAT), Tensor::zeros([], (Kind::Uint8, Device::Cpu))),
        ]
    }

    /// Reads what [`Int8::tensors`] or bitsandbytes stored, to the CPU; none where the file has no weight of that name in eight bits.
    ///
    /// # Errors
    /// Where a part is missing or does not fit the others.
    pub fn open(weights: &Weights, name: &str) -> Result<Option<Self>> {
        let parts = Parts::new(weights, name, "int8");
        if !parts.has(&beside(name, "SCB")) && weights.kind(name) != Some(Kind::Int8) {
            return Ok(None);
        }
        let values = parts.tensor(name, Kind::Int8)?;
        let [height, _] = parts.matrix(&values.size())?;
        let scb = parts.shaped(&beside(name, "SCB"), Kind::Float, &[height])?;
        let format = beside(name, FORMAT);
        if parts.has(&format) && parts.shaped(&format, Kind::Uint8, &[])?.f_int64_value(&[])? != 0 {
            return Err(parts.wrong(&format!("its part {format:?} says that its rows do not lie behind each other")));
        }
        Ok(Some(Self { values, scb }))
    }
}

/// The part that says how the values lie.
const FORMAT: &str = "weight_format";

/// 1/127, as bitsandbytes has it.
const STEP: f64 = 7.874_015_718_698_502e-3;

/// Rows `[rows, width]` in eight bits, and the largest magnitude of each, f32 `[rows]`.
pub(super) fn by_rows(rows: &Tensor) -> Result<(Tensor, Tensor)> {
    let largest = rows.f_abs()?.f_amax(1, false)?.f_to_kind(Kind::Float)?;
    let scale = largest.f_reciprocal()?.f_mul_scalar(127.0)?;
    // Where the largest magnitude has no reciprocal in f32, zero times infinity would be no number.
    let scaled = rows.f_mul(&scale.f_unsqueeze(1)?)?.f_nan_to_num(0.0, 127.0, -127.0)?;
    Ok((scaled.f_round()?.f_to_kind(Kind::Int8)?, largest))
}

/// The numbers of rows in eight bits, in f32.
pub(super) fn numbers(values: &Tensor, scb: &Tensor) -> Result<Tensor> {
    Ok(values.f_mul(&scb.f_unsqueeze(1)?)?.f_mul_scalar(STEP)?)
}
