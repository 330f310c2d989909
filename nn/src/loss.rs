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
    let lengths = packed.counts()?;
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

/// How far a span reader is from a teacher on the same windows: the mean over sequences of KL(teacher ‖ student) of the start and of the end,
/// halved and summed, each over the tokens of the sequence, with both sides' logits divided by `temperature` and the whole multiplied with its
/// square (Hinton et al. 2015, arXiv 1503.02531). A scalar in f32.
///
/// # Errors
/// Where the two are of different windows.
pub fn span_distillation(student: &SpanLogits, teacher: &SpanLogits, packed: &Packed, temperature: f64) -> Result<Tensor> {
    let of = |student: &Tensor, teacher: &Tensor| {
        let table = |logits: &Tensor| Ok::<_, NnError>(padded(logits, packed)?.f_view([packed.sequences(), packed.width()])?);
        distillation(&table(student)?, &table(teacher)?, temperature)
    };
    let (start, end) = (of(&student.start, &teacher.start)?, of(&student.end, &teacher.end)?);
    Ok(start.f_add(&end)?.f_mul_scalar(0.5)?)
}

/// The mean over rows of KL(teacher ‖ student) of logits `[rows, classes]`, both divided by `temperature`, times its square.
///
/// # Errors
/// Where the two are of different shapes.
pub fn distillation(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    if student.size() != teacher.size() {
        return Err(NnError::Input(format!("a teacher's logits {:?} do not fit a student's {:?}", teacher.size(), student.size())));
    }
    let log = |logits: &Tensor| logits.f_to_kind(Kind::Float)?.f_div_scalar(temperature)?.f_log_softmax(1, Kind::Float);
    let (student, teacher) = (log(student)?, log(&teacher.f_detach()?)?);
    // Where there is no token both are minus infinity, and their difference is no number.
    let gap = teacher.f_sub(&student)?.f_masked_fill(&teacher.f_isneginf()?, 0.0)?;
    let sums = teacher.f_exp()?.f_mul(&gap)?.f_sum_dim_intlist(1_i64, false, Kind::Float)?;
    Ok(sums.f_mean(Kind::Float)?.f_mul_scalar(temperature * temperature)?)
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
