//! Training and writing speed of T5-base.

use tch::{Device, Kind, Tensor};

use super::{BenchRow, Draw, Repeats, named, optimise, timed};
use crate::adamw::{AdamW, AdamWConfig};
use crate::error::Result;
use crate::forward::Forward;
use crate::generate::{Limits, greedy};
use crate::models::{T5Config, T5ForConditionalGeneration, Writer};
use crate::packed::Packed;
use crate::pairs::{Form, Pairs};
use crate::parameters::Placement;

/// Training to measure.
#[derive(Clone, Debug)]
pub struct T5Train {
    /// Lengths to draw sources from.
    pub lengths: Vec<usize>,
    /// Tokens of every target.
    pub target: usize,
    /// Pairs a step.
    pub batch: usize,
    /// Steps.
    pub repeats: Repeats,
    /// The model.
    pub config: T5Config,
    /// Where.
    pub device: Device,
}

impl T5Train {
    /// T5-base, 32 pairs a step with targets of 16 tokens, 8 steps of warm-up and 32 that count.
    #[must_use]
    pub fn base(lengths: Vec<usize>, device: Device) -> Self {
        Self { lengths, target: 16, batch: 32, repeats: Repeats { warm_up: 8, timed: 32 }, config: T5Config::base(), device }
    }

    /// The same with a model and batches so small that they run anywhere.
    #[must_use]
    pub fn tiny(self) -> Self {
        Self { config: tiny(self.config), batch: 4, repeats: Repeats { warm_up: 1, timed: 3 }, ..self }
    }

    /// Trains and measures.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn run(&self) -> Result<BenchRow> {
        let mut model = T5ForConditionalGeneration::init(&self.config, &Placement::training(self.device), 1)?;
        self.train(&mut model, named("t5-base train", self.device), "packed")
    }

    /// Trains a model that is ready for it.
    pub(super) fn train(&self, model: &mut dyn Writer, system: String, mode: &str) -> Result<BenchRow> {
        let mut optimiser = AdamW::new(model.parameters(), AdamWConfig::default())?;
        let mut forward = Forward::training(1);
        let form = model.form();
        let batches = (0..self.repeats.warm_up + self.repeats.timed).map(|step| self.draw(form, step)).collect::<Result<Vec<_>>>()?;
        let found = timed(self.device, &batches, self.repeats, |pairs| {
            let loss = model.forward(&pairs.to_device(self.device)?, &mut forward)?.f_mean(Kind::Float)?.f_neg()?;
            optimise(model.parameters_mut(), &mut optimiser, &loss, 1e-4)
        })?;
        let tokens = batches[self.repeats.warm_up..].iter().map(|pairs| pairs.input.tokens()).sum();
        let row = found.row(system, mode, self.batch, self.repeats.timed, tokens);
        Ok(BenchRow { loss: found.loss()?, ..row })
    }

    fn draw(&self, form: Form, step: usize) -> Result<Pairs> {
        let mut draw = Draw::new(step);
        let mut pair = || {
            let length = self.lengths[draw.below(self.lengths.len())];
            (draw.ids(length, self.config.vocab_size), draw.ids(self.target, self.config.vocab_size))
        };
        let pairs: Vec<(Vec<u32>, Vec<u32>)> = (0..self.batch).map(|_| pair()).collect();
        let rows: Vec<(&[u32], &[u32])> = pairs.iter().map(|(source, target)| (source.as_slice(), target.as_slice())).collect();
        let pairs = Pairs::collate(form, &rows)?;
        if self.device.is_cuda() { pairs.pinned() } else { Ok(pairs) }
    }
}

/// Greedy writing to measure.
#[derive(Clone, Debug)]
pub struct T5Generate {
    /// Tokens of every source.
    pub source: usize,
    /// Tokens that are written to each.
    pub most: i64,
    /// Sources at once.
    pub batch: usize,
    /// Batches.
    pub repeats: Repeats,
    /// The model.
    pub config: T5Config,
    /// Where.
    pub device: Device,
}

impl T5Generate {
    /// T5-base, 64 sources of 256 tokens at once, 16 tokens written to each.
    #[must_use]
    pub fn base(device: Device) -> Self {
        Self { source: 256, most: 16, batch: 64, repeats: Repeats { warm_up: 3, timed: 10 }, config: T5Config::base(), device }
    }

    /// The same so small that it runs anywhere.
    #[must_use]
    pub fn tiny(self) -> Self {
        Self { config: tiny(self.config), source: 20, most: 4, batch: 3, repeats: Repeats { warm_up: 1, timed: 2 }, ..self }
    }

    /// Writes and measures.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn run(&self) -> Result<BenchRow> {
        let model = T5ForConditionalGeneration::init(&self.config, &Placement::inference(self.device), 1)?;
        let mut draw = Draw::new(0);
        let ids: Vec<Vec<u32>> = (0..self.batch).map(|_| draw.ids(self.source, self.config.vocab_size)).collect();
        let rows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let sources = Packed::of_one_segment(&rows)?;
        let batches: Vec<Packed> = (0..self.repeats.warm_up + self.repeats.timed).map(|_| sources.shallow_clone()).collect();
        // No token ends a text, so that each has its full length.
        let limits = Limits { most: self.most, ends: Vec::new(), not_first: None };
        let found = timed(self.device, &batches, self.repeats, |sources| {
            let texts = greedy(&model, &sources.to_device(self.device)?, &limits)?;
            Ok(Tensor::f_from_slice(&texts.iter().map(|text| text.log_probability).collect::<Vec<_>>())?.f_mean(Kind::Double)?)
        })?;
        let tokens = i64::try_from(self.batch * self.source * self.repeats.timed).unwrap_or(0);
        Ok(found.row(named("t5-base generate greedy", self.device), "kept keys and values", self.batch, self.repeats.timed, tokens))
    }
}

fn tiny(config: T5Config) -> T5Config {
    T5Config { d_model: 32, d_kv: 8, d_ff: 64, num_layers: 2, num_heads: 2, ..config }
}
