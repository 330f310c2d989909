//! A folder's listing: what its digest is taken of.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, Shape};
use crate::digest::{Digest, Hasher};
use crate::error::CacheError;

/// A folder as a sorted list of its files. Times, owners and empty folders are not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// The files, sorted by path.
    pub entries: Vec<Entry>,
}

/// One file of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    /// Path inside the folder, with `/` between names.
    pub path: String,
    /// blake3 of the file's bytes.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

impl Tree {
    /// A listing from entries in any order.
    #[must_use]
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort();
        Self { entries }
    }

    /// Lists a folder, hashing its files on all threads.
    ///
    /// # Errors
    /// When a file cannot be read, or something in it is neither a file nor a folder.
    pub fn of_folder(folder: &Path) -> Result<Self, CacheError> {
        Self::of_folder_with(folder, Links::Refuse, &|file, _| Digest::of_file(file))
    }

    /// Lists a folder with a hash function of the caller's (one that remembers, say).
    pub(crate) fn of_folder_with(folder: &Path, links: Links, hash: &HashFile<'_>) -> Result<Self, CacheError> {
        let mut files = Vec::new();
        let metadata = fs::metadata(folder).map_err(CacheError::io(folder))?;
        links.allow(folder, &metadata)?;
        walk(folder, "", &mut vec![(metadata.dev(), metadata.ino())], links, &mut files)?;
        let entries = files
            .into_par_iter()
            .map(|(path, metadata)| {
                let full = folder.join(&path);
                let digest = hash(&full, &metadata).map_err(CacheError::io(&full))?;
                Ok(Entry { path, digest, bytes: metadata.len(), executable: is_executable(&metadata) })
            })
            .collect::<Result<_, CacheError>>()?;
        Ok(Self::new(entries))
    }

    /// The digest of the canonical listing.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Self::digest_of(self.entries.iter())
    }

    /// The digest of the listing of those files whose first path component is among `names`.
    #[must_use]
    pub fn part(&self, names: &[&str]) -> Digest {
        Self::digest_of(self.entries.iter().filter(|entry| names.contains(&entry.path.split('/').next().unwrap_or(""))))
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// Whether every path stays inside the folder: a listing may come from elsewhere.
    pub(crate) fn is_sound(&self) -> bool {
        let stays = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0');
        self.entries.iter().all(|entry| stays(&entry.path))
    }

    /// The folder as an artifact.
    #[must_use]
    pub fn artifact(&self) -> Artifact {
        Artifact { digest: self.digest(), shape: Shape::Tree, bytes: self.bytes() }
    }

    fn digest_of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Digest {
        let mut hasher = Hasher::new("qapipe tree 1");
        for entry in entries {
            hasher.field(&entry.path, entry.digest.as_bytes());
            hasher.field(if entry.executable { "executable" } else { "plain" }, &entry.bytes.to_le_bytes());
        }
        hasher.finish()
    }
}

/// How a file is hashed while a folder is listed; its metadata are those of the listing.
pub(crate) type HashFile<'a> = dyn Fn(&Path, &Metadata) -> std::io::Result<Digest> + Sync + 'a;

/// What a symbolic link inside a folder means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// The file that it points to: in folders of the user's, such as the hub's own cache. A store's folder, given as (device, inode), is
    /// refused there, since it changes all the time.
    Follow { store: Option<(u64, u64)> },
    /// An error: in what a stage hands over, where the target would not be kept.
    Refuse,
}

impl Links {
    /// Refuses to walk a store.
    fn allow(self, folder: &Path, metadata: &Metadata) -> Result<(), CacheError> {
        match self {
            Self::Follow { store } if store == Some((metadata.dev(), metadata.ino())) => {
                Err(CacheError::HoldsStore { store: folder.to_path_buf() })
            }
            _ => Ok(()),
        }
    }
}

/// Files under a folder, with their paths in it. `above` are the folders that this one lies in, as (device, inode).
fn walk(
    folder: &Path,
    prefix: &str,
    above: &mut Vec<(u64, u64)>,
    links: Links,
    files: &mut Vec<(String, Metadata)>,
) -> Result<(), CacheError> {
    for entry in fs::read_dir(folder).map_err(CacheError::io(folder))? {
        let entry = entry.map_err(CacheError::io(folder))?;
        let path = entry.path();
        let metadata = match links {
            Links::Follow { .. } => fs::metadata(&path),
            Links::Refuse => entry.metadata(),
        }
        .map_err(CacheError::io(&path))?;
        let Ok(name) = entry.file_name().into_string() else { return Err(CacheError::NotPlain { path, what: "name that is not UTF-8" }) };
        let inner = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if metadata.is_dir() {
            links.allow(&path, &metadata)?;
            let here = (metadata.dev(), metadata.ino());
            if above.contains(&here) {
                return Err(CacheError::NotPlain { path, what: "link to a folder that it lies in" });
            }
            above.push(here);
            walk(&path, &inner, above, links, files)?;
            above.pop();
        } else if metadata.is_file() {
            files.push((inner, metadata));
        } else {
            return Err(not_plain(&path, &metadata));
        }
    }
    Ok(())
}

pub(crate) fn not_plain(path: &Path, metadata: &Metadata) -> CacheError {
    CacheError::NotPlain { path: path.to_path_buf(), what: if metadata.is_symlink() { "symbolic link" } else { "special file" } }
}

pub(crate) fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o100 != 0
}
