//! Where a stage writes before its result is kept.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::CacheError;
use crate::lock::Lock;

/// An empty folder on the store's file system, removed on drop. A lock beside it tells that its owner lives.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: Lock,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Scratch {
    pub(crate) fn create(folder: &Path) -> Result<Self, CacheError> {
        std::fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lock = Lock::acquire(&folder.join(format!("{name}.lock")))?;
        let path = folder.join(name);
        // Another host's process with the same id may have died here.
        let _ = remove(&path);
        std::fs::create_dir(&path).map_err(CacheError::io(&path))?;
        Ok(Self { path, _lock: lock })
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

/// Removes what dead owners left behind.
pub(crate) fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "lock")
            && let Ok(Some(_lock)) = Lock::try_acquire(&path)
        {
            let _ = remove(&path.with_extension(""));
        }
    }
}

/// Removes a file or a folder, also one with read-only folders in it.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}
