//! What dead processes and past times left in a store besides results.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Policy;
use super::trash::Trash;
use crate::claim::{is_lock, lock_of};
use crate::error::CacheError;
use crate::inventory::bytes_at;
use crate::layout::Layout;
use crate::lock::{Lock, is_held};
use crate::store::Store;
use crate::used::unused_for;

/// A sort of what is left over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftover {
    /// What dead processes were writing.
    Unfinished,
    /// Transfers that broke off.
    Partial,
    /// What was set aside as damaged.
    Damaged,
    /// Answers to single questions that were not used for long.
    Rows,
    /// States of trainings that are done, or were not used for long.
    Trainings,
    /// What is known of results in remotes and was not asked for long.
    Away,
    /// Locks of dead processes.
    Locks,
}

/// Something that is left over.
pub(super) struct Item {
    pub(super) what: Leftover,
    pub(super) bytes: u64,
    path: PathBuf,
    /// Who uses it holds this.
    lock: Option<PathBuf>,
}

/// What has just been made may be about to be locked.
const FRESH: Duration = Duration::from_secs(3600);

pub(super) fn find(store: &Store, policy: &Policy) -> Vec<Item> {
    let (layout, now) = (&store.layout, SystemTime::now());
    let age = |path: &Path| fs::metadata(path).map_or(Duration::ZERO, |metadata| unused_for(&metadata, now));
    let is_old = |path: &Path| policy.all || policy.unused_for.is_some_and(|old| newest(path, &age) >= old);
    let mut items = unfinished(&layout.scratch(), Duration::ZERO, &age);
    items.extend(unfinished(&layout.leases(), policy.broken_off(), &age));
    items.extend(inside(&layout.partials()).map(|path| {
        // What comes is named by its digest, what goes by that and where to.
        let object = path.file_name().and_then(|name| name.to_str()?.trim_start_matches('.').split('.').next());
        let lock = object.map(|object| layout.locks().join(object));
        Item::new(Leftover::Partial, path, lock)
    }));
    items.extend(inside(&layout.damaged()).map(|path| Item::new(Leftover::Damaged, path, None)));
    items.extend(inside(&layout.rows()).filter(|path| is_old(path)).map(|path| Item::new(Leftover::Rows, path, None)));
    let trainings = inside(&layout.trainings()).filter(|path| path.join(Store::TRAINING_DONE).exists() || is_old(path));
    items.extend(trainings.map(|path| Item::new(Leftover::Trainings, path, None)));
    items.extend(away(layout).filter(|path| is_old(path)).map(|path| Item::new(Leftover::Away, path, None)));
    let locks = inside(&layout.locks()).filter(|path| age(path) > FRESH);
    items.extend(locks.map(|path| Item::new(Leftover::Locks, path.clone(), Some(path))));
    items.retain(|item| !item.lock.as_deref().is_some_and(is_held));
    items
}

/// Scratch and leases that are old enough, without their locks. One that has no lock beside it was left by a kill between two steps.
fn unfinished(folder: &Path, kept: Duration, age: &impl Fn(&Path) -> Duration) -> Vec<Item> {
    let with_lock = |path: PathBuf| {
        let lock = lock_of(&path);
        (age(&path) >= kept && (lock.exists() || age(&path) > FRESH)).then(|| Item::new(Leftover::Unfinished, path, Some(lock)))
    };
    let (locks, others): (Vec<PathBuf>, Vec<PathBuf>) = inside(folder).partition(|path| is_lock(path));
    let alone = locks.into_iter().filter(|lock| !lock.with_extension("").exists() && age(lock) > FRESH);
    others.into_iter().filter_map(with_lock).chain(alone.map(|lock| Item::new(Leftover::Locks, lock.clone(), Some(lock)))).collect()
}

/// The age of what is newest in a folder, or of a file.
fn newest(path: &Path, age: &impl Fn(&Path) -> Duration) -> Duration {
    inside(path).map(|path| age(&path)).min().unwrap_or_else(|| age(path))
}

fn away(layout: &Layout) -> impl Iterator<Item = PathBuf> {
    inside(&layout.away_notes()).flat_map(|remote| inside(&remote))
}

fn inside(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry: DirEntry| entry.path())
}

impl Item {
    fn new(what: Leftover, path: PathBuf, lock: Option<PathBuf>) -> Self {
        Self { what, bytes: bytes_at(&path), path, lock }
    }

    /// Removes it, unless somebody has begun to use it.
    pub(super) fn remove(&self, trash: &mut Trash) -> Result<(), CacheError> {
        let _lock = match &self.lock {
            None => None,
            // Another user's is that user's to sweep.
            Some(path) => match Lock::try_acquire(path) {
                Ok(Some(lock)) => Some(lock),
                _ => return Ok(()),
            },
        };
        // A lock goes when it is let go of.
        if self.lock.as_ref() == Some(&self.path) { Ok(()) } else { trash.take(&self.path) }
    }
}
