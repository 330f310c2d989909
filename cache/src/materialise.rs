//! Copies of stored artifacts in the user's folders: writable, and never links, so that a write to one leaves the store alone.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::artifact::{Artifact, Shape};
use crate::atomic::sibling;
use crate::error::CacheError;
use crate::rename::exchange;
use crate::scratch;
use crate::store::Store;
use crate::tree::is_executable;

/// Copies a stored file or folder to a path, replacing what is there once the copy is whole.
pub(crate) fn materialise(store: &Store, artifact: &Artifact, to: &Path) -> Result<(), CacheError> {
    by_copy(store, artifact, to, |copy| replace(copy, to))
}

/// Makes a whole copy beside a path and lets `put` move it there; it is gone if that fails.
pub(crate) fn by_copy<T>(
    store: &Store,
    artifact: &Artifact,
    to: &Path,
    put: impl FnOnce(&Path) -> Result<T, CacheError>,
) -> Result<T, CacheError> {
    let copy = sibling(to)?;
    let placed = copy_writable(store, artifact, &copy).and_then(|()| put(&copy));
    if placed.is_err() {
        let _ = scratch::remove(&copy);
    }
    placed
}

/// Copies a file, or of a folder what its listing says: whatever else has got into it is no part of the result.
fn copy_writable(store: &Store, artifact: &Artifact, to: &Path) -> Result<(), CacheError> {
    let from = store.path(artifact);
    if artifact.shape == Shape::Blob {
        let metadata = fs::metadata(&from).map_err(CacheError::io(&from))?;
        return copy_file(&from, to, is_executable(&metadata));
    }
    fs::create_dir(to).map_err(CacheError::io(to))?;
    let mut folder = PathBuf::new();
    for entry in store.tree(&artifact.digest)?.entries {
        let target = to.join(&entry.path);
        if let Some(parent) = target.parent().filter(|parent| **parent != folder) {
            fs::create_dir_all(parent).map_err(CacheError::io(parent))?;
            folder = parent.to_path_buf();
        }
        copy_file(&from.join(&entry.path), &target, entry.executable)?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, executable: bool) -> Result<(), CacheError> {
    // The kernel shares the blocks where the file system can.
    fs::copy(from, to).map_err(CacheError::io(to))?;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(to, Permissions::from_mode(mode)).map_err(CacheError::io(to))
}

/// Puts what is new in the place of what is old, in one step wherever the file system can.
pub(crate) fn replace(new: &Path, to: &Path) -> Result<(), CacheError> {
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if !is_folder(new) && !is_folder(to) {
        return fs::rename(new, to).map_err(CacheError::io(to));
    }
    match exchange(new, to) {
        Ok(true) => unless_absent(scratch::remove(new)).map_err(CacheError::io(new)),
        Ok(false) => replace_by_steps(new, to),
        Err(error) if error.kind() == ErrorKind::NotFound => fs::rename(new, to).map_err(CacheError::io(to)),
        Err(error) => Err(CacheError::io(to)(error)),
    }
}

/// The old one steps aside and comes back if the new one cannot take its place.
fn replace_by_steps(new: &Path, to: &Path) -> Result<(), CacheError> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(path: &Path, text: &str) {
        fs::create_dir(path).unwrap();
        fs::write(path.join("f"), text).unwrap();
    }

    #[test]
    fn without_an_exchange_two_steps_do_the_same() {
        let root = tempfile::tempdir().unwrap();
        let (new, to) = (root.path().join("new"), root.path().join("to"));
        for replace in [replace, replace_by_steps] {
            folder(&new, "1");
            replace(&new, &to).unwrap();
            folder(&new, "2");
            replace(&new, &to).unwrap();
            assert_eq!(fs::read_to_string(to.join("f")).unwrap(), "2");
            fs::write(&new, "3").unwrap();
            replace(&new, &to).unwrap();
            assert_eq!((fs::read_to_string(&to).unwrap().as_str(), fs::read_dir(root.path()).unwrap().count()), ("3", 1));
            fs::remove_file(&to).unwrap();
        }
    }

    /// A kill at any moment leaves the one folder or the other, under its name.
    #[test]
    fn there_is_no_moment_without_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let (new, to) = (root.path().join("new"), root.path().join("to"));
        folder(&to, "0");
        folder(&new, "1");
        if !exchange(&new, &to).unwrap() {
            return eprintln!("skipped: the file system cannot exchange");
        }
        let done = std::sync::atomic::AtomicBool::new(false);
        let gone = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut gone = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    gone += usize::from(fs::symlink_metadata(&to).is_err());
                }
                gone
            });
            for _ in 0..2000 {
                replace(&new, &to).unwrap();
                folder(&new, "1");
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            watcher.join().unwrap()
        });
        assert_eq!(gone, 0);
    }
}
