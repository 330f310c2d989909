//! A path that is one process's alone as long as that lives.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::CacheError;
use crate::lock::Lock;
use crate::scratch::remove;

/// A path in a folder that several processes share; what is there is removed on drop. A lock beside it tells that its owner lives.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    _lock: Lock,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Claim {
    /// A path with nothing there yet. The folder is made if need be.
    pub(crate) fn stake(folder: &Path) -> Result<Self, CacheError> {
        std::fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
        loop {
            let path = folder.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
            // On a shared store, another host's process may have the same id: the next number then.
            let Some(lock) = Lock::try_acquire(&lock_of(&path))? else { continue };
            // Or it may have died here.
            let _ = remove(&path);
            return Ok(Self { path, _lock: lock });
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a path in such a folder is the lock beside another.
pub(crate) fn is_lock(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == LOCK)
}

/// The lock beside a path in such a folder.
pub(crate) fn lock_of(path: &Path) -> PathBuf {
    path.with_extension(LOCK)
}

const LOCK: &str = "lock";

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = remove(&self.path);
    }
}
