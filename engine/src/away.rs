//! Results that only the remote has, as long as it answers. A run never fails because of its remote: what cannot be had is computed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qapipe_cache::{Digest, Lease, Record, Remote, RemoteError, Shape, SharedRecord, Store, Traffic, side_by_side};

use crate::decide::cache_error;
use crate::error::StageError;

/// The remote behind the store, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Away {
    remote: Option<Arc<Remote>>,
    /// Whether it failed as a whole: then it is not asked again.
    is_down: AtomicBool,
    /// What it had, by key; none where it had nothing, or nothing that could be had.
    asked: Mutex<HashMap<Digest, Option<Arc<SharedRecord>>>>,
    /// What has not been told yet.
    warnings: Mutex<Vec<Warning>>,
}

/// Something that the user should know, though the work goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// A lowercase fragment: what is the matter, and what is done about it.
    pub message: String,
    /// What the user may do about it.
    pub help: Option<String>,
}

impl Away {
    pub(crate) fn new(remote: Option<Arc<Remote>>) -> Self {
        Self { remote, ..Self::default() }
    }

    /// The remote, as long as it answers.
    pub(crate) fn remote(&self) -> Option<&Remote> {
        self.remote.as_deref().filter(|_| !self.is_down.load(Ordering::Relaxed))
    }

    /// What the remote has of these keys, with the listings of its folders, which `lease` keeps. They are asked for side by side; what an earlier
    /// run was told is not asked again.
    pub(crate) fn records(&self, store: &Store, lease: &Lease, keys: &[Digest]) -> Vec<Option<Arc<SharedRecord>>> {
        if self.remote().is_none() {
            return vec![None; keys.len()];
        }
        let found = side_by_side(keys, |key| Ok::<_, ()>(self.record(store, lease, key)));
        found.unwrap_or_default()
    }

    fn record(&self, store: &Store, lease: &Lease, key: &Digest) -> Option<Arc<SharedRecord>> {
        if let Some(known) = lock(&self.asked).get(key) {
            return known.clone();
        }
        let remote = self.remote()?;
        let found = match ask(remote, store, lease, key) {
            Ok(found) => found.map(Arc::new),
            Err(error) => {
                self.note(&error);
                None
            }
        };
        lock(&self.asked).insert(*key, found.clone());
        found
    }

    /// What an earlier run was told of a key.
    pub(crate) fn noted(&self, store: &Store, key: &Digest) -> Option<Record> {
        store.away(self.remote.as_deref()?, key).map(|shared| shared.record)
    }

    /// Does something with the remote for one result; none if that cannot be had, which is then not asked for again.
    pub(crate) fn fetch(
        &self,
        store: &Store,
        shared: &SharedRecord,
        fetch: impl FnOnce(&Remote) -> Result<Traffic, RemoteError>,
    ) -> Result<Option<Traffic>, StageError> {
        let Some(remote) = self.remote() else { return Ok(None) };
        match fetch(remote) {
            Ok(traffic) => Ok(Some(traffic)),
            Err(RemoteError::Interrupted) => Err(StageError::interrupted()),
            Err(RemoteError::Store(error)) => Err(cache_error(&error)),
            Err(error) => {
                self.note(&error);
                store.forget_away(remote, &shared.record.fingerprint);
                lock(&self.asked).insert(shared.record.fingerprint, None);
                Ok(None)
            }
        }
    }

    /// Keeps what has to be told. If the remote failed as a whole, that is told once and it is left alone.
    fn note(&self, error: &RemoteError) {
        let message = if error.is_local_to_one() {
            format!("{error}; what depends on it is computed here")
        } else if self.is_down.swap(true, Ordering::Relaxed) {
            return;
        } else {
            format!("{error}; what is not here is computed here")
        };
        self.warn(Warning { message, help: error.help().map(str::to_owned) });
    }

    pub(crate) fn warn(&self, warning: Warning) {
        lock(&self.warnings).push(warning);
    }

    /// What has to be told and was not yet.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut *lock(&self.warnings))
    }
}

/// A record and the listings of its folders, without which nothing that reads part of one has a key.
fn ask(remote: &Remote, store: &Store, lease: &Lease, key: &Digest) -> Result<Option<SharedRecord>, RemoteError> {
    let folders = |shared: &SharedRecord| -> Vec<Digest> {
        shared.record.outputs.values().filter(|output| output.shape == Shape::Tree).map(|output| output.digest).collect()
    };
    // Looked for only once it is sure to stay.
    let keep = |shared: &SharedRecord| lease.keep(store.hold(), shared.cited());
    let noted = store.away(remote, key).inspect(keep).filter(|shared| folders(shared).iter().all(|digest| store.tree(digest).is_ok()));
    if noted.is_some() {
        return Ok(noted);
    }
    let Some(shared) = remote.record(key)?.inspect(keep) else { return Ok(None) };
    folders(&shared).iter().try_for_each(|digest| remote.fetch_listing(store, digest).map(drop))?;
    store.note_away(remote, &shared);
    Ok(Some(shared))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
