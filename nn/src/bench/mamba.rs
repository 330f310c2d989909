//! Reading, training and writing speed of the smallest Mamba.

use tch::{Device, Kind, Tensor};

use super::{BenchRow, Draw, Repeats, Timed, named, timed};
use crate::error::Result;
use crate::forward::Forward;
use crate::generate::{Limits, greedy};
use crate::models::{MambaConfig, MambaForCausalLm, Network, Writer};
use crate::packed::{Packed, signed};
use crate::pairs::Pairs;
use crate::parameters::Placement;

/// What to measure.
#[derive(Clone, Debug)]
pub struct MambaBench {
    /// Sequences at once.
    pub batch: usize,
    /// Tokens of a sequence that is read, or trained on.
    pub tokens: usize,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens that are written after it.
    pub most: usize,
    /// Runs of each measurement.
    pub repeats: Repeats,
    /// The model.
    pub config: MambaConfig,
    /// Where.
    pub device: Device,
}

impl MambaBench {
    /// The model of 130 million parameters, eight sequences of 512 tokens, and prompts of 256 with 32 new tokens.
    #[must_use]
    pub fn small(device: Device) -> Self {
        let repeats = if device.is_cuda() { Repeats { warm_up: 4, timed: 12 } } else { Repeats { warm_up: 1, timed: 2 } };
        Self { batch: 8, tokens: 512, prompt: 256, most: 32, repeats, config: MambaConfig::small(), device }
    }

    /// The same with a model and batches so small that they run anywhere.
    #[must_use]
    pub fn tiny(self) -> Self {
        let config = MambaConfig { vocab_size: 200, hidden_size: 32, num_hidden_layers: 2, ..self.config };
        Self { config, batch: 2, tokens: 20, prompt: 9, most: 3, repeats: Repeats { warm_up: 0, timed: 2 }, ..self }
    }

    /// Measures reading, reading with gradients, and writing.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn run(&self) -> Result<Vec<BenchRow>> {
        Ok(vec![self.reading()?, self.training()?, self.writing()?])
    }

    /// Logits of all tokens.
    fn reading(&self) -> Result<BenchRow> {
        let model = MambaForCausalLm::init(&self.config, &Placement::inference(self.device), 1)?;
        let packed = self.packed(self.tokens)?;
        let found = timed(self.device, &self.runs(), self.repeats, |()| model.forward_logits(&packed, &mut Forward::inference()))?;
        Ok(self.row(&found, "mamba-130m forward", self.tokens))
    }

    /// The loss of all tokens after the first of each sequence, and its gradients, gathered; no step.
    fn training(&self) -> Result<BenchRow> {
        let mut model = MambaForCausalLm::init(&self.config, &Placement::training(self.device), 1)?;
        let (ids, mut forward) = (self.ids(self.tokens + 1), Forward::training(1));
        let rows: Vec<(&[u32], &[u32])> = ids.iter().map(|row| row.split_at(1)).collect();
        let pairs = Pairs::collate(model.form(), &rows)?.to_device(self.device)?;
        let found = timed(self.device, &self.runs(), self.repeats, |()| {
            let loss = model.forward(&pairs, &mut forward)?.f_mean(Kind::Float)?.f_neg()?;
            model.parameters_mut().backward(&loss)?;
            model.parameters_mut().zero_grad()?;
            Ok(loss.f_detach()?)
        })?;
        Ok(BenchRow { loss: found.loss()?, ..self.row(&found, "mamba-130m fwd+bwd", self.tokens) })
    }

    /// Greedy tokens after prompts; none ends a text, so that each has its full length.
    fn writing(&self) -> Result<BenchRow> {
        let model = MambaForCausalLm::init(&self.config, &Placement::inference(self.device), 1)?;
        let prompts = self.packed(self.prompt)?;
        let limits = Limits { most: signed(self.most), ends: Vec::new(), not_first: None };
        let found = timed(self.device, &self.runs(), self.repeats, |()| {
            let texts = greedy(&model, &prompts, &limits)?;
            Ok(Tensor::f_from_slice(&texts.iter().map(|text| text.log_probability).collect::<Vec<_>>())?)
        })?;
        Ok(self.row(&found, &format!("mamba-130m prompt {} + {} new", self.prompt, self.most), self.prompt))
    }

    /// The row of a measurement in which each sequence had so many tokens to read.
    fn row(&self, found: &Timed, what: &str, tokens: usize) -> BenchRow {
        let steps = self.repeats.timed;
        found.row(named(what, self.device), "packed", self.batch, steps, signed(self.batch * tokens * steps))
    }

    fn runs(&self) -> Vec<()> {
        vec![(); self.repeats.warm_up + self.repeats.timed]
    }

    /// Rows of token ids.
    fn ids(&self, length: usize) -> Vec<Vec<u32>> {
        let mut draw = Draw::new(0);
        (0..self.batch).map(|_| draw.ids(length, self.config.vocab_size)).collect()
    }

    fn packed(&self, length: usize) -> Result<Packed> {
        let ids = self.ids(length);
        let rows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        Packed::of_one_segment(&rows)?.to_device(self.device)
    }
}
