//! Four bits a number, a scale and a minimum for each group of inputs.

use tch::{Device, Kind, Tensor};

use super::parts::Parts;
use super::{bytes, ceil, filled, matrix, plain, refuse_other_shape, truth};
use crate::error::{NnError, Result};
use crate::weights::Weights;

/// The largest code.
const MOST: f64 = 15.0;

/// How many ranges are tried where it is known which inputs matter: from the whole one down to half of it.
const TRIES: u8 = 20;

/// Magnitudes between which f16 is as exact as its eleven digits allow.
const HALF: [f64; 2] = [6.2e-5, 65504.0];

/// A weight in four bits: a number is `code * scale + minimum`, with one scale and one minimum for each group of inputs along a row.
///
/// Where it is known how large each input is on average, each group's range is shrunk to where the error of the outputs is least: what is
/// lost at the ends of a range is gained in its steps. (AWQ, arXiv 2306.00978, searches ranges in this way, and weighs by inputs.)
#[derive(Debug)]
pub struct Int4 {
    /// Codes, u8 `[out, ceil(in / 2)]`; the first of two in the high nibble.
    pub packed: Tensor,
    /// f16 `[out, groups]`, or f32 where f16 would not do.
    pub scale: Tensor,
    /// Of the same shape and kind: what the code 0 stands for.
    pub minimum: Tensor,
    /// `[out, in]`.
    pub shape: [i64; 2],
    /// Inputs in a group. The last group of a row may be smaller.
    pub group: i64,
}

impl Int4 {
    /// How many inputs a group has where nothing else is asked for.
    pub const GROUP: i64 = 128;

