//! What goes wrong between here and the hub.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;

/// Why a request or a download did not work.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The hub refuses.
    Status {
        /// The HTTP status.
        code: u16,
        /// How long it asks to wait.
        wait: Option<Duration>,
    },
    /// The hub cannot be reached, or the connection broke.
    Transport(ureq::Error),
    /// A download ended before its end.
    Cut {
        /// Bytes that are here.
        have: u64,
        /// Bytes that the file has.
        size: u64,
    },
    /// A file is not as long as the hub says.
    Size {
        /// Bytes that the hub speaks of.
        stated: u64,
        /// Bytes that it sends.
        found: u64,
    },
    /// A file is as long as it should be, but another.
    Digest {
        /// Whether a part of it was there before, and may be to blame.
        resumed: bool,
    },
    /// What is here cannot be continued with what the hub sends.
    Range,
    /// The hub answers what cannot be understood.
    Answer(String),
    /// The cache cannot be written.
    File(PathBuf, std::io::Error),
}

impl Trouble {
    /// Ties what the file system says to its path.
    pub(super) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File(path.to_owned(), source)
    }

    /// Whether it may pass when it is tried again.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Status { code, .. } => matches!(code, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            Self::Transport(ureq::Error::Io(error)) => error.kind() != std::io::ErrorKind::ConnectionRefused,
            Self::Transport(error) => matches!(error, ureq::Error::Timeout(_) | ureq::Error::Protocol(_)),
            Self::Cut { .. } | Self::Range => true,
            Self::Digest { resumed } => *resumed,
            Self::Size { .. } | Self::Answer(_) | Self::File(..) => false,
        }
    }

    /// How long the hub asks to wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        if let Self::Status { wait, .. } = self { *wait } else { None }
    }

    /// What it means for the user. `what` is what was wanted.
    pub(super) fn explain(self, what: &str) -> Error {
        let again = "run it again; what has come so far is kept and continued";
        match self {
            Self::Status { code, wait } => refusal(what, code, wait),
            Self::Transport(error) => Error::environment(format!("{what}: {error}"))
                .help("check the network and HF_ENDPOINT; with the files in the cache, --offline works without a network"),
            Self::Cut { have, size } => {
                Error::environment(format!("{what}: the download broke off after {have} of {size} bytes")).help(again)
            }
            Self::Size { stated, found } => {
                Error::environment(format!("{what}: the hub says that it has {stated} bytes, and sends {found}"))
                    .help("nothing of it is kept; try again later, or another HF_ENDPOINT")
            }
            Self::Digest { .. } => Error::environment(format!("{what}: what came is not the file: its SHA-256 is another"))
                .help("nothing of it is kept; try again, or another HF_ENDPOINT"),
            Self::Range => Error::environment(format!("{what}: the hub does not continue a download that broke off")).help(again),
            Self::Answer(message) => Error::environment(format!("{what}: the answer of the hub {message}")).help("check HF_ENDPOINT"),
            Self::File(path, source) => Error::Io { path, source },
        }
    }
}

/// What a status means for the user.
fn refusal(what: &str, code: u16, wait: Option<Duration>) -> Error {
    let token = "for a gated or private repository accept its terms on the hub, and set HF_TOKEN";
    match code {
        401 => Error::environment(format!("{what}: the hub knows no such repository, or it is private (401)"))
            .help(format!("check the name; {token}")),
        403 => Error::environment(format!("{what}: the hub refuses access (403)")).help(token),
        404 => Error::data(format!("{what}: the hub has no such repository, revision or file (404)"))
            .help("check the name after `hub:`, and the revision after `@`"),
        429 => {
            let wait = wait.map_or_else(|| "a little".to_owned(), |wait| format!("{} s", wait.as_secs()));
            Error::environment(format!("{what}: the hub is asked too often (429)")).help(format!("wait {wait}, or set HF_TOKEN"))
        }
        code => Error::environment(format!("{what}: the hub answers with status {code}")).help("try again later"),
    }
}
