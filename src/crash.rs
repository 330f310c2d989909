//! What happens when qapipe itself is at fault: a short report instead of a raw panic, and exit code 70.

use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use qapipe_engine::panic_text;

use crate::failure::Exit;

/// Runs the program; a panic ends in a short report.
pub(crate) fn guard(program: impl FnOnce() -> ExitCode) -> ExitCode {
    let first: Arc<Mutex<Option<String>>> = Arc::default();
    let seen = Arc::clone(&first);
    panic::set_hook(Box::new(move |info| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| what_and_where(info));
    }));
    panic::catch_unwind(AssertUnwindSafe(program)).unwrap_or_else(|_| {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        eprintln!("{}", report(first.as_deref().unwrap_or("unknown")));
        Exit::Bug.into()
    })
}

/// The panic's message and place in one line.
fn what_and_where(info: &PanicHookInfo<'_>) -> String {
    let text = panic_text(info.payload()).lines().next().unwrap_or_default();
    info.location().map_or_else(|| text.to_owned(), |place| format!("{text} ({}:{})", place.file(), place.line()))
}

fn report(what: &str) -> String {
    format!(
        "error: qapipe has a bug: {what}\n  \
         help: nothing half-done was recorded; please report this, with the command and this version, at\n        \
         {}/issues\n  qapipe {}",
        env!("CARGO_PKG_REPOSITORY"),
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    #[test]
    fn a_panic_becomes_exit_code_70() {
        let code = guard(|| panic!("poked\nmore"));
        drop(panic::take_hook());
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(70)));
        assert!(report("poked (src/x.rs:1)").starts_with("error: qapipe has a bug: poked (src/x.rs:1)\n"));
    }
}
