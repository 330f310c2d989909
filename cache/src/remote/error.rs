//! What can go wrong with a remote.

use crate::error::{CacheError, Damage};

/// Why a remote could not do what was asked. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody answers, or the connection broke off.
    #[error("remote {remote} cannot be reached: {what}")]
    Unreachable {
        /// Address of the remote.
        remote: String,
        /// What happened.
        what: String,
    },
    /// It answers, but not to us.
    #[error("remote {remote} refuses access: {what}")]
    Denied {
        /// Address of the remote.
        remote: String,
        /// What it said.
        what: String,
    },
    /// The bucket or the folder is not there.
    #[error("remote {remote} does not exist: {what}")]
    Missing {
        /// Address of the remote.
        remote: String,
        /// What it said.
        what: String,
    },
    /// Another version of qapipe laid it out.
    #[error("remote {remote} has layout `{found}`, which is not one that this qapipe reads (it reads `{expected}`)")]
    Layout {
        /// Address of the remote.
        remote: String,
        /// Its layout.
        found: String,
        /// Ours.
        expected: &'static str,
    },
    /// Something there is not what it was.
    #[error("remote {remote}: {key} is damaged: {what}")]
    Damaged {
        /// Address of the remote.
        remote: String,
        /// Its name there.
        key: String,
        /// What was found.
        what: String,
    },
    /// Something that a record there cites is not there.
    #[error("remote {remote}: {key} is missing, though a record there cites it")]
    Lost {
        /// Address of the remote.
        remote: String,
        /// Its name there.
        key: String,
    },
    /// Anything else that it said.
    #[error("remote {remote}: {what}")]
    Failed {
        /// Address of the remote.
        remote: String,
        /// What it said.
        what: String,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// The store on this side failed.
    #[error("store: {0}")]
    Store(#[from] CacheError),
}

impl RemoteError {
    /// Whether one thing there is at fault, and everything else may still be had.
    #[must_use]
    pub fn is_local_to_one(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Lost { .. } | Self::Store(CacheError::Damage(_)))
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => {
                Some("look at the network and the address; what was transferred is kept, and the next try goes on from there")
            }
            Self::Denied { .. } => Some(
                "look at the credentials, which come from the environment (AWS_…, GOOGLE_…, AZURE_…), and at what they may do (on S3 they have to list the bucket too: otherwise what is missing looks forbidden)",
            ),
            Self::Missing { .. } => Some("make it, or correct the address of the remote in qapipe.toml or QAPIPE_REMOTE"),
            Self::Layout { .. } => Some("use the qapipe that wrote it, or name an empty place"),
            Self::Damaged { .. } | Self::Lost { .. } => {
                Some("delete what is damaged there; `qapipe cache push` from a store that has the result puts it there again")
            }
            Self::Failed { .. } | Self::Interrupted | Self::Store(_) => None,
        }
    }
}

impl From<Damage> for RemoteError {
    fn from(damage: Damage) -> Self {
        Self::Store(damage.into())
    }
}
