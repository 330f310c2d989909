//! Stages that run in a worker process: what the two sides say to each other, and the side that asks.
//!
//! The worker gets [`Request`]s, one after the other, each a line of JSON on its standard input, which stays open: its end means that no more
//! will come or that the asking process died, a line `cancel` means stop. It answers with lines of JSON, each a [`Say`], on its standard output; its
//! standard error is its log, where a line [`QUIET`] says that a stage which is done has printed all of it. A worker whose stage is done waits for
//! the next one, with libtorch loaded and the GPU at hand; one whose stage failed ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::child::{self, PAUSE};
use crate::context::{Reporter, Request, StageCx};
use crate::ears::{Ears, Side};
use crate::error::StageError;
use crate::group::{Group, Stop};
use crate::tail::Tail;

/// One line of a worker's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Say {
    /// The stage advanced; see [`Reporter::progress`].
    Progress {
        /// Units done.
        done: u64,
        /// Units in all; 0 when unknown.
        total: u64,
        /// What is counted.
        unit: String,
        /// Something short.
        note: String,
    },
    /// A line of the stage's log.
    Log {
        /// The line.
        line: String,
    },
    /// A figure for the action record; see [`Reporter::measure`].
    Measure {
        /// Its name.
        name: String,
        /// Its value.
        value: f64,
    },
    /// Where the stage runs and with what; see [`Reporter::fact`].
    Fact {
        /// What it is about.
        name: String,
        /// What holds.
        value: String,
    },
    /// The stage wrote all of its outputs. Always last of a stage.
    Done,
    /// The stage failed. Always last of a worker.
    Error {
        /// Why.
        error: StageError,
    },
}

/// How to start a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What says how long threads of OpenMP spin before they sleep.
const SPINNING: [&str; 2] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"];

/// The line that asks a worker to stop.
pub const CANCEL: &str = "cancel";

/// The line on standard error after which nothing more comes of a stage that is done.
pub const QUIET: &str = "\u{4}quiet";

/// Worker processes that wait for their next stage.
#[derive(Default)]
pub(crate) struct Workers(Mutex<Vec<Worker>>);

impl Workers {
    /// Runs a stage in a worker that waits, or in a new one.
    pub(crate) fn run(&self, command: Option<&WorkerCommand>, gpu: Option<u16>, cx: &StageCx<'_>) -> Result<(), StageError> {
        let mut worker = match self.waiting(&cx.request.folder, gpu) {
            Some(worker) => worker,
            None => Worker::start(command, cx.request)?,
        };
        worker.gpu = gpu;
        if worker.run(cx)? {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
        Ok(())
    }

    /// One that was started for stages of the same folder, and that has used this GPU or none: what CUDA takes of a GPU for a process is taken
    /// until the process ends. So others end that wait with memory of the GPU.
    fn waiting(&self, folder: &Path, gpu: Option<u16>) -> Option<Worker> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain_mut(|worker| worker.is_alive());
        let place = |gpu| waiting.iter().position(|worker| worker.folder == folder && worker.gpu == gpu);
        let found = place(gpu).or_else(|| place(None)).map(|at| waiting.swap_remove(at));
        let idle: Vec<Worker> = waiting.extract_if(.., |worker| gpu.is_some() && worker.gpu == gpu).collect();
        // Nobody else has to wait until they have ended.
        drop(waiting);
        drop(idle);
        found
    }
}

/// A worker process.
struct Worker {
    /// What it was started in.
    folder: PathBuf,
    /// The GPU that it has used.
    gpu: Option<u16>,
    group: Group,
    input: Option<ChildStdin>,
    ears: Ears,
}

impl Worker {
    fn start(command: Option<&WorkerCommand>, request: &Request) -> Result<Self, StageError> {
        let command = command.ok_or_else(|| {
            StageError::environment("there is no qapipe-worker beside qapipe")
                .help("build it (cargo build --bins), or set QAPIPE_WORKER to its path")
        })?;
        let group = Group::start(&mut process(command, &request.folder, request.strict));
        let mut group = group.map_err(|error| StageError::environment(format!("cannot start {}: {error}", command.path.display())))?;
        Ok(Self { folder: request.folder.clone(), gpu: None, input: group.input(), ears: Ears::of(&mut group), group })
    }

    fn is_alive(&self) -> bool {
        matches!(self.group.has_ended(), Ok(false))
    }

