//! Following a teacher: another model that has seen the same windows.

use std::path::Path;

use qapipe_nn::{
    AnyModel, Forward, Matching, Packed, Pairs, Placement, Recorder, SpanLogits, Wanted, attention_distance, distillation, models,
    span_distillation, state_distance,
};
use qapipe_stages::features::Info;
use tch::Tensor;

use crate::checkpoint;
use crate::error::Error;

/// A teacher, and how much its word counts.
pub struct Teaching<'a> {
    teacher: AnyModel,
    words: &'a Words,
    /// What the layers of teacher and student hand out, where that is compared.
    recorders: Option<[Recorder; 2]>,
}

/// How much what counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Words {
    /// Share of the loss that is the distance from the teacher's answers; the rest is that from the gold answers.
    pub share: f64,
    /// What both sides' logits are divided by before they are compared.
    pub temperature: f64,
    /// What the distance of states is multiplied with in the loss.
    pub hidden: f64,
    /// What the distance of attention is multiplied with in the loss.
    pub attention: f64,
    /// Which layers are compared.
    pub matching: Matching,
}

impl Words {
    /// What layers have to hand out, where they have to.
    fn wanted(&self) -> Option<Wanted> {
        let wanted = Wanted { states: self.hidden > 0.0, attention: self.attention > 0.0 };
        (wanted != Wanted::default()).then_some(wanted)
    }
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
        let recorders = words.wanted().map(|wanted| [Recorder::new(wanted), Recorder::new(wanted)]);
        Ok(Self { teacher, words, recorders })
    }

    /// How the student runs: as it would, and what its layers hand out is kept where it is compared.
    #[must_use]
    pub fn student(&self, forward: Forward) -> Forward {
        match &self.recorders {
            Some([_, student]) => forward.recording(student),
            None => forward,
        }
    }

    /// The loss of a reader with this loss from gold answers.
    ///
    /// # Errors
    /// Where the teacher writes or its layers cannot be compared with the student's, and what libtorch reports.
    pub fn spans(&self, gold: &Tensor, student: &SpanLogits, packed: &Packed) -> Result<Tensor, Error> {
        let AnyModel::Reader(teacher) = &self.teacher else { return Err(checkpoint::other_form(&self.teacher).into()) };
        let logits = teacher.forward(packed, &mut self.forward())?;
        let loss = self.mixed(gold, &span_distillation(student, &logits, packed, self.words.temperature)?)?;
        self.with_layers(loss, None)
    }

    /// The loss of a writer with this loss from gold answers.
    ///
    /// # Errors
    /// Where the teacher points or its layers cannot be compared with the student's, and what libtorch reports.
    pub fn texts(&self, gold: &Tensor, student: &Tensor, pairs: &Pairs) -> Result<Tensor, Error> {
        let AnyModel::Writer(teacher) = &self.teacher else { return Err(checkpoint::other_form(&self.teacher).into()) };
        let logits = {
            let _guard = tch::no_grad_guard();
            teacher.logits(pairs, &mut self.forward())?
        };
        let loss = self.mixed(gold, &distillation(student, &logits, self.words.temperature)?)?;
        if self.recorders.is_none() {
            return Ok(loss);
        }
        // A pair counts in a batch for as much as it has target tokens, whatever part of the batch is in the model at once.
        #[allow(clippy::cast_precision_loss)]
        let weights: Vec<f32> = pairs.lengths().iter().map(|&length| length as f32).collect();
        self.with_layers(loss, Some(&Tensor::f_from_slice(&weights)?.f_to(student.device())?))
    }

    /// How the teacher runs.
    fn forward(&self) -> Forward {
        match &self.recorders {
            Some([teacher, _]) => Forward::inference().recording(teacher),
            None => Forward::inference(),
        }
    }

    fn mixed(&self, gold: &Tensor, soft: &Tensor) -> Result<Tensor, Error> {
        let share = self.words.share;
        Ok(gold.f_mul_scalar(1.0 - share)?.f_add(&soft.f_mul_scalar(share)?)?)
    }

    /// A loss with the distances of what both sides' layers handed out.
    fn with_layers(&self, mut loss: Tensor, weights: Option<&Tensor>) -> Result<Tensor, Error> {
        let Some([teacher, student]) = &self.recorders else { return Ok(loss) };
        let (teacher, student, words) = (teacher.take(), student.take(), self.words);
        if words.hidden > 0.0 {
            let distance = state_distance(&student, &teacher, &words.matching, weights)?;
            loss = loss.f_add(&distance.f_mul_scalar(words.hidden)?)?;
        }
        if words.attention > 0.0 {
            let distance = attention_distance(&student, &teacher, weights)?;
            loss = loss.f_add(&distance.f_mul_scalar(words.attention)?)?;
        }
        Ok(loss)
    }
}