    /// Packs a weight `[out, in]` of any kind of floating-point number, on its device, in groups of `group` inputs. `importance`, f32
    /// `[in]`, is the mean square of each input; without it each group's range is that of its numbers. Waits for the device.
    ///
    /// # Errors
    /// Where the weight is no matrix of finite numbers, the group is not positive, or the importance is not one number for each input.
    pub fn quantize(weight: &Tensor, group: i64, importance: Option<&Tensor>) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let shape = matrix(weight)?;
        if group < 1 {
            return Err(NnError::Input(format!("a group of {group} inputs cannot be")));
        }
        let group = group.min(shape[1]);
        let groups = grouped(&plain(weight)?.f_to_kind(Kind::Float)?, group)?;
        let whole = Grid::of(&groups, 1.0)?;
        let grid = match importance {
            None => whole,
            Some(importance) => best(&groups, whole, &weights(importance, shape[1], group, weight.device())?)?,
        };
        let codes = grid.codes(&groups)?.f_view([shape[0], -1])?.f_narrow(1, 0, shape[1])?;
        let packed = packed(&codes.f_to_kind(Kind::Uint8)?)?;
        let [scale, minimum] = [grid.scale, grid.minimum].map(|part| part.f_squeeze_dim(2).and_then(|part| part.f_to_kind(grid.kind)));
        Ok(Self { packed, scale: scale?, minimum: minimum?, shape, group })
    }

    /// The weight's numbers `[out, in]` in f32, f16 or bf16: computed in f32, rounded once.
    ///
    /// # Errors
    /// Where the kind is another, or memory runs out.
    pub fn dequantize(&self, kind: Kind) -> Result<Tensor> {
        filled(self.shape, kind, &self.packed, |out| self.dequantize_into(out))
    }

    /// Fills `out` `[out, in]`, of any kind of floating-point number, with the weight's numbers. It may be some rows of a larger matrix.
    ///
    /// # Errors
    /// Where `out` is of another shape, or memory runs out.
    pub fn dequantize_into(&self, out: &mut Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        refuse_other_shape(self.shape, out)?;
        let [height, width] = self.shape;
        let high = self.packed.f_bitwise_right_shift_tensor_scalar(4)?;
        let codes = Tensor::f_stack(&[high, self.packed.f_bitwise_and(15)?], 2)?.f_view([height, -1])?.f_narrow(1, 0, width)?;
        let groups = grouped(&codes.f_to_kind(Kind::Float)?, self.group)?;
        let [scale, minimum] = [&self.scale, &self.minimum].map(|part| part.f_to_kind(Kind::Float).and_then(|part| part.f_unsqueeze(2)));
        let numbers = groups.f_mul(&scale?)?.f_add(&minimum?)?.f_view([height, -1])?.f_narrow(1, 0, width)?;
        out.f_copy_(&numbers)?;
        Ok(())
    }

    /// The same on a device.
    ///
    /// # Errors
    /// Where the device has no room for it.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        let [packed, scale, minimum] = [self.packed.f_to(device)?, self.scale.f_to(device)?, self.minimum.f_to(device)?];
        Ok(Self { packed, scale, minimum, ..*self })
    }

    /// Bytes that codes, scales and minima take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes(&[&self.packed, &self.scale, &self.minimum])
    }

    /// The tensors to store for a weight called `name`: codes under its name, then `.scale`, `.minimum`, and `.shape`, i32: out, in, group.
    #[must_use]
    pub fn tensors(&self, name: &str) -> Vec<(String, Tensor)> {
        let shape = Tensor::from_slice(&[self.shape[0], self.shape[1], self.group]).to_kind(Kind::Int);
        vec![
            (name.to_owned(), self.packed.shallow_clone()),
            (format!("{name}.scale"), self.scale.shallow_clone()),
            (format!("{name}.minimum"), self.minimum.shallow_clone()),
            (format!("{name}.shape"), shape),
        ]
    }

    /// Reads what [`Int4::tensors`] stored, to the CPU; none where the file has no weight of that name in this format.
    ///
    /// # Errors
    /// Where a part is missing or does not fit the others.
    pub fn open(weights: &Weights, name: &str) -> Result<Option<Self>> {
        let parts = Parts::new(weights, name, "int4");
        let part = |suffix: &str| format!("{name}.{suffix}");
        if !["scale", "minimum", "shape"].iter().any(|suffix| parts.has(&part(suffix))) {
            return Ok(None);
        }
        let sizes = parts.shaped(&part("shape"), Kind::Int, &[3])?;
        let [height, width, group] = [0, 1, 2].map(|at| sizes.f_int64_value(&[at]));
        let (shape, group) = (parts.matrix(&[height?, width?])?, group?);
        if group < 1 || group > shape[1] {
            return Err(parts.wrong(&format!("groups of {group} inputs cannot be in rows of {}", shape[1])));
        }
        let packed = parts.shaped(name, Kind::Uint8, &[shape[0], ceil(shape[1], 2)])?;
        let kind = if weights.kind(&part("scale")) == Some(Kind::Half) { Kind::Half } else { Kind::Float };
        let groups = [shape[0], ceil(shape[1], group)];
        let scale = parts.shaped(&part("scale"), kind, &groups)?;
        let minimum = parts.shaped(&part("minimum"), kind, &groups)?;
        Ok(Some(Self { packed, scale, minimum, shape, group }))
    }
}

/// Sixteen equal steps for each group: scale and minimum f32 `[out, groups, 1]`, as they come out of the kind that they are stored in.
struct Grid {
    scale: Tensor,
    minimum: Tensor,
    kind: Kind,
}

impl Grid {
    /// The steps over the range of each group, shrunk to a part of it about its middle.
    fn of(groups: &Tensor, part: f64) -> Result<Self> {
        let (least, most) = (groups.f_amin(2, true)?, groups.f_amax(2, true)?);
        // Halves, for the width of a range may be too large for f32.
        let middle = least.f_mul_scalar(0.5)?.f_add(&most.f_mul_scalar(0.5)?)?;
        let reach = most.f_mul_scalar(0.5)?.f_sub(&least.f_mul_scalar(0.5)?)?.f_mul_scalar(part)?;
        let minimum = if part < 1.0 { middle.f_sub(&reach)? } else { least };
        let scale = reach.f_mul_scalar(2.0 / MOST)?;
        let kind = kind(&scale, &minimum)?;
        let [scale, minimum] = [scale, minimum].map(|one| one.f_to_kind(kind).and_then(|one| one.f_to_kind(Kind::Float)));
        Ok(Self { scale: scale?, minimum: minimum?, kind })
    }

    /// The nearest step of each number, in f32. In a group of equal numbers it is the first.
    fn codes(&self, groups: &Tensor) -> Result<Tensor> {
        let mut steps = groups.f_sub(&self.minimum)?;
        let _same = steps.f_div_(&self.scale)?.f_round_()?.f_nan_to_num_(0.0, MOST, 0.0)?.f_clamp_(0.0, MOST)?;
        Ok(steps)
    }

