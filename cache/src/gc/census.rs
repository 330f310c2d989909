//! All records of a store with what they cite, and all stored files. What cannot be read stops it: what that cites would look like garbage.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;

use super::Policy;
use crate::artifact::Shape;
use crate::digest::Digest;
use crate::error::CacheError;
use crate::layout::RECORDS;
use crate::record::{Foreign, Record};
use crate::stale::anew;
use crate::store::Store;
use crate::used::unused_for;

/// What a store holds.
pub(super) struct Census {
    pub(super) results: Vec<Known>,
    /// Records that no version can read.
    pub(super) unreadable: Vec<PathBuf>,
    /// Sizes of all stored files.
    pub(super) objects: HashMap<Digest, u64>,
    /// What processes use.
    pub(super) leased: HashSet<Digest>,
}

/// A record and what it cites.
pub(super) struct Known {
    pub(super) fingerprint: Digest,
    pub(super) path: PathBuf,
    pub(super) unused_for: Duration,
    /// The record; none if another version wrote it, which then stays.
    pub(super) record: Option<Record>,
    pub(super) trees: Vec<Digest>,
    /// Its files, those in its folders included, each once.
    pub(super) blobs: Vec<Digest>,
}

impl Census {
    pub(super) fn of(store: &Store, policy: &Policy) -> Result<Self, CacheError> {
        let now = SystemTime::now();
        let paths = sharded(&store.root().join(RECORDS))?;
        let read: Vec<_> = paths.into_par_iter().map(|path| read(store, path, now)).collect::<Result<_, _>>()?;
        let (mut results, mut unreadable) = (Vec::new(), Vec::new());
        for found in read.into_iter().flatten() {
            match found {
                Ok(known) => results.push(known),
                Err(path) => unreadable.push(path),
            }
        }
        results.sort_unstable_by_key(|known| known.fingerprint);
        let objects = store.objects().filter(|artifact| artifact.shape == Shape::Blob).map(|blob| (blob.digest, blob.bytes)).collect();
        Ok(Self { results, unreadable, objects, leased: store.leased(policy.broken_off())? })
    }
}

/// A record, or its path if nobody can read it; none if it has gone meanwhile.
fn read(store: &Store, path: PathBuf, now: SystemTime) -> Result<Option<Result<Known, PathBuf>>, CacheError> {
    let bytes = match anew(|| fs::read(&path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(CacheError::io(&path))?,
    };
    let Some(fingerprint) = path.file_stem().and_then(|name| name.to_str()?.parse().ok()) else { return Ok(Some(Err(path))) };
    let record = Record::parse(&bytes, &fingerprint);
    let outputs = match &record {
        Some(record) => Some(record.outputs.clone()),
        None => Foreign::parse(&bytes).map(|foreign| foreign.outputs),
    };
    let Some(outputs) = outputs else { return Ok(Some(Err(path))) };
    let unused_for = fs::metadata(&path).map_or(Duration::ZERO, |metadata| unused_for(&metadata, now));
    let (mut trees, mut blobs) = (Vec::new(), HashSet::new());
    for artifact in outputs.into_values() {
        match artifact.shape {
            Shape::Blob => {
                blobs.insert(artifact.digest);
            }
            Shape::Tree => {
                blobs.extend(files_of(store, &artifact.digest)?);
                trees.push(artifact.digest);
            }
        }
    }
    Ok(Some(Ok(Known { fingerprint, path, unused_for, record, trees, blobs: blobs.into_iter().collect() })))
}

/// The files of a stored folder; none where its listing is missing or damaged, so that the folder is no result any more.
pub(super) fn files_of(store: &Store, tree: &Digest) -> Result<Vec<Digest>, CacheError> {
    match store.tree(tree) {
        Ok(tree) => Ok(tree.entries.into_iter().map(|entry| entry.digest).collect()),
        Err(CacheError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(CacheError::Damage(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// All paths two levels down, such as `records/ab/abcd….json`; what cannot be listed is an error.
pub(super) fn sharded(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let mut paths = Vec::new();
    for shard in listed(folder)? {
        paths.extend(listed(&shard)?);
    }
    Ok(paths)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        other => other.map_err(CacheError::io(folder))?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(CacheError::io(folder))).collect()
}
