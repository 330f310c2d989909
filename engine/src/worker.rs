//! Stages that run in a worker process: what the two sides say to each other, and the side that asks.
//!
//! The worker gets one [`Request`] as a line of JSON on its standard input, which stays open: its end means that the asking process died, a line
//! `cancel` means stop. It answers with lines of JSON, each a [`Say`], on its standard output; its standard error is its log.

use std::io::Write;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::child;
use crate::context::{Reporter, Request, StageCx};
use crate::error::StageError;
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
    /// The stage wrote all of its outputs. Always last.
    Done,
    /// The stage failed. Always last.
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

/// Runs a stage in a worker process.
pub(crate) fn run(worker: Option<&WorkerCommand>, cx: &StageCx<'_>) -> Result<(), StageError> {
    let worker = worker.ok_or_else(|| {
        StageError::environment("there is no qapipe-worker beside qapipe")
            .help("build it (cargo build --bins), or set QAPIPE_WORKER to its path")
    })?;
    let mut command = Command::new(&worker.path);
    command.args(&worker.args).stdin(Stdio::piped()).current_dir(&cx.request.folder);
    if SPINNING.iter().all(|name| std::env::var_os(name).is_none()) {
        // Threads of OpenMP wait for each other at the end of every operation; on a machine that is busy otherwise they would spin their time
        // away. Where it is not, this costs nothing.
        command.env(SPINNING[0], "1000");
    }
    if cx.request.strict {
        // cuBLAS repeats itself only with a workspace of a stated size.
        command.env("CUBLAS_WORKSPACE_CONFIG", ":4096:8");
    }
    let group = child::Group::new().map_err(|error| StageError::environment(format!("cannot start /bin/sh: {error}")))?;
    let mut child =
        group.spawn(&mut command).map_err(|error| StageError::environment(format!("cannot start {}: {error}", worker.path.display())))?;
    let (last, tail) = (Mutex::new(None), Tail::default());
    let input = Mutex::new(send(child.stdin.take(), cx.request)?);
    let out = |line: &str| hear(line, cx.reporter, &tail, &last);
    let err = |line: &str| {
        tail.push(line);
        cx.reporter.log(line);
    };
    let status = child::attend(child, group, cx.cancel, |_| ask(&input), (out, err));
    let status = status.map_err(|error| StageError::environment(format!("cannot wait for the worker: {error}")))?;
    cx.checkpoint()?;
    let last = last.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcome(last, status, &tail)
}

/// A worker that dies at once breaks the pipe; how it ended says more than that.
fn send(input: Option<ChildStdin>, request: &Request) -> Result<Option<ChildStdin>, StageError> {
    let Some(mut input) = input else { return Ok(None) };
    let mut line = serde_json::to_vec(request).map_err(|error| StageError::bug(format!("request: {error}")))?;
    line.push(b'\n');
    Ok(input.write_all(&line).and_then(|()| input.flush()).is_ok().then_some(input))
}

fn ask(input: &Mutex<Option<ChildStdin>>) {
    let mut input = input.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(input) = input.as_mut() {
        let _ = writeln!(input, "{CANCEL}").and_then(|()| input.flush());
    }
}

fn hear(line: &str, reporter: &dyn Reporter, tail: &Tail, last: &Mutex<Option<Say>>) {
    match serde_json::from_str(line) {
        Ok(Say::Progress { done, total, unit, note }) => reporter.progress(done, total, &unit, &note),
        Ok(Say::Log { line }) => reporter.log(&line),
        Ok(Say::Measure { name, value }) => reporter.measure(&name, value),
        Ok(Say::Fact { name, value }) => reporter.fact(&name, &value),
        Ok(end) => *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(end),
        Err(_) => {
            tail.push(line);
            reporter.log(line);
        }
    }
}

fn outcome(last: Option<Say>, status: ExitStatus, tail: &Tail) -> Result<(), StageError> {
    match last {
        Some(Say::Done) if status.success() => Ok(()),
        Some(Say::Error { error }) => Err(error),
        _ => Err(StageError::failed(format!("the worker died: {}{}", child::ending(status), tail.text()))
            .help("`qapipe logs STAGE` shows all that it printed; `qapipe env` shows what it runs on")),
    }
}
