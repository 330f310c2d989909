//! Locks between processes: held by an open file, so that a killed holder holds nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::CacheError;
use crate::stale::anew;

/// A held lock; dropping it, or the death of the process, lets go.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
    /// Whether its file stays.
    lasts: bool,
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
            let locked = anew(|| {
                let file = open(path)?;
                wait_for(&file).map_err(gone)?;
                Ok(file)
            });
            if let Some(lock) = Self::confirm(path, locked.map_err(CacheError::io(path))?) {
                return Ok(lock);
            }
        }
    }

    /// The same, for a lock of which there are so few that its file may stay.
    pub(crate) fn acquire_lasting(path: &Path) -> Result<Self, CacheError> {
        let mut lock = Self::acquire(path)?;
        lock.lasts = true;
        Ok(lock)
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>, CacheError> {
        loop {
            let locked = anew(|| {
                let file = open(path)?;
                match file.try_lock() {
                    Ok(()) => Ok(Some(file)),
                    Err(TryLockError::WouldBlock) => Ok(None),
                    Err(TryLockError::Error(error)) => Err(gone(error)),
                }
            });
            let Some(file) = locked.map_err(CacheError::io(path))? else { return Ok(None) };
            if let Some(lock) = Self::confirm(path, file) {
                return Ok(Some(lock));
            }
        }
    }

    /// The last holder removes the file; who waited on the removed one holds nothing and has to start over. The name is opened, not only looked
    /// up: what another machine has done to it is seen for certain by that alone.
    fn confirm(path: &Path, mut file: File) -> Option<Self> {
        let (ours, theirs) = (file.metadata().ok()?, File::open(path).and_then(|file| file.metadata()).ok()?);
        if theirs.ino() != ours.ino() || theirs.dev() != ours.dev() {
            return None;
        }
        let holder = Holder { pid: std::process::id(), host: rustix::system::uname().nodename().to_string_lossy().into_owned() };
        // Who holds it is for people: a disk too full to say so still locks.
        let _ = serde_json::to_vec(&holder).map(|bytes| file.set_len(0).and_then(|()| file.write_all(&bytes)));
        Some(Self { path: path.to_path_buf(), file, lasts: false })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.lasts {
            let _ = std::fs::remove_file(&self.path);
        }
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

/// Waits until a file is locked, whatever signals come meanwhile.
fn wait_for(file: &File) -> std::io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            options.open(path).map_err(gone)
        }
        other => other,
    }
}

/// The file is made where it is missing. One that is not there all the same has been removed by another machine, and is still believed to be there.
fn gone(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound { ErrorKind::StaleNetworkFileHandle.into() } else { error }
}
