//! Child processes: a group of their own, their output line by line, and an end to them when the run is stopped or killed.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::stream::{Ended, Stream};

/// How long a process that was asked to stop may take.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until its standard input ends, which is when the process that holds the other end dies, and then ends its group.
const GUARD: &str = "trap '' HUP INT TERM; read -r _; kill -KILL 0";

/// A process group that lives no longer than this process, however that ends: a small shell in it watches.
pub(crate) struct Group {
    guard: Child,
}

impl Group {
    /// An empty group.
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { guard: guard.spawn()? })
    }

    /// Starts a command in the group, with its output piped.
    pub(crate) fn spawn(&self, command: &mut Command) -> std::io::Result<Child> {
        command.process_group(self.guard.id().cast_signed()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }

    /// Signals all of the group. The guard ignores what asks politely.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.guard.id().cast_signed()) {
            let _ = kill_process_group(group, signal);
        }
    }
}

/// What a command left running ends with its stage.
impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.guard.wait();
    }
}

/// Hears a child of a group out, line by line on either stream, until it has ended, and ends the group. Once `cancel` is set, `ask` asks it to
/// stop, and after a grace period the group is killed.
pub(crate) fn attend(
    mut child: Child,
    group: Group,
    cancel: &AtomicBool,
    ask: impl Fn(&Group),
    (out, err): (impl FnMut(&str) + Send, impl FnMut(&str) + Send),
) -> std::io::Result<ExitStatus> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = Ended::default();
    std::thread::scope(|scope| {
        scope.spawn(|| stdout.map(|pipe| each_line(Stream::new(pipe, &ended), out)));
        scope.spawn(|| stderr.map(|pipe| each_line(Stream::new(pipe, &ended), err)));
        let status = wait(&mut child, &group, cancel, || ask(&group));
        // What it left running in its group would keep its output open.
        drop(group);
        ended.now();
        status
    })
}

/// Waits for a child of a group. Once `cancel` is set, `ask` asks it to stop, and after a grace period the group is killed.
fn wait(child: &mut Child, group: &Group, cancel: &AtomicBool, ask: impl Fn()) -> std::io::Result<ExitStatus> {
    let mut pause = Duration::from_micros(500);
    let mut stop = Stop::default();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        stop.press(group, cancel, &ask);
        std::thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_millis(20));
    }
}

/// How long ago a child was asked to stop, if it was.
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

/// A line longer than this is cut in pieces.
const LONGEST: usize = 1 << 20;

/// Calls `line` with each line of a stream, until it ends. A carriage return ends a line too: so a progress bar is seen
/// while it moves. Bytes that are no UTF-8 are replaced.
pub(crate) fn each_line(stream: impl Read, mut line: impl FnMut(&str)) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    let mut returned = false;
    loop {
        let (used, end) = match reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok([]) | Err(_) => break,
            Ok(buffer) => {
                let end = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                bytes.extend_from_slice(&buffer[..end.unwrap_or(buffer.len())]);
                (end.map_or(buffer.len(), |end| end + 1), end.map(|end| buffer[end]))
            }
        };
        reader.consume(used);
        let second_half = returned && end == Some(b'\n') && bytes.is_empty();
        if (end.is_some() && !second_half) || bytes.len() >= LONGEST {
            line(&String::from_utf8_lossy(&bytes));
            bytes.clear();
        }
        returned = end == Some(b'\r');
    }
    if !bytes.is_empty() {
        line(&String::from_utf8_lossy(&bytes));
    }
}

/// How a process ended, in words.
pub(crate) fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}{}", name(signal)),
        _ => "ended in an unknown way".to_owned(),
    }
}

/// The signals that people meet.
fn name(signal: i32) -> &'static str {
    match Signal::from_named_raw(signal) {
        Some(Signal::ABORT) => " (aborted)",
        Some(Signal::SEGV) => " (segmentation fault)",
        Some(Signal::KILL) => " (killed, perhaps for want of memory)",
        Some(Signal::TERM) => " (terminated)",
        Some(Signal::BUS) => " (bus error)",
        Some(Signal::ILL) => " (illegal instruction)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::Command;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::{Group, attend, each_line};

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        each_line(bytes, |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn every_sort_of_line_end() {
        assert_eq!(lines(b"a\n\nb\r\nc\r 10%\r 20%\nlast"), ["a", "", "b", "c", " 10%", " 20%", "last"]);
        assert_eq!(lines(b""), [""; 0]);
        assert_eq!(lines(b"\xff\n"), ["\u{fffd}"]);
    }

    /// It takes longer than what is heard after the end of the child may take.
    #[test]
    fn a_slow_listener_misses_nothing() {
        let group = Group::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "for n in 1 2 3 4 5 6; do head -c 9999 /dev/zero | tr '\\0' x; echo; done"]);
        let child = group.spawn(&mut command).unwrap();
        let mut heard = Vec::new();
        let out = |line: &str| {
            std::thread::sleep(Duration::from_millis(300));
            heard.push(line.len());
        };
        assert!(attend(child, group, &AtomicBool::new(false), |_| (), (out, |_: &str| ())).unwrap().success());
        assert_eq!(heard, [9999; 6]);
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let long = vec![b'x'; 3 << 20];
        assert!(lines(&long).iter().all(|line| line.len() <= (1 << 20) + 8192));
        assert_eq!(lines(&long).concat().len(), long.len());
    }
}
