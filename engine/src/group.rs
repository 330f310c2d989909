//! A command in a process group of its own, which lives no longer than this process, however that ends.

use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::sentinel::{Watched, place};

/// How long a process that was asked to stop may take.
const GRACE: Duration = Duration::from_secs(5);

/// A running command, and what it starts.
pub(crate) struct Group {
    /// The command. Until it is waited for, no other group gets its number.
    leader: Child,
    /// None once the group has ended.
    watched: Option<Watched>,
}

impl Group {
    /// Starts a command, with its output piped.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let watched = place()?;
        let leader = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let group = Self { leader, watched: Some(watched) };
        if let Some(watched) = &group.watched {
            watched.group(group.id()?)?;
        }
        Ok(group)
    }

    /// What the command prints. Each is given once.
    pub(crate) fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.leader.stdout.take(), self.leader.stderr.take())
    }

    /// What the command reads, if its input is piped. Given once.
    pub(crate) fn input(&mut self) -> Option<ChildStdin> {
        self.leader.stdin.take()
    }

    /// Signals all of the group, unless it has ended: its number may be another's by then.
    pub(crate) fn signal(&self, signal: Signal) {
        if let (Some(_), Ok(id)) = (&self.watched, self.id()) {
            let _ = kill_process_group(id, signal);
        }
    }

    /// Whether the command has ended. What it started may still run.
    pub(crate) fn has_ended(&self) -> Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(self.watched.is_none() || waitid(WaitId::Pid(self.id()?), look)?.is_some())
    }

    /// Ends what still runs; gives how the command ended.
    pub(crate) fn end(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.watched = None;
        self.leader.wait()
    }

    fn id(&self) -> Result<Pid> {
        Pid::from_raw(self.leader.id().cast_signed()).ok_or_else(|| Error::other("a process without a number"))
    }
}

/// What a command left running ends with its stage.
impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// How long ago a group was asked to stop, if it was.
#[derive(Default)]
pub(crate) struct Stop(Option<Instant>);

impl Stop {
    /// Once `cancel` is set, asks a group to stop; after a grace period, kills it.
    pub(crate) fn press(&mut self, group: &Group, cancel: &AtomicBool, ask: impl FnOnce()) {
        if !cancel.load(Ordering::Relaxed) {
            return;
        }
        let since = *self.0.get_or_insert_with(|| {
            ask();
            Instant::now()
        });
        if since.elapsed() > GRACE {
            group.signal(Signal::KILL);
        }
    }
}
