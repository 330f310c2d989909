//! Products in whole numbers with a weight in eight bits.

use tch::{Kind, Tensor};

use super::Int8;
use super::int8::{by_rows, numbers};
use crate::error::{NnError, Result};

/// 1/127², as bitsandbytes has it.
const STEP: f64 = 6.200_124e-5;

/// Fewest rows that the product on CUDA takes, and what it wants widths to be multiples of.
const LEAST_ROWS: i64 = 17;
const MULTIPLE: i64 = 8;

/// `x` `[..., in]` times the transpose of a weight `[out, in]`: each row of `x` is brought to eight bits as the weight's rows are, the
/// product is summed in whole numbers of 32 bits, which is exact, and scaled once. Gives `[..., out]` of `x`'s kind, without a gradient.
///
/// With a threshold for `outliers` this is LLM.int8() (arXiv 2208.07339, section 3; 6.0 there): numbers of `x` that reach it are set to
/// zero before the rows are scaled, the columns in which there are any are left out of the product in eight bits, and multiplied in `x`'s
/// kind with the dequantized columns of the weight. To learn which columns these are, it waits for the device, after all else is under way;
/// without a threshold nothing waits.
///
/// # Errors
/// Where the widths differ, or memory runs out.
pub fn int8_product(x: &Tensor, weight: &Int8, outliers: Option<f64>) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let [height, width] = weight.shape();
    let mut shape = x.size();
    if shape.last() != Some(&width) || !x.is_floating_point() {
        return Err(NnError::Input(format!("{:?} of kind {:?} cannot be multiplied with {height} rows of {width}", x.size(), x.kind())));
    }
    let rows = x.f_detach()?.f_reshape([-1, width])?;
    let product = match outliers {
        None => {
            let (values, scales) = by_rows(&rows)?;
            scaled(&values, &scales, weight, x.kind())?
        }
        Some(threshold) => apart(&rows, weight, threshold)?,
    };
    if let Some(last) = shape.last_mut() {
        *last = height;
    }
    Ok(product.f_view(shape.as_slice())?)
}

/// The product with the columns that have outliers apart.
fn apart(rows: &Tensor, weight: &Int8, threshold: f64) -> Result<Tensor> {
    let large = rows.f_abs()?.f_ge(threshold)?;
    let columns = large.f_any_dim(0, false)?;
    let (values, scales) = by_rows(&rows.f_masked_fill(&large, 0.0)?)?;
    let product = scaled(&values.f_masked_fill(&columns.f_unsqueeze(0)?, 0)?, &scales, weight, rows.kind())?;
    let columns = columns.f_nonzero()?.f_view(-1)?;
    if columns.numel() == 0 {
        return Ok(product);
    }
    let kept = numbers(&weight.values.f_index_select(1, &columns)?, &weight.scb)?.f_to_kind(rows.kind())?;
    Ok(product.f_addmm(&rows.f_index_select(1, &columns)?, &kept.f_tr()?)?)
}

/// The product of rows in eight bits, scaled.
fn scaled(values: &Tensor, scales: &Tensor, weight: &Int8, kind: Kind) -> Result<Tensor> {
    let scales = scales.f_unsqueeze(1)?.f_mul(&weight.scb.f_unsqueeze(0)?)?;
    Ok(whole(values, &weight.values)?.f_mul(&scales)?.f_mul_scalar(STEP)?.f_to_kind(kind)?)
}

/// `[rows, width]` times the transpose of `[height, width]`, both i8, in i32. What is missing for the product on CUDA is filled up with
/// zeros.
fn whole(rows: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (count, height) = (rows.size()[0], weight.size()[0]);
    if !rows.device().is_cuda() {
        return Ok(rows.f_internal_int_mm(&weight.f_tr()?)?);
    }
    let missing = |size: i64| (MULTIPLE - size % MULTIPLE) % MULTIPLE;
    let width = missing(rows.size()[1]);
    let rows = padded(rows, width, (LEAST_ROWS - count).max(0))?;
    let weight = padded(weight, width, missing(height))?;
    Ok(rows.f_internal_int_mm(&weight.f_tr()?)?.f_narrow(0, 0, count)?.f_narrow(1, 0, height)?)
}

/// A matrix with columns and rows of zeros at its end.
fn padded(matrix: &Tensor, columns: i64, rows: i64) -> Result<Tensor> {
    if columns == 0 && rows == 0 { Ok(matrix.shallow_clone()) } else { Ok(matrix.f_constant_pad_nd([0, columns, 0, rows])?) }
}
