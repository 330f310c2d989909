//! Files that another machine has removed or replaced meanwhile: on a network file system an open one may then be stale.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

/// How long a machine may go on believing what it last knew of a name. Network file systems ask again after a second or a few.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause before something is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// Does something that opens a file by its name, again where what it has opened is stale.
pub(crate) fn anew<T>(open_and_do: impl FnMut() -> Result<T>) -> Result<T> {
    patiently(open_and_do, std::thread::sleep)
}

fn patiently<T>(mut open_and_do: impl FnMut() -> Result<T>, mut wait: impl FnMut(Duration)) -> Result<T> {
    let (mut pause, longest) = PAUSES;
    let mut waited = Duration::ZERO;
    loop {
        match open_and_do() {
            Err(error) if is_stale(&error) && waited < PATIENCE => wait(pause),
            done => return done,
        }
        waited += pause;
        pause = (pause * 2).min(longest);
    }
}

/// Whether an error says that the file is no longer what its name means.
fn is_stale(error: &Error) -> bool {
    error.kind() == ErrorKind::StaleNetworkFileHandle
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_stale_is_opened_anew() {
        let mut left = 3;
        let opened = anew(|| {
            left -= 1;
            if left > 0 { Err(ErrorKind::StaleNetworkFileHandle.into()) } else { Ok(left) }
        });
        assert_eq!(opened.unwrap(), 0);
    }

    #[test]
    fn what_stays_stale_is_an_error_in_the_end_and_anything_else_at_once() {
        let fail = |kind: ErrorKind| {
            let mut waited = Duration::ZERO;
            let failed: Result<()> = patiently(|| Err(kind.into()), |pause| waited += pause);
            (failed.unwrap_err().kind(), waited)
        };
        assert_eq!(fail(ErrorKind::PermissionDenied), (ErrorKind::PermissionDenied, Duration::ZERO));
        let (kind, waited) = fail(ErrorKind::StaleNetworkFileHandle);
        assert!(kind == ErrorKind::StaleNetworkFileHandle && waited >= PATIENCE && waited < PATIENCE * 2, "{waited:?}");
    }
}
