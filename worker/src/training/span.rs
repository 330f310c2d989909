//! Training of extractive readers: windows in, the start and the end of the answer out.

use qapipe_engine::StageCx;
use qapipe_nn::{Forward, Packed, Parameters, Reader, device, span_loss};
use qapipe_stages::features::Features;
use qapipe_stages::metric::{self, Abstention, Scored};
use qapipe_stages::postprocess::{Answer, Settings};
use tch::{Device, Kind, Tensor};

use super::{Evaluation, Source, Trainee};
use crate::error::Error;
use crate::inference::Answering;

/// Windows of a features artifact as rows.
pub struct SpanSource<'a> {
    features: &'a Features,
}

/// Packed windows with their labels.
pub struct SpanBatch {
    /// The tokens of all windows.
    pub packed: Packed,
    /// Positions of the first and of the last answer token within each window; 0 where there is no answer. `i64 [2, windows]`.
    pub labels: Tensor,
}

impl<'a> SpanSource<'a> {
    /// All windows of one part.
    pub fn new(features: &'a Features) -> Self {
        Self { features }
    }
}

impl Source for SpanSource<'_> {
    type Batch = SpanBatch;

    fn tokens(&self, row: u32) -> usize {
        self.features.ids(row as usize).len()
    }

    fn collate(&self, rows: &[u32], pin: bool) -> Result<SpanBatch, Error> {
        let features = self.features;
        let windows: Vec<(&[u32], u32)> =
            rows.iter().map(|&row| (features.ids(row as usize), features.segment_start(row as usize))).collect();
        let starts = rows.iter().map(|&row| i64::from(features.label(row as usize).0));
        let ends = rows.iter().map(|&row| i64::from(features.label(row as usize).1));
        let labels: Vec<i64> = starts.chain(ends).collect();
        let packed = Packed::from_sequences(&windows, Device::Cpu)?;
        let labels = Tensor::f_from_slice(&labels)?.f_view([2, -1])?;
        if pin { Ok(SpanBatch { packed: packed.pinned()?, labels: device::pinned(&labels)? }) } else { Ok(SpanBatch { packed, labels }) }
    }
}

/// A reader under training.
pub struct SpanTrainee<'a> {
    /// The model.
    pub model: &'a mut dyn Reader,
    /// Training mode and randomness.
    pub forward: Forward,
    /// The windows that it trains on, and those that are held out.
    pub features: &'a Features,
    /// How answers to the held-out questions are chosen.
    pub settings: Settings,
    /// Questions that are held out.
    pub held_out: Vec<usize>,
    /// Most tokens in the model at once in an evaluation.
    pub tokens: usize,
}

impl Trainee for SpanTrainee<'_> {
    type Batch = SpanBatch;

    fn loss(&mut self, batch: &SpanBatch) -> Result<Tensor, Error> {
        let place = self.model.parameters().device();
        let packed = batch.packed.to_device(place)?;
        let labels = batch.labels.f_to_device_(place, Kind::Int64, true, false)?;
        let logits = self.model.forward(&packed, &mut self.forward)?;
        Ok(span_loss(&logits, &packed, &labels.f_get(0)?, &labels.f_get(1)?)?)
    }

    fn parameters(&mut self) -> &mut Parameters {
        self.model.parameters_mut()
    }

    fn evaluate(&mut self, cx: &StageCx<'_>) -> Result<Evaluation, Error> {
        let device = self.model.parameters().device();
        let answering = Answering { model: &*self.model, device, features: self.features, settings: self.settings, tokens: self.tokens };
        let answers = answering.answer(&self.held_out, cx, |_, _| {})?;
        Ok(self.judged(&answers))
    }
}

impl SpanTrainee<'_> {
    /// How good the answers to the held-out questions are, and the null threshold at which their F1 is best.
    fn judged(&self, answers: &[Answer]) -> Evaluation {
        let golds = |question: usize| self.features.examples().golds(question);
        let asked = || self.held_out.iter().copied().zip(answers);
        let scores: Vec<Scored> = asked().map(|(question, answer)| metric::score(&answer.text, golds(question))).collect();
        let sweep: Vec<Abstention> = asked()
            .map(|(question, answer)| {
                let Scored { f1, has_answer, .. } = metric::score(&answer.candidate, golds(question));
                Abstention { score: f1, na_score: answer.na_score, has_answer, empty: answer.candidate.is_empty() }
            })
            .collect();
        let means = metric::summary(&scores).all;
        Evaluation { exact: means.exact, f1: means.f1, null_threshold: Some(metric::tuned_threshold(&sweep)) }
    }
}
