//! Artifacts in the user's folders: what the store has put where, so that nothing else of the user's is ever replaced.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::artifact::{Artifact, Shape};
use crate::digest::Digest;
use crate::error::CacheError;
use crate::lock::Lock;
use crate::materialise::{by_copy, replace};
use crate::store::Store;
use crate::tree::Tree;

impl Store {
    /// Puts a writable copy of an artifact at a path, at once or not at all, and notes that the path is the store's to write. One at a time
    /// writes to a path. What is there already is replaced only where [`Store::may_place`] says so, and is moved away, to the path that is given back, if the store does not
    /// have it.
    ///
    /// # Errors
    /// [`CacheError::Occupied`] where something else is, [`CacheError::InStore`] where the path meets the store, or when the file system
    /// refuses.
    pub fn place(&self, artifact: &Artifact, to: &Path, earlier: impl FnOnce() -> Option<Artifact>) -> Result<Option<PathBuf>, CacheError> {
        let folder = to.parent().unwrap_or(to);
        fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
        let to = real(to).map_err(CacheError::io(to))?;
        self.keep_apart(&to)?;
        // Who comes second finds what the first has put there, and its note.
        let _lock = Lock::acquire_lasting(&self.layout.placing(&path_digest(&to)))?;
        if content(&to).as_ref() == Some(artifact) {
            return self.note(&to, &artifact.digest).map(|()| None);
        }
        if !self.may_place(&to, earlier) {
            return Err(CacheError::Occupied { path: to });
        }
        let kept = by_copy(self, artifact, &to, |copy| self.put(copy, &to))?;
        self.note(&to, &artifact.digest)?;
        Ok(kept)
    }

    /// Whether [`Store::place`] may write to a path: nothing is there, or the store has put something there before, or there is just what
    /// the caller knows to have been put there (`earlier`).
    #[must_use]
    pub fn may_place(&self, to: &Path, earlier: impl FnOnce() -> Option<Artifact>) -> bool {
        is_absent(to) || self.has_placed(to) || earlier().is_some_and(|earlier| content(to).as_ref() == Some(&earlier))
    }

    /// Whether the store has ever put something at a path.
    fn has_placed(&self, path: &Path) -> bool {
        real(path).is_ok_and(|path| self.layout.placed(&path_digest(&path)).exists())
    }

    /// Moves a copy into place; gives where it moved what was there, if the store has no other copy of it.
    fn put(&self, copy: &Path, to: &Path) -> Result<Option<PathBuf>, CacheError> {
        let is_stored = || content(to).is_some_and(|there| self.check(&there).is_ok());
        if is_absent(to) || is_stored() {
            return replace(copy, to).map(|()| None);
        }
        let kept = self.move_away(to)?;
        if let Err(error) = fs::rename(copy, to) {
            let _ = fs::rename(&kept, to);
            return Err(CacheError::io(to)(error));
        }
        Ok(Some(kept))
    }

    /// Moves what is at a path to the store's folder `replaced`, or beside it where that is another file system or otherwise cannot be.
    fn move_away(&self, path: &Path) -> Result<PathBuf, CacheError> {
        let name = path.file_name().unwrap_or_default();
        let (folder, now) = (self.layout.replaced(), SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis()));
        let in_store =
            |n: u32| folder.join(joined(&[format!("{now}-{}", if n > 0 { format!("{n}-") } else { String::new() }).as_ref(), name]));
        let beside = |n: u32| path.with_file_name(joined(&[name, format!(".replaced-{}", n + 1).as_ref()]));
        fs::create_dir_all(&folder)
            .and_then(|()| move_to_first_free(path, in_store))
            .or_else(|_| move_to_first_free(path, beside))
            .map_err(CacheError::io(path))
    }

    /// Not synced: without its note a path is the user's, and no more is lost than a file having to be moved out of the way.
    fn note(&self, path: &Path, digest: &Digest) -> Result<(), CacheError> {
        let (note, text) = (self.layout.placed(&path_digest(path)), digest.to_string());
        if fs::read(&note).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        let scratch = self.layout.scratch_file()?;
        fs::create_dir_all(self.layout.placed_notes())
            .and_then(|()| fs::write(scratch.path(), text))
            .and_then(|()| fs::rename(scratch.path(), &note))
            .map_err(CacheError::io(&note))
    }

    /// Refuses a path that is the store's folder, holds it, or lies in it. Its links have been followed.
    fn keep_apart(&self, path: &Path) -> Result<(), CacheError> {
        let root = self.root().canonicalize().map_err(CacheError::io(self.root()))?;
        if path.starts_with(&root) || root.starts_with(path) {
            return Err(CacheError::InStore { path: path.to_path_buf(), store: root });
        }
        Ok(())
    }
}

/// A path with the links to its folder followed, but not what it is itself.
fn real(path: &Path) -> io::Result<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(ErrorKind::InvalidInput.into()) };
    Ok(folder.canonicalize()?.join(name))
}

fn path_digest(path: &Path) -> Digest {
    Digest::of_bytes(path.as_os_str().as_bytes())
}

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// What is at a path, if it could be stored: a link could not, nor a folder with one.
fn content(path: &Path) -> Option<Artifact> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if metadata.is_dir() {
        return Some(Tree::of_folder(path).ok()?.artifact());
    }
    let digest = metadata.is_file().then(|| Digest::of_file(path).ok())??;
    Some(Artifact { digest, shape: Shape::Blob, bytes: metadata.len() })
}

fn joined(parts: &[&std::ffi::OsStr]) -> OsString {
    parts.iter().copied().collect()
}

/// Moves a file or folder to the first of several paths at which nothing is.
fn move_to_first_free(from: &Path, candidate: impl Fn(u32) -> PathBuf) -> io::Result<PathBuf> {
    let to = (0..).map(candidate).find(|path| is_absent(path)).ok_or(ErrorKind::AlreadyExists)?;
    fs::rename(from, &to).map(|()| to)
}
