//! The one training loop: whatever family the model is of and whatever part of it trains.
//!
//! A family comes in through two traits: a [`Source`] packs rows into batches on a thread of its own, a [`Trainee`] gives the
//! loss of a batch, its parameters, and how well it does. The loop owns everything else: order, micro-batches, schedule,
//! clipping, logging, evaluation, stopping.

mod batches;
mod judge;
mod masking;
mod prefetch;
mod recipe;
mod resume;
mod run;
mod schedule;
mod session;
mod span;
mod teaching;
mod text;
mod window;

pub use batches::{BatchSize, Steps, groups, shuffled};
pub use masking::Masking;
pub use prefetch::{Micro, feed};
pub use recipe::{Recipe, TrainValues};
pub use resume::Resume;
pub use run::{Alongside, Summary, train};
pub use schedule::{Decay, Schedule, Warmup};
pub use session::{Besides, Outcome, Session};
pub use span::{SpanBatch, SpanSource, SpanTrainee};
pub use teaching::{Teaching, Words};
pub use text::{TextSource, TextTrainee};
pub use window::{Window, WindowRow};

use qapipe_engine::StageCx;
use tch::Tensor;

use crate::error::Error;

/// Rows to train on, packed into batches on request.
pub trait Source: Sync {
    /// A batch on the host, ready to be moved to the device.
    type Batch: Send;

    /// Tokens of a row.
    fn tokens(&self, row: u32) -> usize;

    /// What a row counts for in the loss of a step: the loss of a batch is the mean over what its rows count for.
    fn weight(&self, _row: u32) -> usize {
        1
    }

    /// Packs rows. Called on the prefetching thread; with `pin`, in page-locked memory, so that the copy to a GPU overlaps with work.
    ///
    /// # Errors
    /// Where libtorch has no memory.
    fn collate(&self, rows: &[u32], pin: bool) -> Result<Self::Batch, Error>;
}

/// Something that can be trained.
pub trait Trainee {
    /// What its batches look like.
    type Batch: Send;

    /// Mean loss over what the batch's rows count for: a scalar in f32 with its graph, still on the device.
    ///
    /// # Errors
    /// What libtorch reports.
    fn loss(&mut self, batch: &Self::Batch) -> Result<Tensor, Error>;

    /// What trains.
    fn parameters(&mut self) -> &mut qapipe_nn::Parameters;

    /// How it runs.
    fn forward(&mut self) -> &mut qapipe_nn::Forward;

    /// How many questions it is evaluated on.
    fn held_out(&self) -> usize;

    /// How well it does on rows that it does not train on.
    ///
    /// # Errors
    /// What libtorch reports, or an interrupt.
    fn evaluate(&mut self, cx: &StageCx<'_>) -> Result<Evaluation, Error>;
}

/// How well a model does on held-out questions, with the null threshold that suits it best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Answers exactly right, in percent.
    pub exact: f64,
    /// Mean overlap with the gold answers, in percent.
    pub f1: f64,
    /// The null threshold; none for a model that has no null answer.
    pub null_threshold: Option<f64>,
}
