//! Moving what a stage wrote into a store.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rayon::prelude::*;

use crate::artifact::{Artifact, Shape};
use crate::atomic::{rename_into, sibling, sync_folder, write_by_scratch};
use crate::digest::Digest;
use crate::error::CacheError;
use crate::layout::Layout;
use crate::scratch;
use crate::tree::{Entry, Tree, is_executable, not_plain};

/// Keeps a file or folder that lies in scratch.
pub(crate) fn publish(layout: &Layout, path: &Path) -> Result<Artifact, CacheError> {
    let metadata = own(path)?;
    if metadata.is_file() {
        let digest = Digest::of_file(path).map_err(CacheError::io(path))?;
        move_object(layout, path, &digest)?;
        return Ok(Artifact { digest, shape: Shape::Blob, bytes: metadata.len() });
    }
    let tree = Tree::of_folder(path)?;
    tree.entries.par_iter().try_for_each(|entry| move_object(layout, &path.join(&entry.path), &entry.digest))?;
    fs::remove_dir_all(path).map_err(CacheError::io(path))?;
    link_tree(layout, &tree, path)?;
    Ok(tree.artifact())
}

/// Makes what a stage wrote the store's alone: it can be read and moved, and a file that has a second name elsewhere is copied, since a write
/// through that name would change the object. Links and special files are refused.
fn own(path: &Path) -> Result<Metadata, CacheError> {
    let metadata = fs::symlink_metadata(path).map_err(CacheError::io(path))?;
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(not_plain(path, &metadata));
    }
    let (mode, needed) = (metadata.mode(), if metadata.is_dir() { 0o700 } else { 0o400 });
    if mode & needed != needed {
        fs::set_permissions(path, Permissions::from_mode(mode | needed)).map_err(CacheError::io(path))?;
    }
    if metadata.is_dir() {
        let names: Vec<_> = fs::read_dir(path).and_then(Iterator::collect).map_err(CacheError::io(path))?;
        names.iter().try_for_each(|entry: &fs::DirEntry| own(&entry.path()).map(drop))?;
    } else if metadata.nlink() > 1 {
        let copy = sibling(path)?;
        fs::copy(path, &copy).and_then(|_| fs::rename(&copy, path)).map_err(CacheError::io(path))?;
    }
    Ok(metadata)
}

/// Moves one file to where its digest says. An equal one that is there stays, so that folders go on sharing it; a damaged one is replaced.
pub(crate) fn move_object(layout: &Layout, path: &Path, digest: &Digest) -> Result<(), CacheError> {
    let target = layout.object(digest);
    if Digest::of_file(&target).is_ok_and(|there| there == *digest) {
        return fs::remove_file(path).map_err(CacheError::io(path));
    }
    let metadata = fs::symlink_metadata(path).map_err(CacheError::io(path))?;
    seal(path, is_executable(&metadata))?;
    rename_into(path, &target)
}

/// Makes a file read-only and outlive a power cut.
fn seal(path: &Path, executable: bool) -> Result<(), CacheError> {
    let mode = if executable { 0o555 } else { 0o444 };
    fs::set_permissions(path, Permissions::from_mode(mode))
        .and_then(|()| File::open(path))
        .and_then(|file| file.sync_all())
        .map_err(CacheError::io(path))
}

/// Builds the folder with real names out of links to the objects, in `building`, then moves it into place.
pub(crate) fn link_tree(layout: &Layout, tree: &Tree, building: &Path) -> Result<(), CacheError> {
    let target = layout.tree(&tree.digest());
    write_listing(layout, tree)?;
    let is_whole = || Tree::of_folder(&target).is_ok_and(|there| there == *tree);
    if is_whole() {
        return Ok(());
    }
    fs::create_dir_all(building).map_err(CacheError::io(building))?;
    tree.entries.iter().try_for_each(|entry| link_entry(layout, entry, &building.join(&entry.path)))?;
    let folders: BTreeSet<&Path> = tree.entries.iter().flat_map(|entry| Path::new(&entry.path).ancestors().skip(1)).collect();
    folders.into_iter().try_for_each(|folder| sync_folder(&building.join(folder)))?;
    match rename_into(building, &target) {
        // Another process was faster (its folder may be in use by now), or what is there is damaged.
        Err(_) if target.is_dir() && is_whole() => scratch::remove(building).map_err(CacheError::io(building)),
        Err(_) if target.is_dir() => set_aside(layout, &target).and_then(|()| rename_into(building, &target)),
        other => other,
    }
}

fn link_entry(layout: &Layout, entry: &Entry, path: &Path) -> Result<(), CacheError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(CacheError::io(folder))?;
    }
    let object = layout.object(&entry.digest);
    if fs::hard_link(&object, path).is_ok() {
        if fs::symlink_metadata(path).is_ok_and(|metadata| is_executable(&metadata) == entry.executable) {
            return Ok(());
        }
        // One object may be executable in one folder and plain in another: the mode belongs to the file, so the odd one is a copy.
        fs::remove_file(path).map_err(CacheError::io(path))?;
    }
    fs::copy(&object, path).map_err(CacheError::io(path))?;
    seal(path, entry.executable)
}

pub(crate) fn write_listing(layout: &Layout, tree: &Tree) -> Result<(), CacheError> {
    let path = layout.listing(&tree.digest());
    let bytes = serde_json::to_vec(tree).map_err(|error| CacheError::io(&path)(error.into()))?;
    if fs::read(&path).is_ok_and(|there| there == bytes) { Ok(()) } else { write_by_scratch(layout, &path, &bytes) }
}

/// Moves something that is damaged out of the way.
pub(crate) fn set_aside(layout: &Layout, path: &Path) -> Result<(), CacheError> {
    let folder = layout.damaged();
    fs::create_dir_all(&folder).map_err(CacheError::io(&folder))?;
    let target = folder.join(path.file_name().unwrap_or_default());
    let _ = scratch::remove(&target);
    match fs::rename(path, &target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CacheError::io(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Another file system stands for one without hard links: neither can link.
    #[test]
    fn without_hard_links_a_folder_holds_copies() {
        let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return eprintln!("skipped: no second file system") };
        let here = tempfile::tempdir().unwrap();
        let layout = Layout::of(here.path());
        fs::create_dir(layout.scratch()).unwrap();
        let file = layout.scratch().join("f");
        fs::write(&file, "content").unwrap();
        let artifact = publish(&layout, &file).unwrap();
        let path = elsewhere.path().join("deep/f");
        for executable in [false, true] {
            let _ = fs::remove_file(&path);
            let entry = Entry { path: "deep/f".into(), digest: artifact.digest, bytes: 7, executable };
            link_entry(&layout, &entry, &path).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (1, if executable { 0o555 } else { 0o444 }));
            assert_eq!(Digest::of_file(&path).unwrap(), artifact.digest);
        }
    }
}
