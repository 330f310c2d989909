//! A record as a remote keeps it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::record::Record;

/// A record and what it does not say itself, in one file with a digest of its own: in a remote, nothing is believed unchecked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedRecord {
    /// Outputs that are one file which may be executed.
    pub executable: BTreeSet<String>,
    /// The record.
    pub record: Record,
}

/// Before the digest in the first line.
const HEAD: &str = "qapipe record ";

impl SharedRecord {
    /// A line with the digest of the rest, and the rest.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let body = serde_json::to_vec(self)?;
        Ok([format!("{HEAD}{}\n", Digest::of_bytes(&body)).as_bytes(), &body].concat())
    }

    /// Reads one, if the bytes are whole and a record of this fingerprint.
    pub(crate) fn parse(bytes: &[u8], fingerprint: &Digest) -> Option<Self> {
        let at = bytes.iter().position(|&byte| byte == b'\n')?;
        let (head, body) = (std::str::from_utf8(&bytes[..at]).ok()?, &bytes[at + 1..]);
        let stated: Digest = head.strip_prefix(HEAD)?.parse().ok()?;
        if stated != Digest::of_bytes(body) {
            return None;
        }
        let shared: Self = serde_json::from_slice(body).ok()?;
        shared.record.is_of(fingerprint).then_some(shared)
    }
}
