//! From a remote into the store: resumed where it broke off, and checked before it counts.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Remote, RemoteError, SharedRecord, Traffic, Watch, side_by_side};
use crate::artifact::{Artifact, Shape};
use crate::digest::Digest;
use crate::error::CacheError;
use crate::layout;
use crate::publish;
use crate::store::Store;
use crate::tree::{Entry, Tree};

/// What is asked for at once.
const CHUNK: u64 = 8 << 20;

/// One file to fetch.
struct Blob {
    digest: Digest,
    bytes: u64,
    executable: bool,
}

impl From<&Entry> for Blob {
    fn from(entry: &Entry) -> Self {
        Self { digest: entry.digest, bytes: entry.bytes, executable: entry.executable }
    }
}

impl Remote {
    /// Brings a result into the store: its outputs, then its record.
    ///
    /// # Errors
    /// When the remote does not answer as it should, something there is damaged, or the store cannot be written.
    pub fn fetch(&self, store: &Store, shared: &SharedRecord, watch: &dyn Watch) -> Result<Traffic, RemoteError> {
        let mut traffic = Traffic::default();
        // What is here already, or comes early, stays until the record cites it.
        let lease = store.lease();
        lease.keep(store.hold(), shared.cited());
        for output in shared.record.outputs.keys() {
            traffic.add(self.fetch_output(store, shared, output, watch)?);
        }
        store.put_record(&shared.record)?;
        store.forget_away(self, &shared.record.fingerprint);
        traffic.results += 1;
        Ok(traffic)
    }

    /// Brings results into the store, a few at once; what is there is not fetched again. Damaged ones are passed over and named in what comes
    /// back. A `dry` pull brings nothing.
    ///
    /// # Errors
    /// When the remote does not answer as it should, or the store cannot be written. What has come stays.
    pub fn pull(&self, store: &Store, fingerprints: &[Digest], dry: bool, watch: &dyn Watch) -> Result<Traffic, RemoteError> {
        let mut traffic = Traffic::default();
        let pulled = side_by_side(fingerprints, |fingerprint| match self.pull_one(store, fingerprint, dry, watch) {
            Err(error) if error.is_local_to_one() => Ok(Traffic { damaged: vec![error.to_string()], ..Traffic::default() }),
            other => other,
        })?;
        pulled.into_iter().for_each(|moved| traffic.add(moved));
        Ok(traffic)
    }

    fn pull_one(&self, store: &Store, fingerprint: &Digest, dry: bool, watch: &dyn Watch) -> Result<Traffic, RemoteError> {
        if store.record(fingerprint)?.is_some_and(|record| store.is_whole(&record.outputs)) {
            return Ok(Traffic { results_there: 1, ..Traffic::default() });
        }
        let Some(shared) = self.record(fingerprint)? else { return Ok(Traffic::default()) };
        if !dry {
            return self.fetch(store, &shared, watch);
        }
        let missing = shared.record.outputs.values().filter(|output| store.check(output).is_err());
        Ok(Traffic { results: 1, bytes: missing.map(|output| output.bytes).sum(), ..Traffic::default() })
    }

    /// Brings one output of a result into the store, unless it is there.
    ///
    /// # Errors
    /// As [`Remote::fetch`].
    pub fn fetch_output(&self, store: &Store, shared: &SharedRecord, output: &str, watch: &dyn Watch) -> Result<Traffic, RemoteError> {
        let Some(artifact) = shared.record.outputs.get(output) else { return Ok(Traffic::default()) };
        if store.check(artifact).is_ok() {
            return Ok(Traffic { files_there: 1, ..Traffic::default() });
        }
        let executable = shared.executable.contains(output);
        match artifact.shape {
            Shape::Blob => self.fetch_blob(store, &Blob { digest: artifact.digest, bytes: artifact.bytes, executable }, watch),
            Shape::Tree => self.fetch_tree(store, artifact, watch),
        }
    }

    /// Brings the listing of a folder into the store, unless it is there.
    ///
    /// # Errors
    /// As [`Remote::fetch`].
    pub fn fetch_listing(&self, store: &Store, digest: &Digest) -> Result<Tree, RemoteError> {
        if let Ok(tree) = store.tree(digest) {
            return Ok(tree);
        }
        let key = layout::listing(digest);
        let bytes = self.permits.hold(|| self.depot.get(&key))?;
        let bytes = bytes.ok_or_else(|| RemoteError::Lost { remote: self.url().to_owned(), key: key.clone() })?;
        let tree: Option<Tree> = serde_json::from_slice(&bytes).ok().filter(|tree: &Tree| tree.digest() == *digest);
        let tree = tree.filter(Tree::is_sound).ok_or_else(|| self.damaged(&key, "it is no listing of this digest"))?;
        let _held = store.hold();
        publish::write_listing(&store.layout, &tree)?;
        Ok(tree)
    }

