//! Following a teacher: another model that has seen the same windows.

use std::path::Path;

use qapipe_nn::{AnyModel, Forward, Packed, Pairs, Placement, SpanLogits, distillation, models, span_distillation};
use qapipe_stages::features::Info;
use tch::Tensor;

use crate::checkpoint;
use crate::error::Error;

/// A teacher, and how much its word counts.
pub struct Teaching<'a> {
    teacher: AnyModel,
    words: &'a Words,
}

/// How much what counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Words {
    /// Share of the loss that is the distance from the teacher; the rest is that from the gold answers.
    pub share: f64,
    /// What both sides' logits are divided by before they are compared.
    pub temperature: f64,
}

impl<'a> Teaching<'a> {
    /// Opens a teacher's folder, for windows of features.
    ///
    /// # Errors
    /// Where the teacher is of another tokenizer than the features, or cannot answer yet.
    pub fn open(folder: &Path, info: &Info, longest: usize, placement: &Placement, words: &'a Words) -> Result<Self, Error> {
        let (teacher, found) = models::load(folder, placement, 0)?;
        if !found.initialised.is_empty() {
            let message = format!("the teacher cannot answer yet: it has no {}", found.initialised.join(", "));
            return Err(Error::Stage(qapipe_engine::StageError::failed(message).help("fine-tune it first")));
        }
        checkpoint::check_features(teacher.network(), folder, info, longest).map_err(|error| match error {
            Error::Stage(error) => Error::Stage(qapipe_engine::StageError::failed(format!("the teacher: {}", error.message)).help(
                "a teacher sees what its student sees, so both need one tokenizer; fine-tune a teacher on features of this tokenizer",
            )),
            other => other,
        })?;
        Ok(Self { teacher, words })
    }

    /// The loss of a reader with this loss from gold answers.
    ///
    /// # Errors
    /// Where the teacher writes, and what libtorch reports.
    pub fn spans(&self, gold: &Tensor, student: &SpanLogits, packed: &Packed) -> Result<Tensor, Error> {
        let AnyModel::Reader(teacher) = &self.teacher else { return Err(checkpoint::other_form(&self.teacher).into()) };
        let logits = teacher.forward(packed, &mut Forward::inference())?;
        self.mixed(gold, &span_distillation(student, &logits, packed, self.words.temperature)?)
    }

    /// The loss of a writer with this loss from gold answers.
    ///
    /// # Errors
    /// Where the teacher points, and what libtorch reports.
    pub fn texts(&self, gold: &Tensor, student: &Tensor, pairs: &Pairs) -> Result<Tensor, Error> {
        let AnyModel::Writer(teacher) = &self.teacher else { return Err(checkpoint::other_form(&self.teacher).into()) };
        let logits = {
            let _guard = tch::no_grad_guard();
            teacher.logits(pairs, &mut Forward::inference())?
        };
        self.mixed(gold, &distillation(student, &logits, self.words.temperature)?)
    }

    fn mixed(&self, gold: &Tensor, soft: &Tensor) -> Result<Tensor, Error> {
        let Words { share, .. } = *self.words;
        Ok(gold.f_mul_scalar(1.0 - share)?.f_add(&soft.f_mul_scalar(share)?)?)
    }
}
