//! What is remembered to save time: a file that is right to the last bit, or counts as absent. Losing it costs only that time.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::write_loosely;
use crate::digest::Digest;
use crate::error::CacheError;

/// What a sealed file holds; nothing if there is none, or it is damaged, or another `kind` of file. The kind names the form of what it holds, and
/// has to change with it.
#[must_use]
pub fn read_sealed<T: DeserializeOwned>(path: &Path, kind: &str) -> Option<T> {
    let bytes = std::fs::read(path).ok()?;
    let (digest, body) = bytes.strip_prefix(kind.as_bytes())?.strip_prefix(b"\n")?.split_first_chunk::<32>()?;
    // What is read wrongly would be believed.
    if Digest::of_bytes(body).as_bytes() == digest { postcard::from_bytes(body).ok() } else { None }
}

/// Writes such a file, at once or not at all.
///
/// # Errors
/// When the file system refuses.
pub fn write_sealed<T: Serialize>(path: &Path, kind: &str, content: &T) -> Result<(), CacheError> {
    let body = postcard::to_stdvec(content).map_err(|error| CacheError::io(path)(std::io::Error::other(error)))?;
    // A power cut may damage it, which the digest tells.
    write_loosely(path, &[kind.as_bytes(), b"\n", Digest::of_bytes(&body).as_bytes(), &body].concat())
}

/// Whether what was learnt since is worth writing down with all that is `known`: to learn a small part again takes less time.
pub(crate) fn is_worth_writing(learnt: u64, known: u64) -> bool {
    const FEW: u64 = 8;
    learnt > 0 && learnt.saturating_mul(FEW) >= known
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_or_of_another_kind_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let content = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(read_sealed::<Vec<String>>(&path, "words 1"), None);
        write_sealed(&path, "words 1", &content).unwrap();
        assert_eq!(read_sealed(&path, "words 1"), Some(content));
        assert_eq!(read_sealed::<Vec<String>>(&path, "words 2"), None);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read_sealed::<Vec<String>>(&path, "words 1"), None, "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(read_sealed::<Vec<String>>(&path, "words 1"), None, "{at} bytes");
        }
    }
}
