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

use crate::warm::Warm;

/// What runs the stages of a kind.
#[derive(Clone, Copy)]
pub enum Runner {
    /// With the memory for itself.
    Alone(fn(&StageCx<'_>) -> Result<(), StageError>),
    /// With what the process keeps from one stage to the next.
    Warm(fn(&StageCx<'_>, &Warm) -> Result<(), StageError>),
}

impl Runner {
    /// Runs one stage.
    ///
    /// # Errors
    /// What the stage reports.
    pub fn run(self, cx: &StageCx<'_>, warm: &Warm) -> Result<(), StageError> {
        match self {
            Self::Alone(run) => {
                warm.cool();
                run(cx)
            }
            Self::Warm(run) => run(cx, warm),
        }
    }
}

/// Every kind that runs in a worker, by its name.
pub const RUNNERS: &[(&str, Runner)] = &[
    ("checkpoint", Runner::Alone(checkpoint::run)),
    ("distil", Runner::Alone(distil::run)),
    ("evaluate", Runner::Warm(evaluate::run)),
    ("export", Runner::Alone(export::run)),
    ("fine-tune", Runner::Alone(fine_tune::run)),
    ("lora-adapt", Runner::Alone(lora_adapt::run)),
    ("prompt", Runner::Warm(prompt::run)),
    ("prune", Runner::Alone(prune::run)),
    ("quantize", Runner::Alone(quantize::run)),
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
