//! The lock on a whole store: many may read and keep results at once, one collects garbage alone.
//!
//! It lies on the file `VERSION`, which is always there and which whoever may read the store may lock. The system lets go of it when the process
//! dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;

use crate::error::CacheError;
use crate::store::Store;

/// As long as it is there, nothing is taken from the store.
#[derive(Debug)]
pub struct Guard {
    _file: Option<File>,
}

/// The right to take things from a store: nobody has a [`Guard`].
#[derive(Debug)]
pub struct Alone<'a> {
    pub(crate) store: &'a Store,
    _file: File,
}

impl Store {
    /// Waits until no garbage is being collected, and keeps it from being so. Held while something is kept until a record or a
    /// [`crate::Lease`] cites it; nothing that takes longer than writing belongs in between. A file system without locks gives none: nothing can be
    /// collected there either.
    #[must_use]
    pub fn hold(&self) -> Guard {
        Guard { _file: File::open(self.layout.version()).ok().filter(shared) }
    }

    /// The right to take things from the store, unless somebody keeps something right now. Whoever has it must not call [`Store::hold`].
    ///
    /// # Errors
    /// When the store cannot be written, or its file system has no locks.
    pub fn try_alone(&self) -> Result<Option<Alone<'_>>, CacheError> {
        let path = self.layout.version();
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(CacheError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Alone { store: self, _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(CacheError::Io { path, source }),
        }
    }
}

fn shared(file: &File) -> bool {
    loop {
        match file.lock_shared() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other.is_ok(),
        }
    }
}
