//! Four bits a number: NormalFloat.

use tch::{Device, Kind, Tensor};

use super::dynamic_map::dynamic_map;
use super::nearest::nearest;
use super::parts::Parts;
use super::state::{self, State};
use super::{bytes, ceil, filled, matrix, plain, refuse_other_shape};
use crate::error::{NnError, Result};
use crate::shim::{self, NestedScales};
use crate::weights::Weights;

/// The sixteen numbers that four bits stand for: quantiles of a normal distribution, zero among them (QLoRA, arXiv 2305.14314, appendix E).
#[allow(clippy::excessive_precision, clippy::unreadable_literal)]
pub(super) const CODES: [f32; 16] = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
];

/// The code of zero, which fills the last byte where the count of numbers is odd.
const ZERO: i64 = 7;

/// How many scales have a scale of their own where scales are nested.
const NESTED_BLOCK: i64 = 256;

/// The sizes of blocks that bitsandbytes has.
const BLOCKS: [i64; 7] = [64, 128, 256, 512, 1024, 2048, 4096];

/// A weight in NormalFloat of four bits: the bytes that bitsandbytes' `quantize_4bit` gives with `quant_type="nf4"`.
#[derive(Debug)]
pub struct Nf4 {
    /// Codes, u8 `[ceil(out * in / 2), 1]`, row by row; the first of two in the high nibble.
    pub packed: Tensor,
    /// The largest magnitude of each block, which its codes are multiplied with.
    pub absmax: Absmax,
    /// `[out, in]`.
    pub shape: [i64; 2],
    /// Numbers in a block: 64, or a power of two up to 4,096. Blocks run on over the ends of rows.
    pub block: i64,
    /// The kind that the weight had: f32, f16 or bf16.
    pub kind: Kind,
}

/// The scales of blocks.
#[derive(Debug)]
pub enum Absmax {
    /// As they are: f32 `[blocks]`.
    Plain(Tensor),
    /// Quantized as well ("double quantization").
    Nested(Nested),
}

/// Scales in eight bits: `map[codes] * absmax + offset`.
#[derive(Debug)]
pub struct Nested {
    /// Codes, u8 `[blocks]`.
    pub codes: Tensor,
    /// The scale of every 256 codes: f32 `[ceil(blocks / 256)]`.
    pub absmax: Tensor,
    /// What a code stands for: f32 `[256]`. [`dynamic_map`], but for the first code, which is -1 where a CPU has quantized.
    pub map: Tensor,
    /// The mean of all scales, which was taken from each.
    pub offset: f32,
    /// How many codes have one scale.
    pub block: i64,
}

