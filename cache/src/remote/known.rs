//! What a store knows of records that only its remote has, so that it need not ask each time. Losing it costs time, nothing else.

use std::fs;

use super::{Remote, SharedRecord};
use crate::digest::Digest;
use crate::store::Store;

impl Store {
    /// The record of a fingerprint that a remote had when it was last asked.
    #[must_use]
    pub fn away(&self, remote: &Remote, fingerprint: &Digest) -> Option<SharedRecord> {
        let bytes = fs::read(self.layout.away(&remote.id(), fingerprint)).ok()?;
        SharedRecord::parse(&bytes, fingerprint)
    }

    /// Remembers that a remote has a record. Not synced: it is checked when it is read.
    pub fn note_away(&self, remote: &Remote, shared: &SharedRecord) {
        let path = self.layout.away(&remote.id(), &shared.record.fingerprint);
        let Ok(bytes) = shared.to_bytes() else { return };
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, bytes));
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    /// Forgets it: the result is here now, or the remote does not have it any more.
    pub fn forget_away(&self, remote: &Remote, fingerprint: &Digest) {
        let _ = fs::remove_file(self.layout.away(&remote.id(), fingerprint));
    }
}

impl Remote {
    /// What tells one remote from another.
    pub(crate) fn id(&self) -> Digest {
        Digest::of_bytes(self.url().as_bytes())
    }
}
