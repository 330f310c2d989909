//! What a model costs: time, memory, energy, size.

mod energy;
mod latency;
mod memory;

pub use energy::Energy;
pub use latency::{Latency, measure};
pub use memory::{held, peak, reset_peak};