impl Nf4 {
    /// Packs a weight `[out, in]` of any kind of floating-point number, on its device. `block` is 64, or another power of two up to 4,096.
    /// `nested` quantizes the scales as well. On the CPU this gives the bytes that bitsandbytes gives, bit for bit; on CUDA the mean of the
    /// scales may differ by a rounding. A block of zeros stays zero; but with nested scales it is as much off zero as its scale is, for
    /// bitsandbytes gives such a block the code of -1. Waits for the device.
    ///
    /// # Errors
    /// Where the weight is no matrix of finite numbers, or the block is of another size.
    pub fn quantize(weight: &Tensor, block: i64, nested: bool) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let shape = matrix(weight)?;
        if !BLOCKS.contains(&block) {
            return Err(NnError::Input(format!("nf4 has no blocks of {block} numbers; there are {BLOCKS:?}")));
        }
        let weight = plain(weight)?;
        let (scaled, absmax) = scaled(&weight.f_view(-1)?, block)?;
        let packed = packed(&nearest(&scaled, &CODES)?)?;
        let absmax = if nested { Absmax::Nested(Nested::quantize(&absmax)?) } else { Absmax::Plain(absmax) };
        Ok(Self { packed, absmax, shape, block, kind: weight.kind() })
    }

    /// The weight's numbers `[out, in]` in f32, f16 or bf16: in f32 those of bitsandbytes, bit for bit; in the others those, rounded once.
    ///
    /// # Errors
    /// Where the kind is another, or memory runs out.
    pub fn dequantize(&self, kind: Kind) -> Result<Tensor> {
        filled(self.shape, kind, &self.packed, |out| self.dequantize_into(out))
    }

    /// Fills `out` `[out, in]`, in f32, f16 or bf16 and on the same device, with the weight's numbers. It may be some rows of a larger
    /// matrix.
    ///
    /// # Errors
    /// Where `out` is of another shape, or memory runs out.
    pub fn dequantize_into(&self, out: &mut Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        refuse_other_shape(self.shape, out)?;
        let (absmax, nested) = match &self.absmax {
            Absmax::Plain(values) => (values, None),
            Absmax::Nested(Nested { codes, absmax, map, offset, block }) => {
                (codes, Some(NestedScales { absmax, map, offset: *offset, block: *block }))
            }
        };
        if !shim::dequantise_nf4(out, [&self.packed, absmax], nested, self.block, &CODES)? {
            out.f_copy_(&self.dequantize_plainly()?)?;
        }
        Ok(())
    }

    /// What [`Nf4::dequantize`] gives in f32, by plain tensor operations: slower, for comparison.
    ///
    /// # Errors
    /// Where memory runs out.
    pub fn dequantize_plainly(&self) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let [height, width] = self.shape;
        let high = self.packed.f_bitwise_right_shift_tensor_scalar(4)?;
        let low = self.packed.f_bitwise_and(15)?;
        let codes = Tensor::f_cat(&[high, low], 1)?.f_view(-1)?.f_to_kind(Kind::Int64)?;
        let numbers = Tensor::from_slice(&CODES).f_to(codes.device())?.f_index_select(0, &codes)?;
        let scales = self.absmax.values()?.f_unsqueeze(1)?;
        let all = scales.size()[0] * self.block;
        let padded = numbers.f_narrow(0, 0, height * width)?.f_constant_pad_nd([0, all - height * width])?;
        let scaled = padded.f_view([-1, self.block])?.f_mul(&scales)?;
        Ok(scaled.f_view(-1)?.f_narrow(0, 0, height * width)?.f_view(self.shape)?)
    }

    /// The same on a device.
    ///
    /// # Errors
    /// Where the device has no room for it.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        let absmax = match &self.absmax {
            Absmax::Plain(values) => Absmax::Plain(values.f_to(device)?),
            Absmax::Nested(nested) => Absmax::Nested(nested.to_device(device)?),
        };
        Ok(Self { packed: self.packed.f_to(device)?, absmax, ..*self })
    }

    /// Bytes that codes and scales take. The tables of what codes stand for, which are the same for all weights, are not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes(&[&self.packed])
            + match &self.absmax {
                Absmax::Plain(values) => bytes(&[values]),
                Absmax::Nested(nested) => bytes(&[&nested.codes, &nested.absmax]),
            }
    }

    /// The tensors to store for a weight called `name`, under the names that bitsandbytes has.
    #[must_use]
    pub fn tensors(&self, name: &str) -> Vec<(String, Tensor)> {
        let mut state = State {
            quant_type: "nf4".into(),
            blocksize: self.block,
            dtype: state::dtype(self.kind).into(),
            shape: self.shape.to_vec(),
            nested_blocksize: None,
            nested_dtype: None,
            nested_offset: None,
        };
        let mut parts = vec![(String::new(), self.packed.shallow_clone()), (".quant_map".into(), Tensor::from_slice(&CODES))];
        match &self.absmax {
            Absmax::Plain(values) => parts.push((".absmax".into(), values.shallow_clone())),
            Absmax::Nested(nested) => {
                state.nested_blocksize = Some(nested.block);
                state.nested_dtype = Some(state::dtype(Kind::Float).into());
                state.nested_offset = Some(f64::from(nested.offset));
                parts.push((".absmax".into(), nested.codes.shallow_clone()));
                parts.push((".nested_absmax".into(), nested.absmax.shallow_clone()));
                parts.push((".nested_quant_map".into(), nested.map.shallow_clone()));
            }
        }
        parts.push((STATE.into(), state.written()));
        parts.into_iter().map(|(part, tensor)| (format!("{name}{part}"), tensor)).collect()
    }

    /// Reads what [`Nf4::tensors`] or bitsandbytes stored, to the CPU; none where the file has no weight of that name in four bits.
    ///
    /// # Errors
    /// Where a part is missing or does not fit the others, or the weight is in fp4.
    pub fn open(weights: &Weights, name: &str) -> Result<Option<Self>> {
        let parts = Parts::new(weights, name, "nf4");
        let part = |suffix: &str| format!("{name}{suffix}");
        if parts.has(&part(".quant_state.bitsandbytes__fp4")) {
            return Err(parts.wrong("it is in fp4, which is not supported; quantize the weight to nf4"));
        }
        if ![STATE, ".absmax", ".quant_map"].iter().any(|suffix| parts.has(&part(suffix))) {
            return Ok(None);
        }
        let state = State::read(&parts.tensor(&part(STATE), Kind::Uint8)?);
        let state = state.map_err(|error| parts.wrong(&format!("its part {:?} is malformed: {error}", part(STATE))))?;
        Self::of_parts(&parts, name, &state).map(Some)
    }

    /// The weight that a state describes.
    fn of_parts(parts: &Parts<'_>, name: &str, state: &State) -> Result<Self> {
        if state.quant_type != "nf4" {
            return Err(parts.wrong(&format!("its quant_type is {:?}", state.quant_type)));
        }
        let shape = parts.matrix(&state.shape)?;
        let block = state.blocksize;
        if !BLOCKS.contains(&block) {
            return Err(parts.wrong(&format!("its blocksize is {block}; there are {BLOCKS:?}")));
        }
        let kind = state::kind(&state.dtype).ok_or_else(|| parts.wrong(&format!("its dtype is {:?}", state.dtype)))?;
        let map = parts.shaped(&format!("{name}.quant_map"), Kind::Float, &[16])?;
        let off = map.f_sub(&Tensor::from_slice(&CODES))?.f_abs()?.f_max()?.f_double_value(&[])?;
        if off.is_nan() || off > 1e-6 {
            return Err(parts.wrong("its quant_map is not that of nf4"));
        }
        let numbers = shape[0] * shape[1];
        let packed = parts.shaped(name, Kind::Uint8, &[ceil(numbers, 2), 1])?;
        let absmax = Absmax::of_parts(parts, name, state, ceil(numbers, block))?;
        Ok(Self { packed, absmax, shape, block, kind })
    }
}

