//! Training speed of BERT-base.

use tch::{Device, Kind, Tensor};

use super::{BenchRow, Draw, Repeats, named, optimise, timed};
use crate::adamw::{AdamW, AdamWConfig};
use crate::device;
use crate::error::Result;
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
    /// Steps.
    pub repeats: Repeats,
    /// The model.
    pub config: BertConfig,
    /// Where.
    pub device: Device,
}

/// A step's input and labels.
struct Batch {
    packed: Packed,
    labels: Tensor,
}

impl BertBench {
    /// BERT-base, 32 sequences a step, 8 steps of warm-up and 52 that count.
    #[must_use]
    pub fn base(lengths: Vec<usize>, device: Device) -> Self {
        Self { lengths, batch: 32, repeats: Repeats { warm_up: 8, timed: 52 }, config: BertConfig::default(), device }
    }

    /// The same with a model and batches so small that they run anywhere.
    #[must_use]
    pub fn tiny(self) -> Self {
        let config = BertConfig { hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 128, ..self.config };
        Self { config, batch: 4, repeats: Repeats { warm_up: 1, timed: 3 }, ..self }
    }

    /// Trains and measures.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn run(&self) -> Result<BenchRow> {
        let mut model = BertForQuestionAnswering::init(&self.config, &Placement::training(self.device), 1)?;
        let mut optimiser = AdamW::new(model.parameters(), AdamWConfig::default())?;
        let mut forward = Forward::training(1);
        let batches = (0..self.repeats.warm_up + self.repeats.timed).map(|step| self.draw(step)).collect::<Result<Vec<_>>>()?;
        let found = timed(self.device, &batches, self.repeats, |batch| {
            let packed = batch.packed.to_device(self.device)?;
            let labels = batch.labels.f_to_device_(self.device, Kind::Int64, true, false)?;
            let logits = model.forward(&packed, &mut forward)?;
            optimise(model.parameters_mut(), &mut optimiser, &span_loss(&logits, &packed, &labels, &labels)?, 3e-5)
        })?;
        let tokens = batches[self.repeats.warm_up..].iter().map(|batch| batch.packed.tokens()).sum();
        let row = found.row(named("bert-base train", self.device), "packed", self.batch, self.repeats.timed, tokens);
        Ok(BenchRow { loss: found.loss()?, ..row })
    }

    /// A step's batch, on the host, in page-locked memory where the device is CUDA. The same for the same step.
    fn draw(&self, step: usize) -> Result<Batch> {
        let mut draw = Draw::new(step);
        let lengths: Vec<usize> = (0..self.batch).map(|_| self.lengths[draw.below(self.lengths.len())]).collect();
        let ids: Vec<Vec<u32>> = lengths.iter().map(|&length| draw.ids(length, self.config.vocab_size)).collect();
        let rows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let labels: Vec<i64> = lengths.iter().map(|&length| i64::try_from(draw.below(length)).unwrap_or(0)).collect();
        let (packed, labels) = (Packed::of_one_segment(&rows)?, Tensor::f_from_slice(&labels)?);
        if self.device.is_cuda() {
            return Ok(Batch { packed: packed.pinned()?, labels: device::pinned(&labels)? });
        }
        Ok(Batch { packed, labels })
    }
}
