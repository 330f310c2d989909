//! Where everything lies in a store's folder.

use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// The layout that this version writes and reads.
pub(crate) const LAYOUT: &str = "1";

/// Paths inside a store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    pub(crate) fn version(&self) -> PathBuf {
        self.root.join("VERSION")
    }

    pub(crate) fn object(&self, digest: &Digest) -> PathBuf {
        self.sharded("objects", digest, "")
    }

    pub(crate) fn tree(&self, digest: &Digest) -> PathBuf {
        self.sharded("trees", digest, "")
    }

    pub(crate) fn listing(&self, digest: &Digest) -> PathBuf {
        self.sharded("trees", digest, ".json")
    }

    pub(crate) fn record(&self, fingerprint: &Digest) -> PathBuf {
        self.sharded("records", fingerprint, ".json")
    }

    pub(crate) fn lock(&self, fingerprint: &Digest) -> PathBuf {
        self.root.join("locks").join(fingerprint.to_string())
    }

    /// What a new store starts with, so that each is synced with the store's folder.
    pub(crate) fn folders(&self) -> [PathBuf; 5] {
        ["objects", "trees", "records", "locks", "scratch"].map(|name| self.root.join(name))
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// What has been put at a path of the user's, named by the digest of the path.
    pub(crate) fn placed(&self, path: &Digest) -> PathBuf {
        self.placed_notes().join(path.to_string())
    }

    pub(crate) fn placed_notes(&self) -> PathBuf {
        self.root.join("placed")
    }

    /// What was in the place of an output and is nowhere else.
    pub(crate) fn replaced(&self) -> PathBuf {
        self.root.join("replaced")
    }

    /// Small results that are kept one by one.
    pub(crate) fn rows(&self) -> PathBuf {
        self.root.join("rows")
    }

    pub(crate) fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    fn sharded(&self, folder: &str, digest: &Digest, suffix: &str) -> PathBuf {
        let hex = digest.to_string();
        let mut path = String::with_capacity(folder.len() + hex.len() + suffix.len() + 4);
        path.push_str(folder);
        path.push('/');
        path.push_str(&hex[..2]);
        path.push('/');
        path.push_str(&hex);
        path.push_str(suffix);
        Path::new(&self.root).join(path)
    }
}
