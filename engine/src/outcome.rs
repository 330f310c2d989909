//! What came of a run.

use std::sync::Arc;

use qapipe_cache::{Brief, Digest};

use crate::error::StageError;
use crate::event::Event;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Run id.
    pub run: String,
    /// The stages in question, in topological order.
    pub stages: Vec<StageOutcome>,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

/// What came of one stage.
#[derive(Clone, Debug)]
pub struct StageOutcome {
    /// Stage name.
    pub stage: String,
    /// Its fingerprint, where it became known.
    pub key: Option<Digest>,
    /// Its result, if there is one.
    pub brief: Option<Arc<Brief>>,
    /// How it got there.
    pub state: StageState,
}

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageState {
    /// Its result was there.
    Cached,
    /// Its result came from the remote.
    Fetched,
    /// Its result is in the remote, and nothing here needed what it gave.
    InRemote,
    /// It ran.
    Ran,
    /// It failed.
    Failed(StageError),
    /// It could not run.
    Blocked,
}

impl Outcome {
    /// Number of stages that ended so.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(&StageState) -> bool) -> usize {
        self.stages.iter().filter(|stage| wanted(&stage.state)).count()
    }

    /// The failures.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &StageError)> {
        self.stages.iter().filter_map(|stage| match &stage.state {
            StageState::Failed(error) => Some((stage.stage.as_str(), error)),
            _ => None,
        })
    }

    /// The event that ends the run.
    pub(crate) fn last_event(&self) -> Event {
        Event::RunFinished {
            ran: self.count(|state| *state == StageState::Ran),
            cached: self.count(|state| *state == StageState::Cached),
            fetched: self.count(|state| *state == StageState::Fetched),
            in_remote: self.count(|state| *state == StageState::InRemote),
            failed: self.count(|state| matches!(state, StageState::Failed(_))),
            blocked: self.count(|state| *state == StageState::Blocked),
            seconds: self.seconds,
        }
    }
}
