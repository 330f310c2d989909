//! What a thing is: the blake3 digest of its bytes.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// blake3 of bytes, or of a folder's canonical listing. Printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Files from this size on are hashed by mmap with all threads; below, starting threads costs more than it saves.
const PARALLEL_FROM: u64 = 1 << 20;

impl Digest {
    /// The digest of bytes in memory.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of a file's content.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_file(path: &Path) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let file = std::fs::File::open(path)?;
        if file.metadata()?.len() >= PARALLEL_FROM {
            hasher.update_mmap_rayon(path)?;
        } else {
            hasher.update_reader(file)?;
        }
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }
}

/// Takes a digest of named fields, each with its length before it, so that no two lists of fields look the same.
pub struct Hasher {
    /// What came before, if that was much.
    before: Option<blake3::Hasher>,
    /// What comes after that: fields are small, and hashed faster together.
    bytes: Vec<u8>,
}

/// How much is hashed together.
const TOGETHER: usize = 1 << 16;

impl Hasher {
    /// A hasher for one purpose; two purposes never give the same digest.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        let mut hasher = Self { before: None, bytes: Vec::new() };
        hasher.field("purpose", purpose.as_bytes());
        hasher
    }

    /// Adds a field.
    pub fn field(&mut self, name: &str, bytes: &[u8]) {
        for part in [name.as_bytes(), bytes] {
            self.bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.bytes.extend_from_slice(part);
        }
        if self.bytes.len() >= TOGETHER {
            self.before.get_or_insert_default().update(&self.bytes);
            self.bytes.clear();
        }
    }

    /// The digest of all fields.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.before {
            Some(mut before) => Digest(*before.update(&self.bytes).finalize().as_bytes()),
            None => Digest::of_bytes(&self.bytes),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: 64 hexadecimal digits are expected")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes())).map_err(|_| NotADigest)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Hexadecimal)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// Reads a digest where its text lies.
struct Hexadecimal;

impl de::Visitor<'_> for Hexadecimal {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 hexadecimal digits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
        text.parse().map_err(de::Error::custom)
    }
}
