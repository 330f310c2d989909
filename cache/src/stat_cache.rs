//! Digests of the user's files, remembered by what the file system says of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Shape};
use crate::digest::Digest;
use crate::error::CacheError;
use crate::sealed::{is_worth_writing, read_sealed, write_sealed};
use crate::stamp::{Stamp, is_here};
use crate::tree::{Links, Tree};

/// What opening a file costs, as if it were bytes to read.
const LOOK: u64 = 4096;

/// The form of the file.
const KIND: &str = "qapipe stat cache 3";

/// Remembers digests by path, size, times, inode and device. Rebuildable: losing it costs only reading.
#[derive(Debug)]
pub struct StatCache {
    file: PathBuf,
    known: Mutex<Files>,
    /// Bytes that it took to learn what is not written yet.
    learnt: AtomicU64,
    /// A store's folder, as (device, inode).
    store: Option<(u64, u64)>,
}

/// By the bytes of the path, which need not be UTF-8.
type Files = HashMap<Vec<u8>, Known>;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    digest: Digest,
}

impl StatCache {
    /// Opens the cache kept in a file; a missing or damaged one is an empty cache.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        let known = read_sealed(file, KIND).unwrap_or_default();
        Self { file: file.to_path_buf(), known: Mutex::new(known), learnt: AtomicU64::new(0), store: None }
    }

    /// The same, but that a folder in which a store lies has no digest: it would have another each time.
    #[must_use]
    pub fn apart_from(self, store: &Path) -> Self {
        let store = std::fs::metadata(store).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        Self { store, ..self }
    }

    /// What a file or folder of the user's is. Symbolic links are followed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn digest(&self, path: &Path) -> Result<Artifact, CacheError> {
        let metadata = std::fs::metadata(path).map_err(CacheError::io(path))?;
        if metadata.is_dir() {
            return Ok(
                Tree::of_folder_with(path, Links::Follow { store: self.store }, &|file, metadata| self.file(file, metadata))?.artifact()
            );
        }
        if !metadata.is_file() {
            return Err(CacheError::NotPlain { path: path.to_path_buf(), what: "special file" });
        }
        let digest = self.file(path, &metadata).map_err(CacheError::io(path))?;
        Ok(Artifact { digest, shape: Shape::Blob, bytes: metadata.len() })
    }

    /// The digest of a file of the user's that was hashed before and is the same; nothing of folders, which have to be walked.
    #[must_use]
    pub fn known(&self, path: &Path) -> Option<Digest> {
        let metadata = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        self.remembered(path, &Stamp::of(&metadata))
    }

    /// The digest of the named part of a folder of the user's, as [`Tree::part`]; of a file, all of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn part(&self, path: &Path, names: &[&str]) -> Result<Digest, CacheError> {
        if names.is_empty() || !path.is_dir() {
            return Ok(self.digest(path)?.digest);
        }
        Ok(Tree::of_folder_with(path, Links::Follow { store: self.store }, &|file, metadata| self.file(file, metadata))?.part(names))
    }

    fn file(&self, path: &Path, metadata: &Metadata) -> std::io::Result<Digest> {
        let stamp = Stamp::of(metadata);
        if let Some(digest) = self.remembered(path, &stamp) {
            return Ok(digest);
        }
        let started = SystemTime::now();
        let digest = Digest::of_file(path)?;
        if stamp.settled(started, || is_here(path)) && Stamp::of(&std::fs::metadata(path)?) == stamp {
            self.lock().insert(path.as_os_str().as_bytes().to_vec(), Known { stamp, digest });
            self.learnt.fetch_add(metadata.len() + LOOK, Ordering::Relaxed);
        }
        Ok(digest)
    }

    fn remembered(&self, path: &Path, stamp: &Stamp) -> Option<Digest> {
        self.lock().get(path.as_os_str().as_bytes()).filter(|known| known.stamp == *stamp).map(|known| known.digest)
    }

    /// Writes the cache if it has learnt what is not learnt again in less time, without the files that are gone.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> Result<(), CacheError> {
        let mut known = self.lock();
        if !is_worth_writing(self.learnt.load(Ordering::Relaxed), known.len() as u64 * LOOK) {
            return Ok(());
        }
        self.learnt.store(0, Ordering::Relaxed);
        known.retain(|path, _| Path::new(OsStr::from_bytes(path)).exists());
        write_sealed(&self.file, KIND, &*known)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Files> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
