//! When a file was last used: the time of its last change, which is moved on when it is used, at most once a day.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

/// How exactly it is known.
const EXACT: Duration = Duration::from_secs(24 * 3600);

/// A file's bytes, and what was known of it when it was opened: to ask by its name again would cost a thousand lookups in a run of a thousand stages.
pub(crate) fn read(path: &Path) -> std::io::Result<(Vec<u8>, fs::Metadata)> {
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(metadata.len()).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// Notes that a file is used of which this is known; says whether that changed it. Where it may not be written, it is not noted.
pub(crate) fn touch(path: &Path, known: &fs::Metadata) -> bool {
    let is_due = unused_for(known, SystemTime::now()) > EXACT;
    if is_due {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        // To set it to now takes no more than the right to write: the file may be another user's.
        let _ = utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty());
    }
    is_due
}

/// For how long a file has not been used; not at all if its time is yet to come.
pub(crate) fn unused_for(metadata: &fs::Metadata, now: SystemTime) -> Duration {
    metadata.modified().ok().and_then(|used| now.duration_since(used).ok()).unwrap_or_default()
}