    /// The weighted squared error of each group, f64 `[out, groups, 1]`.
    fn error(&self, groups: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let mut off = self.codes(groups)?;
        let _same = off.f_mul_(&self.scale)?.f_add_(&self.minimum)?.f_sub_(groups)?.f_square_()?.f_mul_(weights)?;
        Ok(off.f_sum_dim_intlist(2, true, Kind::Double)?)
    }
}

/// The grid with the least error of each group, among those of shrunk ranges; the whole range where none is better.
fn best(groups: &Tensor, whole: Grid, weights: &Tensor) -> Result<Grid> {
    let (mut least, mut best) = (whole.error(groups, weights)?, whole);
    for shrunk in 1..TRIES {
        let part = 1.0 - 0.5 * f64::from(shrunk) / f64::from(TRIES - 1);
        let grid = Grid::of(groups, part)?;
        // All grids of a weight are stored in one kind, and the whole range decides which.
        if grid.kind != best.kind {
            break;
        }
        let error = grid.error(groups, weights)?;
        let better = error.f_lt_tensor(&least)?;
        least = error.f_where_self(&better, &least)?;
        best.scale = grid.scale.f_where_self(&better, &best.scale)?;
        best.minimum = grid.minimum.f_where_self(&better, &best.minimum)?;
    }
    Ok(best)
}

/// f16, where it holds all scales and minima to its full precision; else f32. Waits for the device.
fn kind(scale: &Tensor, minimum: &Tensor) -> Result<Kind> {
    let fits = |one: &Tensor| -> Result<Tensor> {
        let size = one.f_abs()?;
        Ok(size.f_ge(HALF[0])?.f_logical_and(&size.f_le(HALF[1])?)?.f_logical_or(&size.f_eq(0.0)?)?.f_all()?)
    };
    // A minimum may be small without harm: what counts is how it compares with the steps.
    let low = minimum.f_abs()?.f_le(HALF[1])?.f_all()?;
    Ok(if truth(&fits(scale)?.f_logical_and(&low)?)? { Kind::Half } else { Kind::Float })
}

/// Rows `[out, in]` in groups: `[out, groups, group]`. A last group that is not full is filled up with its last number.
fn grouped(rows: &Tensor, group: i64) -> Result<Tensor> {
    let [height, width] = <[i64; 2]>::try_from(rows.size()).unwrap_or_default();
    let missing = ceil(width, group) * group - width;
    let last = rows.f_narrow(1, width - 1, 1)?.f_expand([height, missing], false)?;
    Ok(Tensor::f_cat(&[rows.shallow_clone(), last], 1)?.f_view([height, -1, group])?)
}

/// The importance of inputs f32 `[in]` in groups: f32 `[1, groups, group]`; what fills up the last group does not count.
fn weights(importance: &Tensor, width: i64, group: i64, device: Device) -> Result<Tensor> {
    if importance.size() != [width] || !importance.is_floating_point() {
        let found = format!("an importance of shape {:?} and kind {:?}", importance.size(), importance.kind());
        return Err(NnError::Input(format!("{found} does not fit {width} inputs")));
    }
    let importance = importance.f_detach()?.f_to_device_(device, Kind::Float, false, false)?;
    if !truth(&importance.f_isfinite()?.f_logical_and(&importance.f_ge(0.0)?)?.f_all()?)? {
        return Err(NnError::Input("an importance of inputs has numbers that are negative or not finite".into()));
    }
    let missing = ceil(width, group) * group - width;
    Ok(importance.f_constant_pad_nd([0, missing])?.f_view([1, -1, group])?)
}

/// Codes u8 `[out, in]`, two a byte: `[out, ceil(in / 2)]`.
fn packed(codes: &Tensor) -> Result<Tensor> {
    let (height, width) = (codes.size()[0], codes.size()[1]);
    let pairs = codes.f_constant_pad_nd([0, width % 2])?.f_view([height, -1, 2])?;
    let high = pairs.f_select(2, 0)?.f_bitwise_left_shift_tensor_scalar(4)?;
    Ok(high.f_bitwise_or_tensor(&pairs.f_select(2, 1)?)?)
}
