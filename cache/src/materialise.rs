//! Copies of stored artifacts in the user's folders: writable, and never links, so that a write to one leaves the store alone.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::atomic::sibling;
use crate::error::CacheError;
use crate::scratch;
use crate::tree::is_executable;

/// Copies a stored file or folder to a path, replacing what is there once the copy is whole.
pub(crate) fn materialise(from: &Path, to: &Path) -> Result<(), CacheError> {
    let copy = sibling(to)?;
    let placed = copy_writable(from, &copy).and_then(|()| replace(&copy, to));
    if placed.is_err() {
        let _ = scratch::remove(&copy);
    }
    placed
}

fn copy_writable(from: &Path, to: &Path) -> Result<(), CacheError> {
    let metadata = fs::metadata(from).map_err(CacheError::io(from))?;
    if metadata.is_dir() {
        fs::create_dir(to).map_err(CacheError::io(to))?;
        for entry in fs::read_dir(from).map_err(CacheError::io(from))? {
            let entry = entry.map_err(CacheError::io(from))?;
            copy_writable(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    // The kernel shares the blocks where the file system can.
    fs::copy(from, to).map_err(CacheError::io(to))?;
    let mode = if is_executable(&metadata) { 0o755 } else { 0o644 };
    fs::set_permissions(to, Permissions::from_mode(mode)).map_err(CacheError::io(to))
}

/// A file replaces a file in one step. Where a folder is involved, the old one steps aside and comes back if the new one cannot take its place.
fn replace(new: &Path, to: &Path) -> Result<(), CacheError> {
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if !is_folder(new) && !is_folder(to) {
        return fs::rename(new, to).map_err(CacheError::io(to));
    }
    let old = sibling(to)?;
    unless_absent(fs::rename(to, &old)).map_err(CacheError::io(to))?;
    if let Err(error) = fs::rename(new, to) {
        let _ = fs::rename(&old, to);
        return Err(CacheError::io(to)(error));
    }
    unless_absent(scratch::remove(&old)).map_err(CacheError::io(&old))
}

fn unless_absent(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
