//! Speed of the models, measured as the usual Python peers measure theirs.

mod bert;
mod mamba;

use tch::Device;

pub use bert::{BenchRow, BertBench};
pub use mamba::{MambaBench, MambaRow};

use crate::device;
use crate::error::Result;
use crate::forward::mix;

/// Numbers at random, the same for the same seed.
struct Draws {
    seed: u64,
    count: u64,
}

impl Draws {
    fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    /// A number below a bound.
    #[allow(clippy::cast_possible_truncation)]
    fn below(&mut self, bound: usize) -> usize {
        self.count += 1;
        (mix(self.seed, self.count) % bound as u64) as usize
    }

    /// So many token ids: each is `first` and a number below `span`.
    fn ids(&mut self, count: usize, first: u32, span: usize) -> Vec<u32> {
        (0..count).map(|_| first + u32::try_from(self.below(span)).unwrap_or(0)).collect()
    }
}

/// A number of so many decimals.
fn round(value: f64, digits: i32) -> f64 {
    (value * 10_f64.powi(digits)).round() / 10_f64.powi(digits)
}

/// Most memory in tensors on a device since the last reset, GiB; unknown on the CPU.
#[allow(clippy::cast_precision_loss)]
fn peak_gib(device: Device) -> Result<Option<f64>> {
    Ok(device::peak_memory(device)?.map(|bytes| round(bytes as f64 / f64::from(1 << 30), 2)))
}
