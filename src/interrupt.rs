//! Ctrl-C: the first asks running stages to stop, the second ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Exit, Failure};

/// The signals that ask a program to end. The end of the terminal is none of them where `nohup` had it ignored.
fn asked() -> impl Iterator<Item = i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    [SIGINT, SIGTERM, SIGHUP].into_iter().filter(move |&signal| signal != SIGHUP || !ignores(&status, signal))
}

/// Whether a signal is ignored by the process with this `/proc/PID/status`, whose set has a bit a signal.
fn ignores(status: &str, signal: i32) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & (1 << (signal - 1)) != 0)
}

/// Sets the returned flag at the first signal that asks the program to end, and tells so; ends the program at the second.
pub(crate) fn watch(tell: impl Fn(&str) + Send + 'static) -> Result<Arc<AtomicBool>, Failure> {
    let failed = |error| Failure::new(Exit::Environment, format!("cannot watch for signals: {error}"));
    let mut signals = Signals::new(asked()).map_err(failed)?;
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(Exit::Interrupted as u8));
            }
            tell("interrupted: running stages are being stopped (once more to end at once)");
        }
    });
    Ok(cancel)
}
