//! Garbage: results that nothing cites, what only they had, and what dead processes left.
//!
//! It is looked for and moved to scratch while nobody else keeps anything: records first, then folders, then files, so that at no moment a record
//! cites what is gone. It is deleted after that, when others go on already.

mod census;
mod choice;
mod condemned;
mod leftover;
mod trash;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use crate::digest::Digest;
use crate::error::CacheError;
use crate::guard::Alone;
use crate::record::Record;
use crate::store::{BROKEN_OFF_KEPT, Store};
use condemned::Condemned;

pub use leftover::Leftover;

/// Which of the results that nothing cites are to go.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Only those that have not been used for so long.
    pub unused_for: Option<Duration>,
    /// Only until all stored files together have so many bytes: first what takes the least time to compute again for its size.
    pub max_bytes: Option<u64>,
    /// Whether rows, what is known of remotes, and what killed runs had go whatever their age; otherwise they go by it, or stay.
    pub all: bool,
}

impl Policy {
    /// For how long what a killed process used counts as in use.
    fn broken_off(&self) -> Duration {
        if self.all { Duration::ZERO } else { BROKEN_OFF_KEPT }
    }
}

/// A result that goes.
#[derive(Clone, Debug)]
pub struct Gone {
    /// Its record.
    pub record: Record,
    /// For how long it has not been used.
    pub unused_for: Duration,
}

/// How many there are, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What goes, and what stays.
#[derive(Clone, Debug, Default)]
pub struct Garbage {
    /// Results that go, in the order in which they were chosen.
    pub results: Vec<Gone>,
    /// Results that stay.
    pub kept: usize,
    /// Records that no version of qapipe can read, which go.
    pub unreadable: usize,
    /// Stored files that go: those that only these results had, and those that no result had.
    pub objects: Amount,
    /// Folders that go.
    pub trees: usize,
    /// Bytes of all stored files before.
    pub bytes: u64,
    /// What else goes.
    pub leftovers: BTreeMap<Leftover, Amount>,
}

impl Garbage {
    /// Whether nothing goes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.results.is_empty() && self.unreadable == 0 && self.objects.count == 0 && self.trees == 0 && self.leftovers.is_empty()
    }

    /// Bytes of all that goes.
    #[must_use]
    pub fn freed(&self) -> u64 {
        self.objects.bytes + self.leftovers.values().map(|amount| amount.bytes).sum::<u64>()
    }
}

impl Store {
    /// What would go. `roots` are fingerprints of results that stay.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn garbage(&self, policy: &Policy, roots: &HashSet<Digest>) -> Result<Garbage, CacheError> {
        let _held = self.hold();
        Ok(Condemned::of(self, policy, roots)?.garbage)
    }
}

impl Alone<'_> {
    /// Deletes what goes. `roots` are fingerprints of results that stay, as of a moment at which this was there already.
    ///
    /// # Errors
    /// When the store cannot be read or written. What is left is a whole store.
    pub fn collect(self, policy: &Policy, roots: &HashSet<Digest>) -> Result<Garbage, CacheError> {
        let condemned = Condemned::of(self.store, policy, roots)?;
        let trash = condemned.remove(self.store)?;
        // Others need not wait for the rest.
        drop(self);
        drop(trash);
        Ok(condemned.garbage)
    }
}
