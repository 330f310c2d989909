//! What can go wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

use crate::artifact::Artifact;

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The folder was laid out by another version of qapipe.
    #[error("{}: store layout {found} is not one that this qapipe reads (it reads {expected})", path.display())]
    Layout {
        /// The store's folder.
        path: PathBuf,
        /// Its layout.
        found: String,
        /// Ours.
        expected: &'static str,
    },
    /// What a stage wrote is neither a file nor a folder.
    #[error("{}: only files and folders can be kept, this is a {what}", path.display())]
    NotPlain {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Something of the user's is where an artifact is to be put.
    #[error("{} is there already and was not put there by qapipe", path.display())]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// An artifact is to be put into the store's own folder, or around it.
    #[error("{} meets the store {}, which nothing else may write", path.display(), store.display())]
    InStore {
        /// Where.
        path: PathBuf,
        /// The store's folder.
        store: PathBuf,
    },
    /// A folder of the user's whose digest is wanted has a store in it.
    #[error("{} is the store, which changes with every run: a folder that holds it cannot be an input", store.display())]
    HoldsStore {
        /// The store's folder.
        store: PathBuf,
    },
    /// A stored object is not what it was.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// A stored object that is not what it was when it was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored object {} is damaged: {what}", artifact.digest.short())]
pub struct Damage {
    /// Which object.
    pub artifact: Artifact,
    /// What was found.
    pub what: String,
}

impl CacheError {
    /// Ties an IO error to its path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// Whether the machine is at fault (a full disk, a missing permission) rather than the work.
    #[must_use]
    pub fn is_environment(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
            ),
            Self::Layout { .. } => true,
            Self::NotPlain { .. } | Self::Occupied { .. } | Self::InStore { .. } | Self::HoldsStore { .. } | Self::Damage(_) => false,
        }
    }
}

/// An error and what caused it, in one line; causes that it says already are left out.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
