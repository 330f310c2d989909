//! A transfer as a stage's progress.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use qapipe_cache::Watch;

/// Passes transfers on as progress, in whole MiB.
pub(crate) struct Meter<'a> {
    /// Bytes that have moved, and of how many.
    moved: Mutex<(u64, u64)>,
    is_cancelled: &'a AtomicBool,
    tell: &'a (dyn Fn(u64, u64) + Sync),
}

const MEBIBYTE: u64 = 1 << 20;

impl<'a> Meter<'a> {
    /// `tell` hears how many MiB of how many have moved.
    pub(crate) fn new(is_cancelled: &'a AtomicBool, tell: &'a (dyn Fn(u64, u64) + Sync)) -> Self {
        Self { moved: Mutex::default(), is_cancelled, tell }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, u64)> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Meter<'_> {
    fn planned(&self, bytes: u64) {
        self.lock().1 += bytes;
    }

    fn moved(&self, bytes: u64) {
        let mut moved = self.lock();
        let before = moved.0 / MEBIBYTE;
        moved.0 += bytes;
        let (now, total) = (moved.0 / MEBIBYTE, moved.1 / MEBIBYTE);
        drop(moved);
        if now > before {
            (self.tell)(now, total);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}
