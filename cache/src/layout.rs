//! Where everything lies in a store's folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::CacheError;
use crate::scratch::{Room, Scratch};

/// The layout that this version writes and reads.
pub(crate) const LAYOUT: &str = "1";

/// Paths inside a store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    /// Where this process writes first.
    room: Arc<Room>,
}

impl Layout {
    pub(crate) fn of(root: &Path) -> Self {
        Self { root: root.to_path_buf(), room: Arc::default() }
    }

    /// A path for one file that is to be moved into place.
    pub(crate) fn scratch_file(&self) -> Result<Scratch, CacheError> {
        Scratch::nothing(&self.room, &self.scratch())
    }

    /// An empty folder.
    pub(crate) fn scratch_folder(&self) -> Result<Scratch, CacheError> {
        Scratch::folder(&self.room, &self.scratch())
    }

    pub(crate) fn version(&self) -> PathBuf {
        self.root.join("VERSION")
    }

    pub(crate) fn object(&self, digest: &Digest) -> PathBuf {
        self.root.join(object(digest))
    }

    pub(crate) fn tree(&self, digest: &Digest) -> PathBuf {
        self.root.join(sharded("trees", digest, ""))
    }

    pub(crate) fn listing(&self, digest: &Digest) -> PathBuf {
        self.root.join(listing(digest))
    }

    pub(crate) fn record(&self, fingerprint: &Digest) -> PathBuf {
        self.root.join(record(fingerprint))
    }

    pub(crate) fn records(&self) -> PathBuf {
        self.root.join(RECORDS)
    }

    pub(crate) fn lock(&self, fingerprint: &Digest) -> PathBuf {
        self.locks().join(fingerprint.to_string())
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// What living processes go on using.
    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn trees(&self) -> PathBuf {
        self.root.join("trees")
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

    /// The lock under which something is put at a path of the user's. It stays, so there are few, which several paths share.
    pub(crate) fn placing(&self, path: &Digest) -> PathBuf {
        self.root.join("placing").join(&path.to_string()[..2])
    }

    /// What was in the place of an output and is nowhere else.
    pub(crate) fn replaced(&self) -> PathBuf {
        self.root.join("replaced")
    }

    /// Small results that are kept one by one.
    pub(crate) fn rows(&self) -> PathBuf {
        self.root.join("rows")
    }

    /// States of trainings.
    pub(crate) fn trainings(&self) -> PathBuf {
        self.root.join("trainings")
    }

    pub(crate) fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    /// What has come of an object so far that is being fetched.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(digest.to_string())
    }

    /// What is known of the upload of an object to a remote, named by the digest of its address, that may break off.
    pub(crate) fn upload(&self, remote: &Digest, object: &Digest) -> PathBuf {
        self.partials().join(format!("{object}.to.{}", remote.short()))
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// What is known of a record that is only in a remote, named by the digest of the remote's address.
    pub(crate) fn away(&self, remote: &Digest, fingerprint: &Digest) -> PathBuf {
        self.away_notes().join(remote.short()).join(fingerprint.to_string())
    }

    pub(crate) fn away_notes(&self) -> PathBuf {
        self.root.join("away")
    }
}

/// Where an object lies in a store, and in a remote as well.
pub(crate) fn object(digest: &Digest) -> String {
    sharded("objects", digest, "")
}

/// Where a folder's listing lies in either.
pub(crate) fn listing(digest: &Digest) -> String {
    sharded("trees", digest, ".json")
}

/// Where a record lies in either.
pub(crate) fn record(fingerprint: &Digest) -> String {
    sharded(RECORDS, fingerprint, ".json")
}

/// The folder of all records.
pub(crate) const RECORDS: &str = "records";

fn sharded(folder: &str, digest: &Digest, suffix: &str) -> String {
    let hex = digest.to_string();
    let mut path = String::with_capacity(folder.len() + hex.len() + suffix.len() + 4);
    path.push_str(folder);
    path.push('/');
    path.push_str(&hex[..2]);
    path.push('/');
    path.push_str(&hex);
    path.push_str(suffix);
    path
}
