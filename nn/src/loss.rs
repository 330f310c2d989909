//! Losses.

use tch::{Kind, Reduction, Tensor};

use crate::error::{NnError, Result};
use crate::models::SpanLogits;
use crate::packed::Packed;

/// The loss of a span reader: the mean over sequences of the cross-entropy of the start and of the end, halved and summed (Devlin et al.
/// 2019), each over the tokens of its own sequence. `starts` and `ends` are positions within the sequences, i64 `[sequences]`, on the
/// device of the logits; a position outside its sequence counts for nothing. Gives a scalar in f32 and does not wait for the device.
///
/// # Errors
/// Where the shapes do not fit each other.
pub fn span_loss(logits: &SpanLogits, packed: &Packed, starts: &Tensor, ends: &Tensor) -> Result<Tensor> {
    let rows = packed.sequences();
    if starts.size() != [rows] || ends.size() != [rows] || logits.start.size() != [packed.tokens()] {
        let (start, end) = (starts.size(), ends.size());
        return Err(NnError::Input(format!("{rows} sequences need as many labels, but starts are {start:?} and ends {end:?}")));
    }
    let begins = packed.cu_seqlens()?;
    let lengths = begins.f_narrow(0, 1, rows)?.f_sub(&begins.f_narrow(0, 0, rows)?)?;
    let start = position_loss(&logits.start, packed, starts, &lengths)?;
    let end = position_loss(&logits.end, packed, ends, &lengths)?;
    Ok((start.f_add(&end)?).f_mul_scalar(0.5)?)
}

/// Mean cross-entropy of one position per sequence.
fn position_loss(logits: &Tensor, packed: &Packed, targets: &Tensor, lengths: &Tensor) -> Result<Tensor> {
    const IGNORED: i64 = -100;
    let (rows, width) = (packed.sequences(), packed.width());
    let table = padded(logits, packed)?.f_view([rows, width])?;
    let inside = targets.f_ge(0)?.f_logical_and(&targets.f_lt_tensor(lengths)?)?;
    let targets = targets.f_masked_fill(&inside.f_logical_not()?, IGNORED)?;
    let sum = table.f_cross_entropy_loss::<Tensor>(&targets, None, Reduction::Sum, IGNORED, 0.0)?;
    Ok(sum.f_div(&inside.f_sum(Kind::Float)?.f_clamp_min(1.0)?)?)
}

/// Logits `[tokens]` in the padded table `[sequences * width]`, minus infinity where there is no token.
fn padded(logits: &Tensor, packed: &Packed) -> Result<Tensor> {
    if packed.is_even() {
        return Ok(logits.shallow_clone());
    }
    let size = packed.sequences() * packed.width();
    let empty = Tensor::f_full([size], f64::NEG_INFINITY, (logits.kind(), logits.device()))?;
    Ok(empty.f_index_copy(0, &packed.slots()?, logits)?)
}

/// The log-probability that logits `[tokens, vocabulary]`, f32, give each target, i64 `[tokens]`: f32 `[tokens]`.
pub(crate) fn log_probabilities(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok(logits.f_cross_entropy_loss::<Tensor>(targets, None, Reduction::None, -100, 0.0)?.f_neg()?)
}
