//! Where a stage writes before its result is kept.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::CacheError;
use crate::lock::Lock;
use crate::used::unused_for;

/// An empty folder on the store's file system, removed on drop. A lock beside it tells that its owner lives.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: Lock,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Scratch {
    pub(crate) fn create(folder: &Path) -> Result<Self, CacheError> {
        let scratch = Self::claim(folder)?;
        fs::create_dir(&scratch.path).map_err(CacheError::io(&scratch.path))?;
        Ok(scratch)
    }

    /// A path that is this process's alone, with nothing there yet; for one file a folder would cost more than the file.
    pub(crate) fn claim(folder: &Path) -> Result<Self, CacheError> {
        fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
        loop {
            let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            // On a shared store, another host's process may have the same id: the next number then.
            let Some(lock) = Lock::try_acquire(&folder.join(format!("{name}.lock")))? else { continue };
            let path = folder.join(name);
            // Or it may have died here.
            let _ = remove(&path);
            return Ok(Self { path, _lock: lock });
        }
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

/// Removes what dead owners left behind and have not written to for so long.
pub(crate) fn sweep(folder: &Path, kept: Duration) {
    let now = SystemTime::now();
    let is_kept = |path: &Path| fs::metadata(path).is_ok_and(|metadata| unused_for(&metadata, now) < kept);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "lock")
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
