//! Questions in, answers out: length-sorted packed batches without gradients.

mod pointing;
mod writing;

pub use pointing::Pointing;
pub use writing::{Manner, Proposal, Writing};

use qapipe_engine::StageCx;
use qapipe_nn::Network;
use qapipe_stages::examples::Examples;
use qapipe_stages::postprocess::Answer;

use crate::error::Error;

/// A model with the questions that it answers.
pub trait Answerer {
    /// The questions.
    fn examples(&self) -> &Examples;

    /// The model.
    fn network(&self) -> &dyn Network;

    /// Answers questions (rows of the examples), in their order. All their windows are read in batches, the longest first: memory that
    /// does not suffice shows at once; after each, `seen` hears how many of how many windows are done.
    ///
    /// # Errors
    /// What libtorch reports, an interrupt, and logits that are not numbers.
    fn answer(&self, questions: &[usize], cx: &StageCx<'_>, seen: &mut dyn FnMut(u64, u64)) -> Result<Vec<Answer>, Error>;

    /// Answers one question on its own, as it is timed for the latency.
    ///
    /// # Errors
    /// What libtorch reports.
    fn answer_one(&self, question: usize) -> Result<Answer, Error>;

    /// Floating-point operations of one pass over the longest window.
    fn flops(&self) -> f64;
}

/// A window's number as batches hold it. Tables have fewer rows than that.
#[allow(clippy::cast_possible_truncation)]
fn row(row: usize) -> u32 {
    row as u32
}
