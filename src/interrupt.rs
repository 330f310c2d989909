//! Ctrl-C: the first asks running stages to stop, the second ends the program at once. Jobs of a cluster are left alone until the second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qapipe_engine::slurm::Orders;
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
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    listen(move |_| {
        if flag.swap(true, Ordering::SeqCst) {
            end();
        }
        tell("interrupted: running stages are being stopped (once more to end at once)");
    })?;
    Ok(cancel)
}

/// The same where stages are jobs of a cluster. Ctrl-C stops submitting, a second one cancels the jobs, a third ends the program. Who ends the
/// program in another way, or closes its terminal, leaves the jobs running.
pub(crate) fn watch_jobs(orders: Arc<Orders>, tell: impl Fn(&str) + Send + 'static) -> Result<Arc<AtomicBool>, Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    let mut heard = 0;
    listen(move |signal| {
        heard += 1;
        flag.store(true, Ordering::SeqCst);
        match (signal, heard) {
            (SIGINT, 1) => tell("interrupted: nothing more is submitted; what is submitted is waited for (once more to cancel it)"),
            (SIGINT, 2) => {
                orders.cancel();
                tell("interrupted: the jobs are being cancelled (once more to end at once)");
            }
            (SIGINT, _) => end(),
            _ => orders.leave(),
        }
    })?;
    Ok(cancel)
}

fn listen(mut heard: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
    let failed = |error| Failure::new(Exit::Environment, format!("cannot watch for signals: {error}"));
    let mut signals = Signals::new(asked()).map_err(failed)?;
    std::thread::spawn(move || signals.forever().for_each(&mut heard));
    Ok(())
}

fn end() -> ! {
    std::process::exit(i32::from(Exit::Interrupted as u8));
}