    /// Runs a stage; gives whether it can run another one.
    fn run(&mut self, cx: &StageCx<'_>) -> Result<bool, StageError> {
        self.send(cx.request)?;
        let mut stage = Running { reporter: cx.reporter, tail: Tail::default(), last: None, quiet: false };
        let mut stop = Stop::default();
        while !stage.is_done() {
            if self.group.has_ended().map_err(|error| cannot_wait(&error))? {
                // What it left running would keep its output open.
                self.end()?;
                if !self.ears.are_open() {
                    break;
                }
            }
            self.ears.hear(PAUSE, |side, line| stage.hear(side, line)).map_err(|error| cannot_wait(&error))?;
            stop.press(&self.group, cx.cancel, || ask(&mut self.input));
        }
        if stage.is_done() {
            cx.checkpoint()?;
            return Ok(true);
        }
        let status = self.end()?;
        child::wait_for_the_same(status, cx.cancel);
        cx.checkpoint()?;
        stage.outcome(status).map(|()| false)
    }

    /// A worker that dies at once breaks the pipe; how it ended says more than that.
    fn send(&mut self, request: &Request) -> Result<(), StageError> {
        let mut line = serde_json::to_vec(request).map_err(|error| StageError::bug(format!("request: {error}")))?;
        line.push(b'\n');
        if self.input.as_mut().is_some_and(|input| input.write_all(&line).and_then(|()| input.flush()).is_err()) {
            self.input = None;
        }
        Ok(())
    }

    /// Ends what still runs; gives how the worker ended.
    fn end(&mut self) -> Result<ExitStatus, StageError> {
        self.ears.ended();
        self.group.end().map_err(|error| cannot_wait(&error))
    }
}

fn process(worker: &WorkerCommand, folder: &Path, strict: bool) -> Command {
    let mut command = Command::new(&worker.path);
    command.args(&worker.args).stdin(Stdio::piped()).current_dir(folder);
    if SPINNING.iter().all(|name| std::env::var_os(name).is_none()) {
        // Threads of OpenMP wait for each other at the end of every operation; on a machine that is busy otherwise they would spin their time
        // away. Where it is not, this costs nothing.
        command.env(SPINNING[0], "1000");
    }
    if strict {
        // cuBLAS repeats itself only with a workspace of a stated size.
        command.env("CUBLAS_WORKSPACE_CONFIG", ":4096:8");
    }
    command
}

fn ask(input: &mut Option<ChildStdin>) {
    if let Some(input) = input {
        let _ = writeln!(input, "{CANCEL}").and_then(|()| input.flush());
    }
}

fn cannot_wait(error: &std::io::Error) -> StageError {
    StageError::environment(format!("cannot wait for the worker: {error}"))
}

/// A stage that a worker runs.
struct Running<'a> {
    reporter: &'a dyn Reporter,
    tail: Tail,
    last: Option<Say>,
    quiet: bool,
}

impl Running<'_> {
    /// Takes a line that the worker prints.
    fn hear(&mut self, side: Side, line: &str) {
        match side {
            Side::Out => self.say(line),
            Side::Err if line == QUIET => self.quiet = true,
            Side::Err => self.log(line),
        }
    }

    fn say(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Say::Progress { done, total, unit, note }) => self.reporter.progress(done, total, &unit, &note),
            Ok(Say::Log { line }) => self.reporter.log(&line),
            Ok(Say::Measure { name, value }) => self.reporter.measure(&name, value),
            Ok(Say::Fact { name, value }) => self.reporter.fact(&name, &value),
            Ok(end) => self.last = Some(end),
            Err(_) => self.log(line),
        }
    }

    fn log(&mut self, line: &str) {
        self.tail.push(line);
        self.reporter.log(line);
    }

    /// Whether the stage is done, and the worker waits for another one.
    fn is_done(&self) -> bool {
        self.quiet && self.last == Some(Say::Done)
    }

    /// What became of the stage of a worker that has ended.
    fn outcome(self, status: ExitStatus) -> Result<(), StageError> {
        match self.last {
            Some(Say::Done) if status.success() => Ok(()),
            Some(Say::Error { error }) => Err(error),
            _ => Err(StageError::failed(format!("the worker died: {}{}", child::ending(status), self.tail.text()))
                .help("`qapipe logs STAGE` shows all that it printed; `qapipe env` shows what it runs on")),
        }
    }
}
