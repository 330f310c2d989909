//! Where a stage writes before its result is kept.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::claim::{Claim, is_lock};
use crate::error::CacheError;
use crate::lock::Lock;
use crate::used::unused_for;

/// A path on the store's file system that nobody else writes to; what is there is removed on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Stays as long as this does.
    _room: Arc<Room>,
}

impl Scratch {
    /// An empty folder.
    pub(crate) fn folder(room: &Arc<Room>, all: &Path) -> Result<Self, CacheError> {
        let scratch = Self::nothing(room, all)?;
        fs::create_dir(&scratch.path).map_err(CacheError::io(&scratch.path))?;
        Ok(scratch)
    }

    /// A path with nothing there yet: for one file, a folder would cost more than the file.
    pub(crate) fn nothing(room: &Arc<Room>, all: &Path) -> Result<Self, CacheError> {
        Ok(Self { path: room.path(all)?, _room: Arc::clone(room) })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove(&self.path);
    }
}

/// This process's folder among those of all, made when it is first needed. One for all that a process writes: to make and to remove a folder and
/// a lock for each is what some file systems take longest over.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Option<(Claim, u64)>>);

impl Room {
    /// A path in it that was not given before.
    fn path(&self, all: &Path) -> Result<PathBuf, CacheError> {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (claim, given) = match &mut *room {
            Some(room) if room.0.path().is_dir() => room,
            // Or somebody has cleared it away.
            none => none.insert((Self::make(all)?, 0)),
        };
        *given += 1;
        Ok(claim.path().join(given.to_string()))
    }

    fn make(all: &Path) -> Result<Claim, CacheError> {
        let claim = Claim::stake(all)?;
        fs::create_dir(claim.path()).map_err(CacheError::io(claim.path()))?;
        Ok(claim)
    }
}

/// Removes what dead owners left behind and have not written to for so long.
pub(crate) fn sweep(folder: &Path, kept: Duration) {
    let now = SystemTime::now();
    let is_kept = |path: &Path| fs::metadata(path).is_ok_and(|metadata| unused_for(&metadata, now) < kept);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if is_lock(&path)
            && !is_kept(&path.with_extension(""))
            && let Ok(Some(_lock)) = Lock::try_acquire(&path)
        {
            let _ = remove(&path.with_extension(""));
        }
    }
}

/// Removes a file or a folder, also one with read-only folders in it.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    fs::remove_dir_all(path).or_else(|_| {
        open_up(path);
        fs::remove_dir_all(path)
    })
}

fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
