//! Answers that a model points at.

use std::cmp::Reverse;

use qapipe_engine::StageCx;
use qapipe_nn::{Forward, Network, Reader};
use qapipe_stages::examples::Examples;
use qapipe_stages::features::Features;
use qapipe_stages::postprocess::{self, Answer, Proposal, Settings, Window};
use tch::{Device, Kind, Tensor};

use super::{Answerer, row};
use crate::error::Error;
use crate::training::{BatchSize, Source, SpanBatch, SpanSource, groups};

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
    fn examples(&self) -> &Examples {
        self.features.examples()
    }

    fn network(&self) -> &dyn Network {
        self.model
    }

    fn flops(&self) -> f64 {
        self.model.flops(&[i64::try_from(self.features.longest()).unwrap_or(i64::MAX)])
    }

    fn answer(&self, questions: &[usize], cx: &StageCx<'_>, seen: &mut dyn FnMut(u64, u64)) -> Result<Vec<Answer>, Error> {
        let source = SpanSource::new(self.features, self.model);
        let mut order: Vec<u32> = questions.iter().flat_map(|&question| self.features.windows_of(question)).map(row).collect();
        order.sort_by_key(|&row| (Reverse(source.tokens(row)), row));
        let mut proposals: Vec<Option<Proposal>> = vec![None; self.features.len()];
        let mut done = 0;
        for range in groups(&order, &|row| source.tokens(row), BatchSize::Tokens(self.tokens)) {
            cx.checkpoint()?;
            let batch = &order[range];
            for (&row, proposal) in batch.iter().zip(self.proposals(&source, batch)?) {
                proposals[row as usize] = Some(proposal);
            }
            done += batch.len() as u64;
            seen(done, order.len() as u64);
        }
        Ok(questions.iter().map(|&question| self.choose(question, &mut proposals)).collect())
    }

    fn answer_one(&self, question: usize) -> Result<Answer, Error> {
        let rows: Vec<u32> = self.features.windows_of(question).map(row).collect();
        let proposals = self.proposals(&SpanSource::new(self.features, self.model), &rows)?;
        let examples = self.features.examples();
        Ok(postprocess::answer(examples.context(question), &proposals, &self.settings))
    }
}

impl Pointing<'_> {
    /// The best spans of each of some windows.
    fn proposals(&self, source: &SpanSource<'_>, rows: &[u32]) -> Result<Vec<Proposal>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (start, end) = self.logits(&source.collate(rows, false)?)?;
        if start.iter().chain(&end).any(|logit| !logit.is_finite()) {
            return Err(Error::failed("the model gives logits that are not numbers: its weights are broken"));
        }
        let mut proposals = Vec::with_capacity(rows.len());
        let mut from = 0;
        for &row in rows {
            let to = from + source.tokens(row);
            let row = row as usize;
            let (context_start, offsets) = (self.features.context_start(row) as usize, self.features.offsets(row));
            let window = Window { start: &start[from..to], end: &end[from..to], context_start, offsets };
            proposals.push(postprocess::propose(&window, &self.settings));
            from = to;
        }
        Ok(proposals)
    }

    /// Chooses a question's answer out of what its windows propose.
    fn choose(&self, question: usize, proposals: &mut [Option<Proposal>]) -> Answer {
        let own: Vec<Proposal> = proposals[self.features.windows_of(question)].iter_mut().filter_map(Option::take).collect();
        postprocess::answer(self.features.examples().context(question), &own, &self.settings)
    }

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
