//! What the file system says of a file, by which it is known again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A file younger than this when it was hashed may change again within one tick of the clock that its times come from, unseen: it is hashed anew.
/// Some file systems count whole seconds, or two at a time, and those of other machines have other clocks.
const SETTLED: Duration = Duration::from_secs(2);
/// The same where the file system is this machine's own and counts finely: it takes the time from a kernel's tick of at most ten milliseconds.
const SETTLED_HERE: Duration = Duration::from_millis(100);

/// Times that are a multiple of so many nanoseconds may be of a file system that counts no finer.
const COARSE: i64 = 1_000_000;

/// Size, times, inode and device of a file. While they stay the same, so does its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    device: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// Whether the file was left alone long enough before `now`; a time in the future never is. `is_here` is asked of young files only.
    pub(crate) fn settled(&self, now: SystemTime, is_here: impl FnOnce() -> bool) -> bool {
        let age = |(seconds, nanoseconds): (i64, i64)| {
            let time = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
            now.duration_since(UNIX_EPOCH + time).ok()
        };
        let (Some(modified), Some(changed)) = (age(self.modified), age(self.changed)) else { return false };
        let age = modified.min(changed);
        // The time of modification may have been set by whoever unpacked or copied the file.
        age >= SETTLED || (age >= SETTLED_HERE && self.changed.1 % COARSE != 0 && is_here())
    }
}

/// Whether a file lies in a file system of this machine that counts time finely, as far as that is known.
#[cfg(target_os = "linux")]
pub(crate) fn is_here(path: &Path) -> bool {
    /// ext, XFS, Btrfs, tmpfs, overlayfs, ZFS, F2FS, bcachefs.
    const OURS: [u64; 8] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0x2FC1_2FC1, 0xF2F5_2010, 0xCA45_1A4E];
    rustix::fs::statfs(path).is_ok_and(|system| u64::try_from(system.f_type).is_ok_and(|kind| OURS.contains(&kind)))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_here(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_settles_by_the_clock_of_its_file_system() {
        let stamp = |nanoseconds| Stamp { bytes: 1, modified: (90, 0), changed: (100, nanoseconds), inode: 1, device: 1 };
        let settled = |stamp: Stamp, milliseconds, here| stamp.settled(UNIX_EPOCH + Duration::from_millis(milliseconds), || here);
        assert!(!settled(stamp(123_456), 100_050, true) && settled(stamp(123_456), 100_101, true));
        for (nanoseconds, here) in [(0, true), (5_000_000, true), (123_456, false)] {
            assert!(!settled(stamp(nanoseconds), 101_900, here) && settled(stamp(nanoseconds), 102_006, here));
        }
        let set_by_hand = Stamp { modified: (100, 123_456), ..stamp(0) };
        assert!(!settled(set_by_hand, 101_000, true) && !settled(stamp(0), 99_000, true));
    }
}
