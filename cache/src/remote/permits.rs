//! A bound to what goes on at once.

use std::sync::{Condvar, Mutex, PoisonError};

/// So many at once; who comes later waits.
#[derive(Debug)]
pub(super) struct Permits {
    left: Mutex<usize>,
    freed: Condvar,
}

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { left: Mutex::new(count), freed: Condvar::new() }
    }

    /// Does something while it holds a permit.
    pub(super) fn hold<T>(&self, work: impl FnOnce() -> T) -> T {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *self.freed.wait_while(left, |left| *left == 0).unwrap_or_else(PoisonError::into_inner) -= 1;
        let _back = Back(self);
        work()
    }
}

/// Gives a permit back, also where the work panicked.
struct Back<'a>(&'a Permits);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
