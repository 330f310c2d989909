//! Ctrl-C: the first asks running stages to stop, the second ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Exit, Failure};

/// Sets the returned flag at the first signal that asks the program to end, and tells so; ends the program at the second.
pub(crate) fn watch(tell: impl Fn(&str) + Send + 'static) -> Result<Arc<AtomicBool>, Failure> {
    let failed = |error| Failure::new(Exit::Environment, format!("cannot watch for signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
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
