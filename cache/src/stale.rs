//! Files that another machine has removed or replaced meanwhile: on a network file system an open one may then be stale.

use std::io::{Error, ErrorKind, Result};

/// How often something is tried again. Each time it opens its file anew: one that stays stale lies in a folder that is gone.
const TRIES: usize = 100;

/// Whether an error says that the file is no longer what its name means.
pub(crate) fn is_stale(error: &Error) -> bool {
    error.kind() == ErrorKind::StaleNetworkFileHandle
}

/// Does something that opens a file, again where that has become stale.
pub(crate) fn anew<T>(mut open_and_do: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match open_and_do() {
            Err(error) if is_stale(&error) => {}
            done => return done,
        }
    }
    open_and_do()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_stale_is_opened_anew_and_nothing_else_is() {
        let mut left = 3;
        let done = anew(|| {
            left -= 1;
            if left > 0 { Err(ErrorKind::StaleNetworkFileHandle.into()) } else { Ok(left) }
        });
        assert_eq!(done.unwrap(), 0);
        let mut tries = 0;
        let mut fail = |kind: ErrorKind| {
            tries = 0;
            let failed: Result<()> = anew(|| {
                tries += 1;
                Err(kind.into())
            });
            (failed.unwrap_err().kind(), tries)
        };
        assert_eq!(fail(ErrorKind::PermissionDenied), (ErrorKind::PermissionDenied, 1));
        assert_eq!(fail(ErrorKind::StaleNetworkFileHandle), (ErrorKind::StaleNetworkFileHandle, TRIES));
    }
}
