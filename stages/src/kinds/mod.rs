//! The kinds of stage: one file a kind, one line in [`KINDS`].

mod checkpoint;
mod dataset;
pub mod evaluate;
mod fine_tune;
mod prompt;
mod tokenize;

use qapipe_engine::{Command, StageKind};

pub use checkpoint::Checkpoint;
pub use dataset::Dataset;
pub use evaluate::Evaluate;
pub use fine_tune::{FineTune, TRAIN};
pub use prompt::Prompt;
pub use tokenize::Tokenize;

/// Every kind of stage, in the order in which help lists them.
pub const KINDS: &[&dyn StageKind] = &[&Command, &Dataset, &Checkpoint, &Tokenize, &FineTune, &Prompt, &Evaluate];
