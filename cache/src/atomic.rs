//! Writing at once or not at all: a temporary file, fsync, rename, fsync of the folder.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::CacheError;
use crate::layout::Layout;

/// Writes a small file through a temporary one beside it: synced, renamed, and the folder synced.
///
/// # Errors
/// When the file system refuses; what was there then stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    by_sibling(path, |temporary| write_synced(temporary, bytes).and_then(|()| rename_into(temporary, path)))
}

/// Writes a file that may be lost in a power cut, or be found damaged after one, but is never half-written otherwise. Nothing waits for a disk.
pub(crate) fn write_loosely(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    by_sibling(path, |temporary| fs::write(temporary, bytes).and_then(|()| fs::rename(temporary, path)).map_err(CacheError::io(path)))
}

/// Puts something at a path by way of a temporary file beside it, of which nothing stays where that fails.
pub(crate) fn by_sibling(path: &Path, put: impl FnOnce(&Path) -> Result<(), CacheError>) -> Result<(), CacheError> {
    let temporary = sibling(path)?;
    let done = put(&temporary);
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// Writes a small file of a store's by way of scratch, so that a killed process leaves nothing elsewhere.
pub(crate) fn write_by_scratch(layout: &Layout, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let scratch = layout.scratch_file()?;
    write_synced(scratch.path(), bytes)?;
    rename_into(scratch.path(), path)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    File::create(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).map_err(CacheError::io(path))
}

/// A fresh name beside a path, whose folder is made if need be.
pub(crate) fn sibling(path: &Path) -> Result<PathBuf, CacheError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(folder.join(format!(".{name}.{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))))
}

/// Moves a synced file or folder into place for good. The folder that it goes to is made if need be.
pub(crate) fn rename_into(from: &Path, to: &Path) -> Result<(), CacheError> {
    let folder = folder_of(to);
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
            sync_folder(folder_of(folder))?;
            fs::rename(from, to)
        }
        other => other,
    }
    .map_err(CacheError::io(to))?;
    sync_folder(folder)
}

/// Makes the names in a folder outlive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), CacheError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(CacheError::io(folder))
}

/// Removes temporary files that nobody is writing any more, an hour on.
pub(crate) fn sweep(folder: &Path) {
    sweep_older(folder, Duration::from_secs(3600), |name| name.starts_with(b".") && name.ends_with(b".tmp"));
}

/// Removes files that nobody has written to for so long, if their names are such.
pub(crate) fn sweep_older(folder: &Path, age: Duration, is_meant: impl Fn(&[u8]) -> bool) {
    let is_old = |file: &fs::DirEntry| {
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        modified.is_ok_and(|modified| modified.elapsed().unwrap_or_default() > age)
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_meant(entry.file_name().as_encoded_bytes()) && is_old(&entry) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
