//! What the user wants to become of jobs once the run is to end.

use std::sync::atomic::{AtomicBool, Ordering};

/// What the user wants to become of jobs once the run is to end. Without an order the driver waits for them.
#[derive(Debug, Default)]
pub struct Orders {
    cancel: AtomicBool,
    leave: AtomicBool,
}

impl Orders {
    /// They are to be cancelled.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::SeqCst);
    }

    /// They are to go on without this driver.
    pub fn leave(&self) {
        self.leave.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_cancel(&self) -> bool {
        self.cancel.load(Ordering::SeqCst)
    }

    pub(crate) fn is_leave(&self) -> bool {
        self.leave.load(Ordering::SeqCst)
    }
}
