//! The one stream of what happens in a run: displays, `--json` and the run folder all consume it.

use std::collections::BTreeMap;

use qapipe_cache::Artifact;
use serde::{Deserialize, Serialize};

use crate::error::StageError;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run began. Always first.
    RunStarted {
        /// Run id, which sorts by time.
        run: String,
        /// Pipeline name.
        pipeline: String,
        /// Number of stages in the run.
        stages: usize,
    },
    /// A stage's result was there already.
    Cached {
        /// Stage name.
        stage: String,
        /// Its fingerprint in hex.
        key: String,
    },
    /// A stage's result is in the remote, and nothing here needed what it gave.
    InRemote {
        /// Stage name.
        stage: String,
        /// Its fingerprint in hex.
        key: String,
    },
    /// What a stage gave is being fetched from the remote, because something here needs it.
    Fetching {
        /// Stage name.
        stage: String,
        /// Its fingerprint in hex.
        key: String,
        /// Bytes in all of its outputs.
        bytes: u64,
    },
    /// What a stage gave has come from the remote.
    Fetched {
        /// Stage name.
        stage: String,
        /// Its fingerprint in hex.
        key: String,
        /// Bytes that came; what was here was not fetched.
        bytes: u64,
        /// Wall-clock seconds.
        seconds: f64,
    },
    /// A stage's result was sent to the remote.
    Pushed {
        /// Stage name.
        stage: String,
        /// Its fingerprint in hex.
        key: String,
        /// Bytes that were sent; what was there was not.
        bytes: u64,
    },
    /// Something that the user should know, though the run goes on.
    Warning {
        /// What is the matter, and what is done about it.
        message: String,
        /// What the user may do about it.
        help: Option<String>,
    },
    /// Another process is computing this stage's result; this one waits for it.
    Waiting {
        /// Stage name.
        stage: String,
        /// Its fingerprint in hex.
        key: String,
    },
    /// A stage is a job of the cluster now, which waits for its turn or runs.
    Queued {
        /// Stage name.
        stage: String,
        /// Its fingerprint in hex.
        key: String,
        /// The job as Slurm calls it: `12`, `12_3` in an array.
        job: String,
        /// The run that had submitted it, if it was another.
        by: Option<String>,
    },
    /// A stage began to run.
    Started {
        /// Stage name.
        stage: String,
        /// Kind name.
        kind: String,
        /// Its fingerprint in hex.
        key: String,
        /// Why, in words: `params.lr 1e-4 -> 3e-5`.
        because: String,
        /// Seconds it took last time, if known.
        expected_seconds: Option<f64>,
        /// The GPU that it has: `cuda:0`.
        #[serde(default)]
        gpu: Option<String>,
    },
    /// A stage advanced.
    Progress {
        /// Stage name.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all; 0 when unknown.
        total: u64,
        /// What is counted.
        unit: String,
        /// Something short: a loss, a score.
        note: String,
    },
    /// A line of a stage's log.
    Log {
        /// Stage name.
        stage: String,
        /// The line, without its end.
        line: String,
    },
    /// A stage finished and its result is recorded.
    Finished {
        /// Stage name.
        stage: String,
        /// Its fingerprint in hex.
        key: String,
        /// What it gave.
        outputs: BTreeMap<String, Artifact>,
        /// Wall-clock seconds.
        seconds: f64,
        /// Whether every output equals the one of the stage's previous result, so that what follows need not rerun.
        unchanged: bool,
    },
    /// A stage failed; nothing is recorded.
    Failed {
        /// Stage name.
        stage: String,
        /// Why.
        error: StageError,
    },
    /// A stage cannot run, because one before it failed or the run is stopping.
    Blocked {
        /// Stage name.
        stage: String,
        /// The stage that stands in the way, or empty when the run is stopping.
        by: String,
    },
    /// An output was put back into the pipeline's folder.
    Restored {
        /// Stage name.
        stage: String,
        /// Path relative to the pipeline's folder.
        path: String,
    },
    /// What was found altered in the place of an output, and is not in the store, was moved away before the output was put there.
    Kept {
        /// Stage name.
        stage: String,
        /// Path relative to the pipeline's folder.
        path: String,
        /// Where it was moved.
        to: String,
    },
    /// A stored object was damaged; it was set aside and its stage runs again.
    Damaged {
        /// Stage name.
        stage: String,
        /// What was found.
        what: String,
    },
    /// A run ended. Always last.
    RunFinished {
        /// Stages that ran.
        ran: usize,
        /// Stages whose result was there.
        cached: usize,
        /// Stages whose result came from the remote.
        #[serde(default)]
        fetched: usize,
        /// Stages whose result is in the remote and was not needed here.
        #[serde(default)]
        in_remote: usize,
        /// Stages that failed.
        failed: usize,
        /// Stages that could not run.
        blocked: usize,
        /// Wall-clock seconds.
        seconds: f64,
    },
}

/// Who wants to know. Called from several threads, one event at a time.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);
}

/// Observes nothing.
impl Observer for () {
    fn event(&self, _: &Event) {}
}
