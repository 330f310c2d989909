//! The torch-backed stages, one file a kind.

mod checkpoint;
mod choice;
mod distil;
mod evaluate;
mod export;
mod fine_tune;
mod lora_adapt;
mod prompt;
mod prune;
mod quantize;

use qapipe_engine::{StageCx, StageError};

/// Runs one stage.
pub type Runner = fn(&StageCx<'_>) -> Result<(), StageError>;

/// Every kind that runs in a worker, by its name.
pub const RUNNERS: &[(&str, Runner)] = &[
    ("checkpoint", checkpoint::run),
    ("distil", distil::run),
    ("evaluate", evaluate::run),
    ("export", export::run),
    ("fine-tune", fine_tune::run),
    ("lora-adapt", lora_adapt::run),
    ("prompt", prompt::run),
    ("prune", prune::run),
    ("quantize", quantize::run),
];

/// The runner of a kind.
pub fn runner(kind: &str) -> Option<Runner> {
    RUNNERS.iter().find(|(name, _)| *name == kind).map(|&(_, run)| run)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use qapipe_engine::Place;

    #[test]
    fn exactly_the_kinds_that_run_in_a_worker_have_a_runner() {
        let declared: BTreeSet<&str> =
            qapipe_stages::KINDS.iter().filter(|kind| kind.place() == Place::Worker).map(|kind| kind.name()).collect();
        let listed: Vec<&str> = super::RUNNERS.iter().map(|(name, _)| *name).collect();
        assert!(listed.is_sorted(), "keep RUNNERS in alphabetical order");
        assert_eq!(declared, listed.into_iter().collect());
    }
}
