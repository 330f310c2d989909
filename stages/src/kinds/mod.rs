//! The kinds of stage: one file a kind, one line in [`KINDS`].

mod checkpoint;
mod choice;
mod dataset;
mod distil;
pub mod evaluate;
mod export;
mod fine_tune;
mod lora_adapt;
mod prompt;
mod prune;
mod quantize;
mod tokenize;
mod weights;

use qapipe_engine::{Command, StageKind};

pub use checkpoint::Checkpoint;
pub use dataset::Dataset;
pub use distil::Distil;
pub use evaluate::Evaluate;
pub use export::Export;
pub use fine_tune::{FineTune, TRAIN};
pub use lora_adapt::LoraAdapt;
pub use prompt::Prompt;
pub use prune::Prune;
pub use quantize::Quantize;
pub use tokenize::Tokenize;

/// Every kind of stage, in the order in which help lists them.
pub const KINDS: &[&dyn StageKind] =
    &[&Command, &Dataset, &Checkpoint, &Tokenize, &FineTune, &Prune, &Distil, &Quantize, &LoraAdapt, &Export, &Prompt, &Evaluate];
