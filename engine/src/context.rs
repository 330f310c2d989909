//! All that a running stage may touch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use qapipe_cache::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::StageError;
use crate::values::Values;

/// One execution of a stage as plain data: what crosses to a worker process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Pipeline name.
    pub pipeline: String,
    /// Stage name.
    pub stage: String,
    /// Kind name.
    pub kind: String,
    /// Checked values.
    pub values: Values,
    /// Inputs by dotted parameter path (`model`, `inputs.x`): references and paths alike.
    pub inputs: BTreeMap<String, Input>,
    /// Where to write each output, by output name. The paths do not exist yet; their parent does.
    pub outputs: BTreeMap<String, PathBuf>,
    /// The folder of the file that the stage stands in.
    pub folder: PathBuf,
    /// Where the stage may make a folder for its own use, which is gone afterwards; see [`StageCx::scratch`].
    pub scratch: PathBuf,
    /// The seed in force.
    pub seed: u64,
    /// `cpu`, `cuda:0`, or `auto`.
    pub device: String,
    /// Threads that the stage may use.
    pub threads: usize,
    /// Whether the network is off limits.
    pub offline: bool,
    /// Whether results must repeat bit for bit on the same device.
    pub strict: bool,
    /// Folder in which small results may be kept one by one (`qapipe_cache::Rows`), whatever becomes of this execution.
    #[serde(default)]
    pub rows: PathBuf,
    /// Folder in which a training may keep what it goes on from, whatever becomes of this execution.
    #[serde(default)]
    pub trainings: PathBuf,
    /// Whether everything is to be computed again, although it may be known.
    #[serde(default)]
    pub anew: bool,
}

/// One input of a running stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// Where to read it: a file or a folder, never to be written.
    pub path: PathBuf,
    /// What it is.
    pub digest: Digest,
    /// The stage that made it; none for a file of the user's.
    pub from: Option<String>,
}

/// Where a running stage reports to.
pub trait Reporter: Sync {
    /// `done` of `total` units; `total` 0 when unknown. `note` is short: a loss, a score.
    fn progress(&self, done: u64, total: u64, unit: &str, note: &str);
    /// A line of the stage's log.
    fn log(&self, line: &str);
    /// A figure about this execution, kept in the action record's cost (`peak_memory_bytes`, `train_seconds`).
    fn measure(&self, name: &str, value: f64);
    /// Where this execution runs and with what, kept in the action record's provenance (`device`, `libtorch`).
    fn fact(&self, _name: &str, _value: &str) {}
}

/// A running stage's view of the world.
pub struct StageCx<'a> {
    /// The execution.
    pub request: &'a Request,
    /// Where it reports to.
    pub reporter: &'a dyn Reporter,
    /// Set when the run is being interrupted.
    pub cancel: &'a AtomicBool,
}

impl StageCx<'_> {
    /// The values as the kind's own struct.
    ///
    /// # Errors
    /// Where the struct and the declared parameters disagree: a bug.
    pub fn values<T: DeserializeOwned>(&self) -> Result<T, StageError> {
        self.request.values.parse().map_err(|e| StageError::bug(format!("parameters do not match their declaration: {e}")))
    }

    /// Path of an input that the kind requires.
    ///
    /// # Errors
    /// Where the kind did not declare it: a bug.
    pub fn input(&self, name: &str) -> Result<&Path, StageError> {
        self.maybe_input(name).ok_or_else(|| StageError::bug(format!("no input {name}")))
    }

    /// Path of an input that may be absent.
    pub fn maybe_input(&self, name: &str) -> Option<&Path> {
        self.request.inputs.get(name).map(|input| input.path.as_path())
    }

    /// Where to write an output.
    ///
    /// # Errors
    /// Where the kind did not declare it: a bug.
    pub fn output(&self, name: &str) -> Result<&Path, StageError> {
        self.request.outputs.get(name).map(PathBuf::as_path).ok_or_else(|| StageError::bug(format!("no output {name}")))
    }

    /// The folder for the stage's own use, gone afterwards.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<&Path, StageError> {
        let folder = &self.request.scratch;
        std::fs::create_dir_all(folder).map_err(|error| StageError::io(folder, &error))?;
        Ok(folder)
    }

    /// Fails with `Interrupted` once the run is being interrupted; long loops call it.
    ///
    /// # Errors
    /// When the user has asked to stop.
    pub fn checkpoint(&self) -> Result<(), StageError> {
        if self.cancel.load(Ordering::Relaxed) { Err(StageError::interrupted()) } else { Ok(()) }
    }
}