/// What follows a weight's name in that of its state.
const STATE: &str = ".quant_state.bitsandbytes__nf4";

impl Absmax {
    /// The scales in f32 `[blocks]`.
    ///
    /// # Errors
    /// Where memory runs out.
    pub fn values(&self) -> Result<Tensor> {
        match self {
            Self::Plain(values) => Ok(values.shallow_clone()),
            Self::Nested(nested) => nested.values(),
        }
    }

    /// The scales of `blocks` blocks in a file.
    fn of_parts(parts: &Parts<'_>, name: &str, state: &State, blocks: i64) -> Result<Self> {
        let part = |suffix: &str| format!("{name}.{suffix}");
        let is_nested = state.nested_offset.is_some() || state.nested_blocksize.is_some() || parts.has(&part("nested_absmax"));
        if !is_nested {
            return Ok(Self::Plain(parts.shaped(&part("absmax"), Kind::Float, &[blocks])?));
        }
        let (Some(block), Some(offset)) = (state.nested_blocksize, state.nested_offset) else {
            return Err(parts.wrong("its scales are nested, but its state lacks nested_blocksize or nested_offset"));
        };
        if block != NESTED_BLOCK || !offset.is_finite() || state.nested_dtype.as_deref() != Some(state::dtype(Kind::Float)) {
            let found = format!("nested_blocksize {block}, nested_offset {offset}, nested_dtype {:?}", state.nested_dtype);
            return Err(parts.wrong(&format!("its state has {found}; they should be {NESTED_BLOCK}, finite, \"float32\"")));
        }
        let codes = parts.shaped(&part("absmax"), Kind::Uint8, &[blocks])?;
        let absmax = parts.shaped(&part("nested_absmax"), Kind::Float, &[ceil(blocks, block)])?;
        let map = parts.shaped(&part("nested_quant_map"), Kind::Float, &[256])?;
        #[allow(clippy::cast_possible_truncation)]
        Ok(Self::Nested(Nested { codes, absmax, map, offset: offset as f32, block }))
    }
}

