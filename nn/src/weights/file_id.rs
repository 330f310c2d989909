//! Which file a file is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// A file that was opened: two that are equal are one file, under whatever paths, that has not been written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { device: metadata.dev(), inode: metadata.ino(), length: metadata.len(), modified }
    }
}
