//! Answers that a model points at.

use std::ops::Range;

use qapipe_nn::{Forward, Network, Reader};
use qapipe_stages::examples::Examples;
use qapipe_stages::features::Features;
use qapipe_stages::postprocess::{self, Answer, Proposal, Settings, Window};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::Answerer;
use crate::error::Error;
use crate::training::{Source, SpanBatch, SpanSource};

/// A model with the windows that it reads.
pub struct Pointing<'a> {
    /// The model.
    pub model: &'a dyn Reader,
    /// Where it runs.
    pub device: Device,
    /// The windows.
    pub features: &'a Features,
    /// How answers are chosen.
    pub settings: Settings,
    /// Most tokens in the model at once.
    pub tokens: usize,
}

impl Answerer for Pointing<'_> {
    type Proposal = Proposal;

    fn examples(&self) -> &Examples {
        self.features.examples()
    }

    fn network(&self) -> &dyn Network {
        self.model
    }

    fn flops(&self) -> f64 {
        self.model.flops(&[i64::try_from(self.features.longest()).unwrap_or(i64::MAX)])
    }

    fn windows_of(&self, question: usize) -> Range<usize> {
        self.features.windows_of(question)
    }

    fn windows(&self) -> usize {
        self.features.len()
    }

    fn length(&self, window: u32) -> usize {
        self.features.ids(window as usize).len()
    }

    fn room(&self) -> usize {
        self.tokens
    }

    fn propose(&self, windows: &[u32]) -> Result<Vec<Proposal>, Error> {
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        let (start, end) = self.logits(&SpanSource::new(self.features, self.model).collate(windows, false)?)?;
        if start.iter().chain(&end).any(|logit| !logit.is_finite()) {
            return Err(Error::failed("the model gives logits that are not numbers: its weights are broken"));
        }
        let mut from = 0;
        let propose = |&row: &u32| {
            let range = from..from + self.length(row);
            from = range.end;
            let (context_start, offsets) = (self.features.context_start(row as usize) as usize, self.features.offsets(row as usize));
            postprocess::propose(&Window { start: &start[range.clone()], end: &end[range], context_start, offsets }, &self.settings)
        };
        Ok(windows.iter().map(propose).collect())
    }

    fn choose(&self, question: usize, proposals: &[Proposal]) -> Answer {
        postprocess::answer(self.features.examples().context(question), proposals, &self.settings)
    }

    fn null_threshold(&self) -> f64 {
        self.settings.null_threshold
    }

    fn manner(&self) -> String {
        json!({ "n_best": self.settings.n_best, "max_answer_length": self.settings.max_answer_length }).to_string()
    }

    fn describe(&self, question: usize, bytes: &mut Vec<u8>) {
        let mut numbers = |numbers: &[u32]| {
            bytes.extend(numbers.len().to_le_bytes());
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        };
        for window in self.features.windows_of(question) {
            let (first, last) = self.features.offsets(window);
            numbers(&[self.features.segment_start(window), self.features.context_start(window)]);
            [self.features.ids(window), first, last].into_iter().for_each(&mut numbers);
        }
        bytes.extend(self.features.examples().context(question).bytes());
    }
}

impl Pointing<'_> {
    /// Start and end logits of a batch's tokens, on the host.
    fn logits(&self, batch: &SpanBatch) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let packed = batch.packed.to_device(self.device)?;
        let logits = self.model.forward(&packed, &mut Forward::inference())?;
        Ok((host(&logits.start)?, host(&logits.end)?))
    }
}

/// A vector of f32 on the host.
fn host(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(Vec::<f32>::try_from(tensor.f_to_device_(Device::Cpu, Kind::Float, false, false)?.f_contiguous()?)?)
}