impl Nested {
    /// Quantizes scales f32 `[blocks]`: what is left when their mean is taken away, in blocks of 256.
    #[allow(clippy::cast_possible_truncation)]
    fn quantize(values: &Tensor) -> Result<Self> {
        let mut map = dynamic_map();
        // As bitsandbytes has it on the CPU: then the map spans all of [-1, 1].
        map[0] = -1.0;
        let offset = values.f_mean(Kind::Float)?;
        let count = values.size()[0];
        let all = ceil(count, NESTED_BLOCK) * NESTED_BLOCK;
        let rows = values.f_sub(&offset)?.f_constant_pad_nd([0, all - count])?.f_view([-1, NESTED_BLOCK])?;
        let absmax = rows.f_abs()?.f_amax(1, false)?;
        // Where all are equal, nothing is left of them.
        let scaled = rows.f_div(&absmax.f_unsqueeze(1)?)?.f_nan_to_num(0.0, None, None)?;
        let codes = nearest(&scaled, &map)?.f_view(-1)?.f_narrow(0, 0, count)?.f_contiguous()?;
        let map = Tensor::from_slice(&map).f_to(values.device())?;
        let offset = offset.f_double_value(&[])? as f32;
        if !offset.is_finite() {
            return Err(NnError::Input("a weight cannot be quantized with nested scales: the mean of its scales is too large".into()));
        }
        Ok(Self { codes, absmax, map, offset, block: NESTED_BLOCK })
    }

    fn values(&self) -> Result<Tensor> {
        let blocks = self.codes.size()[0];
        let numbers = self.map.f_index_select(0, &self.codes.f_to_kind(Kind::Int64)?)?;
        let scales = self.absmax.f_repeat_interleave_self_int(self.block, 0, None)?.f_narrow(0, 0, blocks)?;
        Ok(numbers.f_mul(&scales)?.f_add_scalar(f64::from(self.offset))?)
    }

    fn to_device(&self, device: Device) -> Result<Self> {
        let [codes, absmax, map] = [self.codes.f_to(device)?, self.absmax.f_to(device)?, self.map.f_to(device)?];
        Ok(Self { codes, absmax, map, ..*self })
    }
}

/// Numbers `[n]` divided by the largest magnitude of their block, in f32 `[n]`, and those magnitudes, f32 `[blocks]`. The numbers of a last
/// block that is not full are rounded to their own kind, and those of a block whose largest magnitude has no reciprocal in f32 are lost: as
/// bitsandbytes does.
fn scaled(numbers: &Tensor, block: i64) -> Result<(Tensor, Tensor)> {
    let count = numbers.size()[0];
    let (full, rest) = (count / block, count % block);
    let rows = numbers.f_narrow(0, 0, full * block)?.f_view([full, block])?;
    let largest = rows.f_abs()?.f_amax(1, false)?.f_to_kind(Kind::Float)?;
    let scaled = rows.f_mul(&largest.f_reciprocal()?.f_unsqueeze(1)?)?.f_clamp(-1.0, 1.0)?.f_view(-1)?;
    if rest == 0 {
        return Ok((scaled, largest));
    }
    let rest = numbers.f_narrow(0, full * block, rest)?;
    let its_largest = rest.f_abs()?.f_max()?.f_to_kind(Kind::Float)?;
    let its_scaled = rest.f_to_kind(Kind::Float)?.f_mul(&its_largest.f_reciprocal()?)?.f_to_kind(numbers.kind())?;
    let its_scaled = its_scaled.f_clamp(-1.0, 1.0)?.f_to_kind(Kind::Float)?;
    Ok((Tensor::f_cat(&[scaled, its_scaled], 0)?, Tensor::f_cat(&[largest, its_largest.f_view(1)?], 0)?))
}

/// Codes u8 `[n]`, two a byte: `[ceil(n / 2), 1]`.
fn packed(codes: &Tensor) -> Result<Tensor> {
    let even = if codes.size()[0] % 2 == 0 {
        codes.shallow_clone()
    } else {
        Tensor::f_cat(&[codes.shallow_clone(), Tensor::f_full(1, ZERO, (Kind::Uint8, codes.device()))?], 0)?
    };
    let pairs = even.f_view([-1, 2])?;
    let high = pairs.f_narrow(1, 0, 1)?.f_bitwise_left_shift_tensor_scalar(4)?;
    Ok(high.f_bitwise_or_tensor(&pairs.f_narrow(1, 1, 1)?)?)
}
