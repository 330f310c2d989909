//! A store somewhere else, behind this one: what one machine has computed, another fetches.
//!
//! Objects, listings and records have the names there that they have here; `VERSION` says how it is laid out. Everything is checked against
//! its digest before it enters the store, and a record is written last: what it cites is there.

mod depot;
mod error;
mod fetch;
mod folder;
mod known;
mod permits;
mod push;
mod shared;
mod side_by_side;
mod traffic;
mod watch;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::digest::Digest;
use crate::layout;
use crate::lock::Lock;
use crate::store::Store;
use permits::Permits;

pub use depot::Depot;
pub use error::RemoteError;
pub use folder::Folder;
pub use shared::SharedRecord;
pub use side_by_side::side_by_side;
pub use traffic::Traffic;
pub use watch::Watch;

/// The layout of a remote that this version writes and reads.
const LAYOUT: &str = "qapipe remote 1\n";
/// What says how a remote is laid out.
const VERSION: &str = "VERSION";
/// How many transfers go on at once.
pub(crate) const AT_ONCE: usize = 8;

/// A remote: objects by digest and records by fingerprint, in a folder or a bucket. Opening it asks nothing yet.
#[derive(Debug)]
pub struct Remote {
    depot: Box<dyn Depot>,
    /// Whether something has been kept there; unknown before it was first asked.
    laid_out: Mutex<Option<bool>>,
    permits: Permits,
}

impl Remote {
    /// The remote that is kept in a folder or a bucket.
    #[must_use]
    pub fn new(depot: Box<dyn Depot>) -> Self {
        Self { depot, laid_out: Mutex::new(None), permits: Permits::new(AT_ONCE) }
    }

    /// Its address, as the user wrote it.
    #[must_use]
    pub fn url(&self) -> &str {
        self.depot.url()
    }

    /// The record of a fingerprint, if the remote has one.
    ///
    /// # Errors
    /// When the remote does not answer as it should, or the record is damaged.
    pub fn record(&self, fingerprint: &Digest) -> Result<Option<SharedRecord>, RemoteError> {
        if !self.is_laid_out()? {
            return Ok(None);
        }
        let key = layout::record(fingerprint);
        let Some(bytes) = self.permits.hold(|| self.depot.get(&key))? else { return Ok(None) };
        let damaged =
            || RemoteError::Damaged { remote: self.url().to_owned(), key: key.clone(), what: "it is no record of this key".into() };
        SharedRecord::parse(&bytes, fingerprint).map(Some).ok_or_else(damaged)
    }

    /// Whether it answers, and has something; otherwise why not.
    ///
    /// # Errors
    /// When the remote does not answer as it should, or another version laid it out.
    pub fn probe(&self) -> Result<bool, RemoteError> {
        self.is_laid_out()
    }

    /// The fingerprints of all records.
    ///
    /// # Errors
    /// When the remote does not answer as it should.
    pub fn fingerprints(&self) -> Result<Vec<Digest>, RemoteError> {
        if !self.is_laid_out()? {
            return Ok(Vec::new());
        }
        let listed = self.depot.list(layout::RECORDS)?;
        Ok(listed.iter().filter_map(|(key, _)| key.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// Whether something has been kept there, in the layout that this version reads. Asked once.
    fn is_laid_out(&self) -> Result<bool, RemoteError> {
        let mut known = self.laid_out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = *known {
            return Ok(known);
        }
        let found = match self.depot.get(VERSION)? {
            None => false,
            Some(bytes) if bytes == LAYOUT.as_bytes() => true,
            Some(bytes) => {
                let found: String = String::from_utf8_lossy(&bytes).trim().chars().take(40).collect();
                return Err(RemoteError::Layout { remote: self.url().to_owned(), found, expected: LAYOUT.trim() });
            }
        };
        *known = Some(found);
        Ok(found)
    }

    /// One process at a time moves an object; the others wait, and stay stoppable.
    fn lock(store: &Store, object: &Digest, watch: &dyn Watch) -> Result<Lock, RemoteError> {
        loop {
            if let Some(lock) = store.try_lock(object)? {
                return Ok(lock);
            }
            if watch.is_cancelled() {
                return Err(RemoteError::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lays the remote out, unless it is.
    fn lay_out(&self) -> Result<(), RemoteError> {
        if self.is_laid_out()? {
            return Ok(());
        }
        self.depot.put(VERSION, LAYOUT.as_bytes())?;
        *self.laid_out.lock().unwrap_or_else(PoisonError::into_inner) = Some(true);
        Ok(())
    }
}