    fn fetch_tree(&self, store: &Store, artifact: &Artifact, watch: &dyn Watch) -> Result<Traffic, RemoteError> {
        let tree = self.fetch_listing(store, &artifact.digest)?;
        let blobs: Vec<Blob> = tree.entries.iter().map(Blob::from).collect();
        let mut traffic = Traffic::default();
        for moved in side_by_side(&blobs, |blob| self.fetch_blob(store, blob, watch))? {
            traffic.add(moved);
        }
        let building = store.scratch()?;
        publish::link_tree(&store.layout, &tree, building.path())?;
        Ok(traffic)
    }

    /// Who comes second finds it there.
    fn fetch_blob(&self, store: &Store, blob: &Blob, watch: &dyn Watch) -> Result<Traffic, RemoteError> {
        let _lock = Self::lock(store, &blob.digest, watch)?;
        if store.check(&Artifact { digest: blob.digest, shape: Shape::Blob, bytes: blob.bytes }).is_ok() {
            return Ok(Traffic { files_there: 1, ..Traffic::default() });
        }
        let partial = store.layout.partial(&blob.digest);
        fs::create_dir_all(store.layout.partials()).map_err(CacheError::io(&partial))?;
        let resumed = fs::metadata(&partial).is_ok_and(|there| there.len() > 0);
        let bytes = match self.download(blob, &partial, watch) {
            // What was there may have been the damaged part.
            Err(RemoteError::Damaged { .. }) if resumed => self.download(blob, &partial, watch),
            other => other,
        }?;
        let mode = if blob.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&partial, Permissions::from_mode(mode)).map_err(CacheError::io(&partial))?;
        publish::move_object(&store.layout, &partial, &blob.digest)?;
        Ok(Traffic { files: 1, bytes, ..Traffic::default() })
    }

    /// Goes on where a file stops, until it is whole; gives how many bytes came. One with another digest is removed.
    fn download(&self, blob: &Blob, path: &Path, watch: &dyn Watch) -> Result<u64, RemoteError> {
        let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(CacheError::io(path))?;
        let there = file.metadata().map_err(CacheError::io(path))?.len();
        let start = if there > blob.bytes { 0 } else { there };
        file.set_len(start).map_err(CacheError::io(path))?;
        watch.planned(blob.bytes - start);
        let key = layout::object(&blob.digest);
        self.append(&key, &mut file, (start, blob.bytes), path, watch)?;
        if Digest::of_file(path).map_err(CacheError::io(path))? != blob.digest {
            let _ = fs::remove_file(path);
            return Err(self.damaged(&key, "its content has another digest"));
        }
        Ok(blob.bytes - start)
    }

    fn append(&self, key: &str, file: &mut File, (start, end): (u64, u64), path: &Path, watch: &dyn Watch) -> Result<(), RemoteError> {
        let mut at = start;
        while at < end {
            if watch.is_cancelled() {
                return Err(RemoteError::Interrupted);
            }
            let wanted = at..end.min(at + CHUNK);
            let part = self.permits.hold(|| self.depot.read(key, wanted.clone()));
            let part = part.map_err(|error| self.too_short(key, end).unwrap_or(error))?;
            if part.len() as u64 != wanted.end - wanted.start {
                return Err(self.too_short(key, end).unwrap_or_else(|| self.damaged(key, "it ends too early")));
            }
            file.write_all(&part).map_err(CacheError::io(path))?;
            watch.moved(part.len() as u64);
            at = wanted.end;
        }
        Ok(())
    }

    /// That something has another size than it should have, if that is why it cannot be read.
    fn too_short(&self, key: &str, bytes: u64) -> Option<RemoteError> {
        let found = self.depot.size(key).ok().flatten()?;
        (found != bytes).then(|| self.damaged(key, &format!("it has {found} bytes instead of {bytes}")))
    }

    fn damaged(&self, key: &str, what: &str) -> RemoteError {
        RemoteError::Damaged { remote: self.url().to_owned(), key: key.to_owned(), what: what.to_owned() }
    }
}
