//! A folder in scratch for what goes, so that all of it has gone at once and is deleted in peace, by the next run if need be.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::error::CacheError;
use crate::scratch::{self, Scratch};
use crate::store::Store;

/// What goes; deleted on drop.
pub(super) struct Trash {
    scratch: Scratch,
    count: u64,
}

impl Trash {
    pub(super) fn open(store: &Store) -> Result<Self, CacheError> {
        Ok(Self { scratch: store.scratch()?, count: 0 })
    }

    /// Takes a file or a folder; what has gone already is no error.
    pub(super) fn take(&mut self, path: &Path) -> Result<(), CacheError> {
        self.count += 1;
        let taken = match fs::rename(path, self.scratch.path().join(self.count.to_string())) {
            // A part of the store may lie on a disk of its own.
            Err(error) if error.kind() == ErrorKind::CrossesDevices => scratch::remove(path),
            other => other,
        };
        match taken {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(CacheError::io(path)(error)),
            _ => Ok(()),
        }
    }
}
