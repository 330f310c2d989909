//! Digests of the user's files, remembered by what the file system says of them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Shape};
use crate::atomic::write_atomically;
use crate::digest::Digest;
use crate::error::CacheError;
use crate::tree::{Links, Tree};

/// A file younger than this when it was hashed may change again within one tick of the clock that its times come from, unseen: it is hashed anew.
/// Some file systems count whole seconds, or two at a time, and those of other machines have other clocks.
const SETTLED: Duration = Duration::from_secs(2);
/// The same where the file system is this machine's own and counts finely: it takes the time from a kernel's tick of at most ten milliseconds.
const SETTLED_HERE: Duration = Duration::from_millis(100);

/// Times that are a multiple of so many nanoseconds may be of a file system that counts no finer.
const COARSE: i64 = 1_000_000;

/// First bytes of the file; a change of format changes them. The digest of the rest follows, then the rest.
const MAGIC: &[u8] = b"qapipe stat cache 2\n";

/// Remembers digests by path, size, times, inode and device. Rebuildable: losing it costs only reading.
#[derive(Debug)]
pub struct StatCache {
    file: PathBuf,
    known: Mutex<Files>,
    changed: AtomicBool,
    /// A store's folder, as (device, inode).
    store: Option<(u64, u64)>,
}

/// By the bytes of the path, which need not be UTF-8.
type Files = HashMap<Vec<u8>, Known>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    device: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    digest: Digest,
}

impl StatCache {
    /// Opens the cache kept in a file; a missing or damaged one is an empty cache.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        let known = std::fs::read(file).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        Self { file: file.to_path_buf(), known: Mutex::new(known), changed: AtomicBool::new(false), store: None }
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
        if let Some(known) = self.lock().get(path.as_os_str().as_bytes()).filter(|known| known.stamp == stamp) {
            return Ok(known.digest);
        }
        let started = SystemTime::now();
        let digest = Digest::of_file(path)?;
        if stamp.settled(started, || is_here(path)) && Stamp::of(&std::fs::metadata(path)?) == stamp {
            self.lock().insert(path.as_os_str().as_bytes().to_vec(), Known { stamp, digest });
            self.changed.store(true, Ordering::Relaxed);
        }
        Ok(digest)
    }

    /// Writes the cache if it has learnt something, without the files that are gone.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> Result<(), CacheError> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut known = self.lock();
        known.retain(|path, _| Path::new(OsStr::from_bytes(path)).exists());
        let body = postcard::to_stdvec(&*known).map_err(|error| CacheError::io(&self.file)(std::io::Error::other(error)))?;
        drop(known);
        write_atomically(&self.file, &[MAGIC, Digest::of_bytes(&body).as_bytes(), &body].concat())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Files> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What was saved, if not a bit of it has changed: a digest read wrongly would stand for a file that it is not of.
fn parse(bytes: &[u8]) -> Option<Files> {
    let (digest, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
    if Digest::of_bytes(body).as_bytes() == digest { postcard::from_bytes(body).ok() } else { None }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// Whether the file was left alone long enough before `now`; a time in the future never is. `is_here` is asked of young files only.
    fn settled(&self, now: SystemTime, is_here: impl FnOnce() -> bool) -> bool {
        let age = |(seconds, nanoseconds): (i64, i64)| {
            let time = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
            now.duration_since(UNIX_EPOCH + time).ok()
        };
        let (Some(modified), Some(changed)) = (age(self.modified), age(self.changed)) else { return false };
        let age = modified.min(changed);
        // The time of modification may have been set by whoever unpacked or copied the file.
        age >= SETTLED || (age >= SETTLED_HERE && self.changed.1 % COARSE != 0 && is_here())
    }
}

/// Whether a file lies in a file system of this machine that counts time finely, as far as that is known.
#[cfg(target_os = "linux")]
fn is_here(path: &Path) -> bool {
    /// ext, XFS, Btrfs, tmpfs, overlayfs, ZFS, F2FS, bcachefs.
    const OURS: [u64; 8] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0x2FC1_2FC1, 0xF2F5_2010, 0xCA45_1A4E];
    rustix::fs::statfs(path).is_ok_and(|system| u64::try_from(system.f_type).is_ok_and(|kind| OURS.contains(&kind)))
}

#[cfg(not(target_os = "linux"))]
fn is_here(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_settles_by_the_clock_of_its_file_system() {
        let stamp = |nanoseconds| Stamp { bytes: 1, modified: (90, 0), changed: (100, nanoseconds), inode: 1, device: 1 };
        let settled = |stamp: Stamp, milliseconds, here| stamp.settled(UNIX_EPOCH + Duration::from_millis(milliseconds), || here);
        assert!(!settled(stamp(123_456), 100_050, true) && settled(stamp(123_456), 100_101, true));
        for (nanoseconds, here) in [(0, true), (5_000_000, true), (123_456, false)] {
            assert!(!settled(stamp(nanoseconds), 101_900, here) && settled(stamp(nanoseconds), 102_006, here));
        }
        let set_by_hand = Stamp { modified: (100, 123_456), ..stamp(0) };
        assert!(!settled(set_by_hand, 101_000, true) && !settled(stamp(0), 99_000, true));
    }
}
