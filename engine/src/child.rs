//! Child processes: their output line by line, and an end to them when the run is stopped.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long a process that was asked to stop may take.
const GRACE: Duration = Duration::from_secs(5);

/// Gives a command its own process group, so that what it starts ends with it.
pub(crate) fn grouped(command: &mut Command) -> &mut Command {
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// Waits for a child. Once `cancel` is set, `ask` asks it to stop, and after a grace period its group is killed.
pub(crate) fn wait(child: &mut Child, cancel: &AtomicBool, mut ask: impl FnMut(&mut Child)) -> std::io::Result<ExitStatus> {
    let mut pause = Duration::from_micros(500);
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if cancel.load(Ordering::Relaxed) {
            let since = *asked.get_or_insert_with(|| {
                ask(child);
                Instant::now()
            });
            if since.elapsed() > GRACE {
                signal(child, Signal::KILL);
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_millis(20));
    }
}

/// Signals a child's whole group. A group that is gone already is no error.
pub(crate) fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

/// Calls `line` with each line of a stream, until it ends. Bytes that are no UTF-8 are replaced.
pub(crate) fn each_line(stream: impl Read, mut line: impl FnMut(&str)) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&bytes);
        line(text.trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
}

/// How a process ended, in words.
pub(crate) fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        _ => "ended in an unknown way".to_owned(),
    }
}
