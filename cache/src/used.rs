//! When a file was last used: the time of its last change, which is moved on when it is used, at most once a day.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use crate::digest::Digest;
use crate::store::Store;

/// How exactly it is known.
const EXACT: Duration = Duration::from_secs(24 * 3600);

impl Store {
    /// Notes that a record is used. Where the store may not be written, it is not noted.
    pub fn touch(&self, fingerprint: &Digest) {
        touch(&self.layout.record(fingerprint));
    }
}

/// Notes that a file is used.
pub(crate) fn touch(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| unused_for(&metadata, SystemTime::now()) > EXACT) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        // To set it to now takes no more than the right to write: the file may be another user's.
        let _ = utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty());
    }
}

/// For how long a file has not been used; not at all if its time is yet to come.
pub(crate) fn unused_for(metadata: &fs::Metadata, now: SystemTime) -> Duration {
    metadata.modified().ok().and_then(|used| now.duration_since(used).ok()).unwrap_or_default()
}
