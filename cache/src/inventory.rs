//! Walking over a store: sizes, verification, everything that a sweep needs.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::artifact::{Artifact, Shape};
use crate::claim::is_lock;
use crate::digest::Digest;
use crate::error::Damage;
use crate::record::Record;
use crate::store::Store;

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Files kept by content.
    pub objects: u64,
    /// Their bytes. Folders share them through links.
    pub object_bytes: u64,
    /// Folders.
    pub trees: u64,
    /// Action records.
    pub records: u64,
    /// Bytes that are being written or fetched, or were by a process that died.
    pub scratch_bytes: u64,
    /// Bytes of damaged objects that were set aside.
    pub damaged_bytes: u64,
}

impl Store {
    /// Counts everything.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for path in sharded(&self.root().join("objects")) {
            usage.objects += 1;
            usage.object_bytes += fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
        }
        usage.trees = sharded(&self.root().join("trees")).filter(|path| path.is_dir()).count() as u64;
        usage.records = sharded(&self.root().join("records")).count() as u64;
        let written = fs::read_dir(self.layout.scratch()).into_iter().flatten().flatten().map(|entry| entry.path());
        let written: u64 = written.filter(|path| !is_lock(path)).map(|path| bytes_at(&path)).sum();
        usage.scratch_bytes = written + bytes_under(&self.layout.partials());
        usage.damaged_bytes = bytes_under(&self.layout.damaged());
        usage
    }

    /// All readable records, in no order.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        sharded(&self.root().join("records")).filter_map(|path| {
            let fingerprint: Digest = path.file_stem()?.to_str()?.parse().ok()?;
            self.record(&fingerprint).ok()?
        })
    }

    /// Record files that cannot be read: damaged ones, and those of another version. Their stages run again.
    pub fn unreadable_records(&self) -> impl Iterator<Item = PathBuf> + '_ {
        sharded(&self.root().join("records")).filter(|path| {
            let fingerprint = path.file_stem().and_then(|name| name.to_str()?.parse().ok());
            !fingerprint.is_some_and(|fingerprint| self.record(&fingerprint).is_ok_and(|record| record.is_some()))
        })
    }

    /// All stored files and folders, in no order. Sizes are those on disk.
    pub fn objects(&self) -> impl Iterator<Item = Artifact> + '_ {
        let blobs = sharded(&self.root().join("objects")).filter_map(|path| {
            let bytes = fs::symlink_metadata(&path).ok()?.len();
            Some(Artifact { digest: path.file_name()?.to_str()?.parse().ok()?, shape: Shape::Blob, bytes })
        });
        let trees = sharded(&self.root().join("trees")).filter(|path| path.is_dir()).filter_map(|path| {
            Some(Artifact { digest: path.file_name()?.to_str()?.parse().ok()?, shape: Shape::Tree, bytes: bytes_under(&path) })
        });
        blobs.chain(trees)
    }

    /// Reads everything and compares digests: each stored object, and what each record says that it has. `progress` hears of each object.
    pub fn verify_all(&self, mut progress: impl FnMut(&Artifact)) -> Vec<Damage> {
        let mut damages: Vec<Damage> = Vec::new();
        for artifact in self.objects() {
            progress(&artifact);
            damages.extend(self.verify(&artifact).err());
        }
        for record in self.records() {
            let missing = record.outputs.values().filter_map(|artifact| self.check(artifact).err());
            for damage in missing {
                if !damages.iter().any(|known| known.artifact.digest == damage.artifact.digest) {
                    damages.push(damage);
                }
            }
        }
        damages
    }
}

/// Paths two levels down: `objects/ab/abcd…`.
fn sharded(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let shards = fs::read_dir(folder).into_iter().flatten().flatten();
    shards
        .flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
}

/// Bytes of a file, or of all files under a folder.
pub(crate) fn bytes_at(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => bytes_under(path),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

fn bytes_under(folder: &Path) -> u64 {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| bytes_at(&entry.path())).sum()
}
