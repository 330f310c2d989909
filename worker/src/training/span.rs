//! Training of extractive readers: windows in, the start and the end of the answer out.

use qapipe_engine::StageCx;
use qapipe_nn::{Forward, Packed, Parameters, Reader, device, span_loss};
use qapipe_stages::features::Features;
use qapipe_stages::postprocess::Settings;
use tch::{Device, Kind, Tensor};

use super::judge::judged;
use super::{Evaluation, Source, Teaching, Trainee};
use crate::error::Error;
use crate::inference::{Pointing, answer};

/// Windows of a features artifact as rows.
pub struct SpanSource<'a> {
    features: &'a Features,
    /// Whether questions and paragraphs are taken apart.
    apart: bool,
}

/// Packed windows with their labels.
pub struct SpanBatch {
    /// The tokens of all windows.
    pub packed: Packed,
    /// Positions of the first and of the last answer token within each window; 0 where there is no answer. `i64 [2, windows]`.
    pub labels: Tensor,
}

impl<'a> SpanSource<'a> {
    /// All windows of one part, for a model.
    pub fn new(features: &'a Features, model: &dyn Reader) -> Self {
        Self { features, apart: model.reads_apart() }
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
        let packed = if self.apart { packed.take_apart()? } else { packed };
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
    /// A teacher that it follows.
    pub teaching: Option<Teaching<'a>>,
}

impl Trainee for SpanTrainee<'_> {
    type Batch = SpanBatch;

    fn loss(&mut self, batch: &SpanBatch) -> Result<Tensor, Error> {
        let place = self.model.parameters().device();
        let packed = batch.packed.to_device(place)?;
        let labels = batch.labels.f_to_device_(place, Kind::Int64, true, false)?;
        let logits = self.model.forward(&packed, &mut self.forward)?;
        let gold = span_loss(&logits, &packed, &labels.f_get(0)?, &labels.f_get(1)?)?;
        self.teaching.as_ref().map_or(Ok(gold.shallow_clone()), |teaching| teaching.spans(&gold, &logits, &packed))
    }

    fn parameters(&mut self) -> &mut Parameters {
        self.model.parameters_mut()
    }

    fn forward(&mut self) -> &mut Forward {
        &mut self.forward
    }

    fn held_out(&self) -> usize {
        self.held_out.len()
    }

    fn evaluate(&mut self, cx: &StageCx<'_>) -> Result<Evaluation, Error> {
        let device = self.model.parameters().device();
        let pointing = Pointing { model: &*self.model, device, features: self.features, settings: self.settings, tokens: self.tokens };
        let found = answer(&pointing, &self.held_out, None, cx, &mut |_, _| {})?;
        Ok(judged(self.features.examples(), &self.held_out, &found.answers))
    }
}
