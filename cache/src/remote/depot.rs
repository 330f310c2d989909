//! Where a remote keeps its bytes: a folder, a bucket.

use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;

use super::error::RemoteError;
use super::watch::Watch;

/// Bytes by name, somewhere else. Every method waits until it is done, and may be called from several threads.
pub trait Depot: Debug + Send + Sync {
    /// Its address, without anything secret.
    fn url(&self) -> &str;

    /// All bytes of something small, if it is there.
    ///
    /// # Errors
    /// When the depot does not answer as it should, also because it is not there itself.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, RemoteError>;

    /// Some bytes of something that is there; fewer where it is shorter.
    ///
    /// # Errors
    /// [`RemoteError::Lost`] where it is not there.
    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, RemoteError>;

    /// Its size in bytes, if it is there.
    ///
    /// # Errors
    /// When the depot does not answer as it should.
    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError>;

    /// Keeps something small, at once or not at all.
    ///
    /// # Errors
    /// When the depot does not take it.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError>;

    /// Keeps a file of any size, at once or not at all. `watch` hears of the bytes that have gone. At `note` may be kept what there is to know of
    /// an upload that breaks off; the next one of the same file goes on from there. What it says may be out of date.
    ///
    /// # Errors
    /// When the depot does not take it, or the file cannot be read.
    fn upload(&self, key: &str, file: &Path, note: &Path, watch: &dyn Watch) -> Result<(), RemoteError>;

    /// Names and sizes of all that is under a folder.
    ///
    /// # Errors
    /// When the depot does not answer as it should.
    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, RemoteError>;
}
