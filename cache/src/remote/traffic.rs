//! What was moved between a store and its remote.

use serde::Serialize;

/// What was moved, and what needed no moving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Results that are there now and were not before.
    pub results: usize,
    /// Results that were there.
    pub results_there: usize,
    /// Files that were moved.
    pub files: usize,
    /// Files of these results that were there.
    pub files_there: usize,
    /// Bytes that were moved.
    pub bytes: u64,
    /// What could not be moved because it is damaged, each with where.
    pub damaged: Vec<String>,
}

impl Traffic {
    /// Takes in what was moved elsewhere.
    pub fn add(&mut self, other: Self) {
        self.results += other.results;
        self.results_there += other.results_there;
        self.files += other.files;
        self.files_there += other.files_there;
        self.bytes += other.bytes;
        self.damaged.extend(other.damaged);
    }
}
