//! Commands: their output line by line, and how they ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::ears::{Ears, Side};
use crate::group::{Group, Stop};

/// How long to listen before looking whether the command has ended, or is to stop.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Runs a command and hears it out, line by line on either output, until it has ended, and ends what it left running. Once `cancel` is set, `ask`
/// asks its group to stop, and after a grace period the group is killed.
pub(crate) fn attend(
    mut group: Group,
    cancel: &AtomicBool,
    ask: impl Fn(&Group),
    mut line: impl FnMut(Side, &str),
) -> std::io::Result<ExitStatus> {
    let (mut ears, mut stop) = (Ears::of(&mut group), Stop::default());
    // As a rule it ends a moment after its output has.
    let mut pause = Duration::from_micros(50);
    while !group.has_ended()? {
        stop.press(&group, cancel, || ask(&group));
        if !ears.are_open() {
            pause = (pause * 2).min(PAUSE);
        }
        ears.hear(if ears.are_open() { PAUSE } else { pause }, &mut line)?;
    }
    // What it left running in its group would keep its output open.
    let status = group.end();
    ears.ended();
    while ears.are_open() {
        ears.hear(PAUSE, &mut line)?;
    }
    status
}

/// Whoever ends all processes of a job, as clusters do, may have reached a command just before this process: waits a moment to hear of it.
pub(crate) fn wait_for_the_same(status: ExitStatus, cancel: &AtomicBool) {
    const MOMENT: Duration = Duration::from_millis(500);
    let asked = [Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw);
    // Shells, and programs that catch a signal to clear up, tell it by their exit code.
    let ended_by = status.signal().or_else(|| status.code().map(|code| code - 128));
    let started = Instant::now();
    while ended_by.is_some_and(|signal| asked.contains(&signal)) && !cancel.load(Ordering::Relaxed) && started.elapsed() < MOMENT {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How a process ended, in words.
pub(crate) fn ending(status: ExitStatus) -> String {
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
    use std::time::{Duration, Instant};

    use super::{Ordering, attend, wait_for_the_same};
    use crate::ears::Side;
    use crate::group::Group;

    fn shell(script: &str, mut line: impl FnMut(Side, &str)) -> std::process::ExitStatus {
        let group = Group::start(Command::new("sh").args(["-c", script])).unwrap();
        attend(group, &AtomicBool::new(false), |_| (), |side, text| line(side, text)).unwrap()
    }

    /// It takes longer than what is heard after the end of the command may take.
    #[test]
    fn a_slow_listener_misses_nothing() {
        let mut heard = Vec::new();
        let status = shell("for n in 1 2 3 4 5 6; do head -c 9999 /dev/zero | tr '\\0' x; echo; done", |_, line| {
            std::thread::sleep(Duration::from_millis(300));
            heard.push(line.len());
        });
        assert!(status.success());
        assert_eq!(heard, [9999; 6]);
    }

    #[test]
    fn both_sides_are_heard_and_what_was_left_running_is_ended() {
        let (mut heard, started) = (Vec::new(), Instant::now());
        let status = shell("sleep 60 & echo out; echo err >&2; exit 3", |side, line| heard.push((side, line.to_owned())));
        heard.sort_by_key(|(side, _)| *side == Side::Err);
        assert_eq!(heard, [(Side::Out, "out".to_owned()), (Side::Err, "err".to_owned())]);
        assert_eq!((status.code(), started.elapsed() < Duration::from_secs(30)), (Some(3), true));
    }

    #[test]
    fn a_command_that_closes_its_output_is_waited_for() {
        assert_eq!(shell("exec >&- 2>&-; sleep 0.3; exit 4", |_, _| ()).code(), Some(4));
    }

    #[test]
    fn a_signal_to_all_is_heard_of_a_moment_later() {
        let cancel = AtomicBool::new(false);
        for script in ["kill -TERM $$", "exit 143"] {
            cancel.store(false, Ordering::Relaxed);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(100));
                    cancel.store(true, Ordering::Relaxed);
                });
                wait_for_the_same(shell(script, |_, _| ()), &cancel);
                assert!(cancel.load(Ordering::Relaxed), "{script}");
            });
        }
        let started = Instant::now();
        wait_for_the_same(shell("exit 1", |_, _| ()), &AtomicBool::new(false));
        assert!(started.elapsed() < Duration::from_millis(400), "a failure of its own is told at once");
    }
}
