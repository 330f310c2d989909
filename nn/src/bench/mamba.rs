//! Speed of Mamba: reading, training, writing.

use std::time::Instant;

use serde::Serialize;
use tch::{Device, Kind};

use super::{Draws, peak_gib, round};
use crate::device;
use crate::error::Result;
use crate::forward::Forward;
use crate::generate::{Limits, greedy};
use crate::models::{MambaConfig, MambaForCausalLm, Network, Writer};
use crate::packed::{Packed, signed};
use crate::pairs::Pairs;
use crate::parameters::Placement;

/// What to measure. Every time is the median of `runs`, after `warm_up`.
#[derive(Clone, Debug)]
pub struct MambaBench {
    /// The model.
    pub config: MambaConfig,
    /// Its name in the rows.
    pub name: &'static str,
    /// Sequences at once.
    pub batch: usize,
    /// Tokens of a sequence that is read.
    pub tokens: usize,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens that are written after it.
    pub new: usize,
    /// Runs before the clock starts.
    pub warm_up: usize,
    /// Runs that count.
    pub runs: usize,
    /// Where.
    pub device: Device,
}

/// What was measured. What does not apply to a row is left out of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MambaRow {
    /// What ran.
    pub system: String,
    /// How it ran.
    pub mode: String,
    /// Sequences at once.
    pub batch: usize,
    /// Tokens of a sequence.
    #[serde(rename = "T", skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// Tokens written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_tokens: Option<usize>,
    /// Tokens read a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Sequences written to a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examples_per_s: Option<f64>,
    /// Milliseconds a run.
    pub ms: f64,
    /// Most memory in tensors on the device, GiB; unknown on the CPU.
    pub peak_gib: Option<f64>,
}

impl MambaBench {
    /// The smallest published shape, eight sequences of 512 tokens, and prompts of 256 with 32 new tokens.
    #[must_use]
    pub fn small(device: Device) -> Self {
        let (warm_up, runs) = if device.is_cuda() { (4, 12) } else { (1, 3) };
        Self { config: MambaConfig::small(), name: "mamba-130m", batch: 8, tokens: 512, prompt: 256, new: 32, warm_up, runs, device }
    }

    /// The same with a model and batches so small that they run anywhere.
    #[must_use]
    pub fn tiny(self) -> Self {
        let config = MambaConfig { vocab_size: 200, hidden_size: 32, num_hidden_layers: 2, ..self.config };
        Self { config, name: "mamba-tiny", batch: 2, tokens: 20, prompt: 9, new: 3, warm_up: 0, runs: 2, ..self }
    }

    /// Measures reading, reading with gradients, and writing.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn run(&self) -> Result<Vec<MambaRow>> {
        Ok(vec![self.reading()?, self.training()?, self.writing()?])
    }

    /// Logits of all tokens.
    fn reading(&self) -> Result<MambaRow> {
        let model = MambaForCausalLm::init(&self.config, &Placement::inference(self.device), 1)?;
        let (ids, mut forward) = (self.ids(self.tokens), Forward::inference());
        let packed = self.packed(&ids)?;
        let seconds = self.median(|| model.forward_logits(&packed, &mut forward).map(|_| ()))?;
        self.row("forward", seconds, true)
    }

    /// The loss of all tokens after the first of each sequence, and its gradient.
    fn training(&self) -> Result<MambaRow> {
        let mut model = MambaForCausalLm::init(&self.config, &Placement::training(self.device), 1)?;
        let (ids, mut forward) = (self.ids(self.tokens + 1), Forward::training(1));
        let rows: Vec<(&[u32], &[u32])> = ids.iter().map(|row| row.split_at(1)).collect();
        let pairs = Pairs::collate(model.form(), &rows)?.to_device(self.device)?;
        let seconds = self.median(|| {
            let loss = model.forward(&pairs, &mut forward)?.f_mean(Kind::Float)?.f_neg()?;
            model.parameters_mut().backward(&loss)?;
            model.parameters_mut().zero_grad()
        })?;
        self.row("fwd+bwd", seconds, true)
    }

    /// Greedy tokens after prompts.
    fn writing(&self) -> Result<MambaRow> {
        let model = MambaForCausalLm::init(&self.config, &Placement::inference(self.device), 1)?;
        let prompts = self.packed(&self.ids(self.prompt))?;
        let limits = Limits { most: signed(self.new), ends: Vec::new(), not_first: None };
        let seconds = self.median(|| greedy(&model, &prompts, &limits).map(|_| ()))?;
        self.row(&format!("prompt {} + {} new", self.prompt, self.new), seconds, false)
    }

    #[allow(clippy::cast_precision_loss)]
    fn row(&self, what: &str, seconds: f64, reads: bool) -> Result<MambaRow> {
        let kind = if self.device.is_cuda() { "bf16" } else { "f32 cpu" };
        Ok(MambaRow {
            system: format!("{} {what} {kind}", self.name),
            mode: "qapipe".into(),
            batch: self.batch,
            tokens: reads.then_some(self.tokens),
            new_tokens: (!reads).then_some(self.new),
            tokens_per_s: reads.then(|| round((self.batch * self.tokens) as f64 / seconds, 0)),
            examples_per_s: (!reads).then(|| round(self.batch as f64 / seconds, 2)),
            ms: round(1e3 * seconds, 2),
            peak_gib: peak_gib(self.device)?,
        })
    }

    /// Rows of token ids at random.
    fn ids(&self, length: usize) -> Vec<Vec<u32>> {
        let (mut draws, span) = (Draws::new(1), usize::try_from(self.config.vocab_size).unwrap_or(2) - 1);
        (0..self.batch).map(|_| draws.ids(length, 1, span)).collect()
    }

    fn packed(&self, ids: &[Vec<u32>]) -> Result<Packed> {
        let rows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        Packed::of_one_segment(&rows)?.to_device(self.device)
    }

    /// Seconds of a run: the median. Measures the peak of memory anew.
    fn median(&self, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
        for _ in 0..self.warm_up {
            run()?;
        }
        device::synchronize(self.device)?;
        device::reset_peak_memory(self.device)?;
        let mut times = Vec::new();
        for _ in 0..self.runs.max(1) {
            let start = Instant::now();
            run()?;
            device::synchronize(self.device)?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}
