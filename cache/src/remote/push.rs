//! From the store into a remote: objects, then listings, then the record that cites them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::sync::{Mutex, PoisonError};

use super::{Remote, RemoteError, SharedRecord, Traffic, Watch, side_by_side};
use crate::artifact::{Artifact, Shape};
use crate::digest::Digest;
use crate::error::{CacheError, Damage};
use crate::layout;
use crate::record::Record;
use crate::store::Store;
use crate::tree::{Tree, is_executable};

/// From so many results on, the remote is asked once for a list of all that it has, and not for each object.
const LIST_FROM: usize = 50;

/// One push.
struct Push<'a> {
    remote: &'a Remote,
    store: &'a Store,
    watch: &'a dyn Watch,
    /// Whether it is only looked at what there would be to do.
    dry: bool,
    /// Sizes of all objects that are there, if that was asked.
    listed: Option<HashMap<String, u64>>,
    /// Objects that are there by now.
    there: Mutex<HashSet<Digest>>,
}

/// All that one result consists of.
struct Load {
    shared: SharedRecord,
    trees: Vec<Tree>,
    blobs: Vec<Artifact>,
}

impl Remote {
    /// Sends results, a few at once; what is there is not sent again. Damaged ones are passed over and named in what comes back.
    /// A `dry` push sends nothing.
    ///
    /// # Errors
    /// When the remote does not answer as it should. What was sent stays.
    pub fn push(&self, store: &Store, records: &[Record], dry: bool, watch: &dyn Watch) -> Result<Traffic, RemoteError> {
        let is_laid_out = if dry { self.is_laid_out()? } else { self.lay_out().map(|()| true)? };
        let listed = if records.len() >= LIST_FROM && is_laid_out { Some(self.depot.list("objects")?.into_iter().collect()) } else { None };
        let push = Push { remote: self, store, watch, dry, listed, there: Mutex::default() };
        let mut traffic = Traffic::default();
        side_by_side(records, |record| push.result(record))?.into_iter().for_each(|moved| traffic.add(moved));
        Ok(traffic)
    }
}

impl Push<'_> {
    /// Sends one result, unless it is damaged.
    fn result(&self, record: &Record) -> Result<Traffic, RemoteError> {
        match self.load(record).map_err(RemoteError::from).and_then(|load| self.send(&load)) {
            Err(RemoteError::Store(CacheError::Damage(damage))) => {
                let told = format!("{} {}: {damage}", record.pipeline, record.stage);
                Ok(Traffic { damaged: vec![told], ..Traffic::default() })
            }
            other => other,
        }
    }

    fn load(&self, record: &Record) -> Result<Load, Damage> {
        let mut load =
            Load { shared: SharedRecord { executable: BTreeSet::new(), record: record.clone() }, trees: Vec::new(), blobs: Vec::new() };
        for (name, artifact) in &record.outputs {
            self.store.check(artifact)?;
            if artifact.shape == Shape::Blob {
                if fs::metadata(self.store.path(artifact)).is_ok_and(|there| is_executable(&there)) {
                    load.shared.executable.insert(name.clone());
                }
                load.blobs.push(artifact.clone());
                continue;
            }
            let tree = self.store.tree(&artifact.digest).map_err(|error| Damage { artifact: artifact.clone(), what: error.to_string() })?;
            load.blobs.extend(tree.entries.iter().map(|entry| Artifact { digest: entry.digest, shape: Shape::Blob, bytes: entry.bytes }));
            load.trees.push(tree);
        }
        Ok(load)
    }

    fn send(&self, load: &Load) -> Result<Traffic, RemoteError> {
        let mut traffic = Traffic::default();
        side_by_side(&load.blobs, |blob| self.blob(blob))?.into_iter().for_each(|moved| traffic.add(moved));
        let known = match self.remote.record(&load.shared.record.fingerprint) {
            // It is replaced.
            Err(RemoteError::Damaged { .. }) => None,
            other => other?,
        };
        if known.is_some_and(|known| known.record.outputs == load.shared.record.outputs) && traffic.files == 0 {
            traffic.results_there += 1;
            return Ok(traffic);
        }
        traffic.results += 1;
        if !self.dry {
            self.cite(load)?;
        }
        Ok(traffic)
    }

    /// Writes the listings and the record, whose objects are there.
    fn cite(&self, load: &Load) -> Result<(), RemoteError> {
        let failed = |error: serde_json::Error| RemoteError::Failed { remote: self.remote.url().to_owned(), what: error.to_string() };
        for tree in &load.trees {
            let bytes = serde_json::to_vec(tree).map_err(failed)?;
            self.put(&layout::listing(&tree.digest()), &bytes)?;
        }
        let bytes = load.shared.to_bytes().map_err(failed)?;
        self.put(&layout::record(&load.shared.record.fingerprint), &bytes)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.remote.permits.hold(|| self.remote.depot.put(key, bytes))
    }

    /// Sends an object, unless it is there. Two results that share it send it once.
    fn blob(&self, blob: &Artifact) -> Result<Traffic, RemoteError> {
        let there = || Traffic { files_there: 1, ..Traffic::default() };
        let _lock = Remote::lock(self.store, &blob.digest, self.watch)?;
        if self.lock_there().contains(&blob.digest) || self.is_there(blob)? {
            self.lock_there().insert(blob.digest);
            return Ok(there());
        }
        self.watch.planned(blob.bytes);
        if !self.dry {
            self.upload(blob)?;
        }
        self.lock_there().insert(blob.digest);
        Ok(Traffic { files: 1, bytes: blob.bytes, ..Traffic::default() })
    }

    /// What is damaged here is not spread.
    fn upload(&self, blob: &Artifact) -> Result<(), RemoteError> {
        if self.watch.is_cancelled() {
            return Err(RemoteError::Interrupted);
        }
        let path = self.store.path(blob);
        if Digest::of_file(&path).map_err(CacheError::io(&path))? != blob.digest {
            return Err(Damage { artifact: blob.clone(), what: "its content has another digest".into() }.into());
        }
        let note = self.store.layout.upload(&self.remote.id(), &blob.digest);
        self.remote.permits.hold(|| self.remote.depot.upload(&layout::object(&blob.digest), &path, &note, self.watch))
    }

    /// Whether an object is there with the right size.
    fn is_there(&self, blob: &Artifact) -> Result<bool, RemoteError> {
        let key = layout::object(&blob.digest);
        let found = match &self.listed {
            Some(listed) => listed.get(&key).copied(),
            None => self.remote.permits.hold(|| self.remote.depot.size(&key))?,
        };
        Ok(found == Some(blob.bytes))
    }

    fn lock_there(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
