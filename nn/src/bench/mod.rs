//! Speed on a model's usual work, with the lengths of real text: the same measurements as the usual Python peers take.

mod adapt;
mod bert;
mod mamba;
mod t5;

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use tch::{Device, Tensor};

pub use adapt::T5Adapt;
pub use bert::BertBench;
pub use mamba::MambaBench;
pub use t5::{T5Generate, T5Train};

use crate::adamw::AdamW;
use crate::device;
use crate::error::{NnError, Result};
use crate::forward::mix;
use crate::parameters::Parameters;

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BenchRow {
    /// What ran.
    pub system: String,
    /// How it ran.
    pub mode: String,
    /// Sequences at once.
    pub batch: usize,
    /// Sequences a second.
    pub examples_per_s: f64,
    /// Tokens a second, of the sequences that were read.
    pub real_tokens_per_s: f64,
    /// Milliseconds a step.
    pub ms_per_step: f64,
    /// Most memory in tensors on the device, GiB; unknown on the CPU.
    pub peak_gib: Option<f64>,
    /// Loss of the last step, where something was trained.
    pub loss: Option<f64>,
}

/// How often something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    /// Times before the clock starts.
    pub warm_up: usize,
    /// Times that count.
    pub timed: usize,
}

/// Lengths to draw from: a file with a JSON list, or else evenly between 60 and 312.
///
/// # Errors
/// Where the file is no list of lengths, or one of them is zero.
pub fn lengths(file: Option<&Path>) -> Result<Vec<usize>> {
    let lengths: Vec<usize> = match file {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path).map_err(NnError::io(path))?)?,
        None => (60..=312).collect(),
    };
    if lengths.is_empty() || lengths.contains(&0) {
        return Err(NnError::Input("the list of lengths is empty, or has a zero".into()));
    }
    Ok(lengths)
}

/// Numbers that look random, the same ones for the same step.
struct Draw {
    step: u64,
    count: u64,
}

impl Draw {
    fn new(step: usize) -> Self {
        Self { step: step as u64, count: 0 }
    }

    /// A number below a bound.
    #[allow(clippy::cast_possible_truncation)]
    fn below(&mut self, bound: usize) -> usize {
        self.count += 1;
        (mix(self.step, self.count) % bound as u64) as usize
    }

    /// Token ids, none of the first few, which are special.
    fn ids(&mut self, length: usize, vocabulary: i64) -> Vec<u32> {
        let first = usize::try_from(vocabulary / 4).unwrap_or(0).min(1000);
        let span = usize::try_from(vocabulary).unwrap_or(1).min(30_000).saturating_sub(first).max(1);
        (0..length).map(|_| u32::try_from(first + self.below(span)).unwrap_or(0)).collect()
    }
}

/// Seconds and peak memory of doing something again and again, and what the last time gave.
struct Timed {
    seconds: f64,
    peak: Option<u64>,
    last: Option<Tensor>,
}

/// Does something with each batch; those after the warm-up count.
fn timed<B>(place: Device, batches: &[B], repeats: Repeats, mut work: impl FnMut(&B) -> Result<Tensor>) -> Result<Timed> {
    let (warm_up, counted) = batches.split_at(repeats.warm_up.min(batches.len()));
    for batch in warm_up {
        let _same = work(batch)?;
    }
    device::synchronize(place)?;
    device::reset_peak_memory(place)?;
    let start = Instant::now();
    let mut last = None;
    for batch in counted {
        last = Some(work(batch)?);
    }
    device::synchronize(place)?;
    Ok(Timed { seconds: start.elapsed().as_secs_f64(), peak: device::peak_memory(place)?, last })
}

impl Timed {
    /// The row of it: `tokens` were read in all timed steps, of `batch` sequences each.
    #[allow(clippy::cast_precision_loss)]
    fn row(&self, system: String, mode: &str, batch: usize, steps: usize, tokens: i64) -> BenchRow {
        let Self { seconds, peak, .. } = *self;
        BenchRow {
            system,
            mode: mode.into(),
            batch,
            examples_per_s: round((batch * steps) as f64 / seconds, 1),
            real_tokens_per_s: round(tokens as f64 / seconds, 0),
            ms_per_step: round(1e3 * seconds / steps as f64, 2),
            peak_gib: peak.map(|bytes| round(bytes as f64 / f64::from(1 << 30), 2)),
            loss: None,
        }
    }

    /// The last loss.
    fn loss(&self) -> Result<Option<f64>> {
        self.last.as_ref().map(|loss| Ok(loss.f_double_value(&[])?)).transpose()
    }
}

/// Backward, clipping, optimiser; gives the loss, on the device.
fn optimise(parameters: &mut Parameters, optimiser: &mut AdamW, loss: &Tensor, rate: f64) -> Result<Tensor> {
    parameters.backward(loss)?;
    let _norm = optimiser.clip_grad_norm(parameters, 1.0)?;
    optimiser.step(parameters, rate)?;
    Ok(loss.f_detach()?)
}

fn round(value: f64, digits: i32) -> f64 {
    (value * 10_f64.powi(digits)).round() / 10_f64.powi(digits)
}

/// What a system is called on a device.
fn named(what: &str, place: Device) -> String {
    if place.is_cuda() { format!("{what} bf16 qapipe") } else { format!("{what} f32 cpu qapipe") }
}
