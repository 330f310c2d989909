//! Training speed on BERT-base with the lengths of real text: the same measurement as the usual Python peers take.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use tch::{Device, Tensor};

use super::{Draws, peak_gib, round};
use crate::adamw::{AdamW, AdamWConfig};
use crate::device;
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::loss::span_loss;
use crate::models::{BertConfig, BertForQuestionAnswering, Network, Reader};
use crate::packed::Packed;
use crate::parameters::Placement;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BertBench {
    /// Lengths to draw from.
    pub lengths: Vec<usize>,
    /// Sequences a step.
    pub batch: usize,
    /// Steps before the clock starts.
    pub warm_up: usize,
    /// Steps that count.
    pub steps: usize,
    /// The model.
    pub config: BertConfig,
    /// Where.
    pub device: Device,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchRow {
    /// What ran.
    pub system: String,
    /// How it ran.
    pub mode: String,
    /// Sequences a step.
    pub batch: usize,
    /// Sequences a second.
    pub examples_per_s: f64,
    /// Tokens a second.
    pub real_tokens_per_s: f64,
    /// Milliseconds a step.
    pub ms_per_step: f64,
    /// Most memory in tensors on the device, GiB; unknown on the CPU.
    pub peak_gib: Option<f64>,
    /// Loss of the last step.
    pub loss: f64,
}

impl BertBench {
    /// BERT-base, 32 sequences a step, 8 steps of warm-up and 52 that count; lengths from a file with a JSON list, or else drawn evenly
    /// between 60 and 312.
    ///
    /// # Errors
    /// Where the file is no list of lengths.
    pub fn base(lengths: Option<&Path>, device: Device) -> Result<Self> {
        let lengths = match lengths {
            Some(path) => serde_json::from_str(&std::fs::read_to_string(path).map_err(NnError::io(path))?)?,
            None => (60..=312).collect(),
        };
        Ok(Self { lengths, batch: 32, warm_up: 8, steps: 52, config: BertConfig::default(), device })
    }

    /// The same with a model and batches so small that they run anywhere.
    #[must_use]
    pub fn tiny(self) -> Self {
        let config = BertConfig { hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 128, ..self.config };
        Self { config, batch: 4, warm_up: 1, steps: 3, ..self }
    }

    /// Trains and measures.
    ///
    /// # Errors
    /// What libtorch reports, and where there are no lengths.
    pub fn run(&self) -> Result<BenchRow> {
        let mut run = Run::new(self)?;
        let batches = (0..self.warm_up + self.steps).map(|step| self.draw(step)).collect::<Result<Vec<_>>>()?;
        let (warm_up, timed) = batches.split_at(self.warm_up);
        for batch in warm_up {
            let _ = run.step(batch)?;
        }
        device::synchronize(self.device)?;
        device::reset_peak_memory(self.device)?;
        let start = Instant::now();
        let mut loss = None;
        for batch in timed {
            loss = Some(run.step(batch)?);
        }
        device::synchronize(self.device)?;
        let seconds = start.elapsed().as_secs_f64();
        let loss = loss.map_or(Ok(f64::NAN), |loss| loss.f_double_value(&[]))?;
        self.row(seconds, timed, loss)
    }

    #[allow(clippy::cast_precision_loss)]
    fn row(&self, seconds: f64, timed: &[Batch], loss: f64) -> Result<BenchRow> {
        let tokens: i64 = timed.iter().map(|batch| batch.packed.tokens()).sum();
        Ok(BenchRow {
            system: if self.device.is_cuda() { "bert-base train bf16 qapipe".into() } else { "bert train f32 cpu qapipe".into() },
            mode: "packed".into(),
            batch: self.batch,
            examples_per_s: round((self.batch * self.steps) as f64 / seconds, 1),
            real_tokens_per_s: round(tokens as f64 / seconds, 0),
            ms_per_step: round(1e3 * seconds / self.steps as f64, 2),
            peak_gib: peak_gib(self.device)?,
            loss,
        })
    }

    /// A step's batch, on the host, in page-locked memory where the device is CUDA. The same for the same step.
    fn draw(&self, step: usize) -> Result<Batch> {
        if self.lengths.is_empty() || self.lengths.contains(&0) {
            return Err(NnError::Input("the list of lengths is empty, or has a zero".into()));
        }
        let mut draws = Draws::new(step as u64);
        let lengths: Vec<usize> = (0..self.batch).map(|_| self.lengths[draws.below(self.lengths.len())]).collect();
        let span = usize::try_from(self.config.vocab_size).unwrap_or(1).clamp(1001, 30_000) - 1000;
        let ids: Vec<Vec<u32>> = lengths.iter().map(|&length| draws.ids(length, 1000, span)).collect();
        let rows: Vec<(&[u32], u32)> = ids.iter().map(|ids| (ids.as_slice(), u32::MAX)).collect();
        let labels: Vec<i64> = lengths.iter().map(|&length| i64::try_from(draws.below(length)).unwrap_or(0)).collect();
        let (packed, labels) = (Packed::from_sequences(&rows, Device::Cpu)?, Tensor::f_from_slice(&labels)?);
        if self.device.is_cuda() {
            Ok(Batch { packed: packed.pinned()?, labels: device::pinned(&labels)? })
        } else {
            Ok(Batch { packed, labels })
        }
    }
}

/// A step's input and labels.
struct Batch {
    packed: Packed,
    labels: Tensor,
}

/// A model with its optimiser.
struct Run {
    model: BertForQuestionAnswering,
    optimiser: AdamW,
    forward: Forward,
    device: Device,
}

impl Run {
    fn new(bench: &BertBench) -> Result<Self> {
        let model = BertForQuestionAnswering::init(&bench.config, &Placement::training(bench.device), 1)?;
        let optimiser = AdamW::new(model.parameters(), AdamWConfig::default())?;
        Ok(Self { model, optimiser, forward: Forward::training(1), device: bench.device })
    }

    /// Forward, backward, clipping, optimiser; gives the loss, on the device.
    fn step(&mut self, batch: &Batch) -> Result<Tensor> {
        let packed = batch.packed.to_device(self.device)?;
        let labels = batch.labels.f_to_device_(self.device, tch::Kind::Int64, true, false)?;
        let logits = self.model.forward(&packed, &mut self.forward)?;
        let loss = span_loss(&logits, &packed, &labels, &labels)?;
        let parameters = self.model.parameters_mut();
        parameters.backward(&loss)?;
        let _norm = self.optimiser.clip_grad_norm(parameters, 1.0)?;
        self.optimiser.step(parameters, 3e-5)?;
        Ok(loss.f_detach()?)
    }
}
