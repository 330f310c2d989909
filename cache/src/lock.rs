//! Locks between processes: held by an open file, so that a killed holder holds nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::CacheError;

/// A held lock; dropping it, or the death of the process, lets go.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Host name.
    pub host: String,
}

impl Lock {
    /// Waits for the lock.
    pub(crate) fn acquire(path: &Path) -> Result<Self, CacheError> {
        loop {
            let file = open(path)?;
            match file.lock() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(CacheError::io(path))?,
            }
            if let Some(lock) = Self::confirm(path, file)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>, CacheError> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(CacheError::Io { path: path.to_path_buf(), source }),
            }
            if let Some(lock) = Self::confirm(path, file)? {
                return Ok(Some(lock));
            }
        }
    }

    /// The last holder removes the file; who waited on the removed one holds nothing and has to start over.
    fn confirm(path: &Path, mut file: File) -> Result<Option<Self>, CacheError> {
        let ours = file.metadata().map_err(CacheError::io(path))?;
        match std::fs::metadata(path) {
            Ok(theirs) if theirs.ino() == ours.ino() && theirs.dev() == ours.dev() => {}
            _ => return Ok(None),
        }
        let holder = Holder { pid: std::process::id(), host: rustix::system::uname().nodename().to_string_lossy().into_owned() };
        // Who holds it is for people: a disk too full to say so still locks.
        let _ = serde_json::to_vec(&holder).map(|bytes| file.set_len(0).and_then(|()| file.write_all(&bytes)));
        Ok(Some(Self { path: path.to_path_buf(), file }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// Who holds the lock at a path, if it says so.
pub(crate) fn holder(path: &Path) -> Option<Holder> {
    let mut text = String::new();
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Whether somebody who lives holds the lock at a path. Takes nothing and makes nothing.
pub(crate) fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn open(path: &Path) -> Result<File, CacheError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
            }
            options.open(path).map_err(CacheError::io(path))
        }
        other => other.map_err(CacheError::io(path)),
    }
}
