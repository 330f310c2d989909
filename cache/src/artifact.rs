//! One stored file or folder.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// One stored file or folder: enough to find it and to tell whether it is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// blake3 of the file's bytes, or of the folder's canonical listing.
    pub digest: Digest,
    /// File or folder.
    pub shape: Shape,
    /// Bytes in all of its files.
    pub bytes: u64,
}

/// Whether an artifact is one file or a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// One file.
    Blob,
    /// A folder of files.
    Tree,
}
