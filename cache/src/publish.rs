//! Moving bytes into and out of a store, at once or not at all.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::artifact::{Artifact, Shape};
use crate::digest::Digest;
use crate::error::CacheError;
use crate::layout::Layout;
use crate::scratch;
use crate::tree::{Entry, Tree};

/// Keeps a file or folder that lies on the store's file system.
pub(crate) fn publish(layout: &Layout, path: &Path) -> Result<Artifact, CacheError> {
    let metadata = fs::symlink_metadata(path).map_err(CacheError::io(path))?;
    if metadata.is_file() {
        let digest = Digest::of_file(path).map_err(CacheError::io(path))?;
        move_object(layout, path, &digest)?;
        return Ok(Artifact { digest, shape: Shape::Blob, bytes: metadata.len() });
    }
    if !metadata.is_dir() {
        return Err(CacheError::NotPlain { path: path.to_path_buf(), what: if metadata.is_symlink() { "symbolic link" } else { "special file" } });
    }
    let tree = Tree::of_folder(path)?;
    tree.entries.par_iter().try_for_each(|entry| move_object(layout, &path.join(&entry.path), &entry.digest))?;
    fs::remove_dir_all(path).map_err(CacheError::io(path))?;
    link_tree(layout, &tree, path)?;
    Ok(tree.artifact())
}

/// Moves one file to where its digest says. An equal one that is there already stays.
fn move_object(layout: &Layout, path: &Path, digest: &Digest) -> Result<(), CacheError> {
    let target = layout.object(digest);
    let file = File::open(path).map_err(CacheError::io(path))?;
    let metadata = file.metadata().map_err(CacheError::io(path))?;
    if fs::symlink_metadata(&target).is_ok_and(|there| there.len() == metadata.len()) {
        return fs::remove_file(path).map_err(CacheError::io(path));
    }
    file.sync_all().map_err(CacheError::io(path))?;
    let mode = if crate::tree::is_executable(&metadata) { 0o555 } else { 0o444 };
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(CacheError::io(path))?;
    rename_into(path, &target)
}

/// Builds the folder with real names out of links to the objects, in `building`, then moves it into place.
fn link_tree(layout: &Layout, tree: &Tree, building: &Path) -> Result<(), CacheError> {
    let digest = tree.digest();
    let (target, listing) = (layout.tree(&digest), layout.listing(&digest));
    if target.exists() && whole(&target, tree) {
        return write_listing(&listing, tree);
    }
    fs::create_dir_all(building).map_err(CacheError::io(building))?;
    tree.entries.iter().try_for_each(|entry| link_entry(layout, entry, &building.join(&entry.path)))?;
    sync_folder(building)?;
    write_listing(&listing, tree)?;
    let _ = scratch::remove(&target);
    rename_into(building, &target)
}

fn whole(folder: &Path, tree: &Tree) -> bool {
    tree.entries.iter().all(|entry| fs::symlink_metadata(folder.join(&entry.path)).is_ok_and(|there| there.len() == entry.bytes))
}

fn link_entry(layout: &Layout, entry: &Entry, path: &Path) -> Result<(), CacheError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
    }
    let object = layout.object(&entry.digest);
    // One object may be executable in one folder and plain in another: the mode belongs to the file, so the odd one is a copy.
    let same_mode = fs::metadata(&object).is_ok_and(|metadata| crate::tree::is_executable(&metadata) == entry.executable);
    if same_mode && fs::hard_link(&object, path).is_ok() {
        return Ok(());
    }
    fs::copy(&object, path).map_err(CacheError::io(path))?;
    let mode = if entry.executable { 0o555 } else { 0o444 };
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(CacheError::io(path))
}

fn write_listing(path: &Path, tree: &Tree) -> Result<(), CacheError> {
    let bytes = serde_json::to_vec(tree).map_err(|error| CacheError::io(path)(error.into()))?;
    write_atomically(path, &bytes)
}

/// Copies a stored file or folder to a path, writable, replacing what is there.
pub(crate) fn materialise(from: &Path, to: &Path) -> Result<(), CacheError> {
    let temporary = sibling(to)?;
    let copied = copy_writable(from, &temporary).and_then(|()| {
        if to.is_dir() {
            scratch::remove(to).map_err(CacheError::io(to))?;
        }
        fs::rename(&temporary, to).map_err(CacheError::io(to))
    });
    if copied.is_err() {
        let _ = scratch::remove(&temporary);
    }
    copied
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
    fs::copy(from, to).map_err(CacheError::io(to))?;
    let mode = if crate::tree::is_executable(&metadata) { 0o755 } else { 0o644 };
    fs::set_permissions(to, Permissions::from_mode(mode)).map_err(CacheError::io(to))
}

/// Writes a small file through a temporary one: synced, renamed, and the folder synced.
///
/// # Errors
/// When the file system refuses; what was there then stays.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    let temporary = sibling(path)?;
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(CacheError::io(&temporary))
        .and_then(|()| rename_into(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A fresh name beside a path, whose folder is made if need be.
fn sibling(path: &Path) -> Result<PathBuf, CacheError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.as_os_str().is_empty() {
        fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(folder.join(format!(".{name}.{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))))
}

fn rename_into(from: &Path, to: &Path) -> Result<(), CacheError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
    fs::rename(from, to).map_err(CacheError::io(to))?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<(), CacheError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(CacheError::io(folder))
}
