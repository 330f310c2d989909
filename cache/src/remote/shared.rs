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

/// Outputs are copied to paths of their names.
fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

impl SharedRecord {
    /// The digests of the record and of its outputs.
    pub fn cited(&self) -> impl Iterator<Item = &Digest> {
        self.record.outputs.values().map(|output| &output.digest).chain([&self.record.fingerprint])
    }

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
        (shared.record.is_of(fingerprint) && shared.record.outputs.keys().all(|name| is_plain(name))).then_some(shared)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::artifact::{Artifact, Shape};
    use crate::record::RECORD_FORMAT;

    fn shared(output: &str) -> SharedRecord {
        let (fingerprint, text) = (Digest::of_bytes(b"f"), String::new);
        let artifact = Artifact { digest: fingerprint, shape: Shape::Blob, bytes: 1 };
        let (outputs, none) = ([(output.to_owned(), artifact)].into(), std::collections::BTreeMap::new);
        let (kind, stage, pipeline, run) = (text(), text(), text(), text());
        let (facets, provenance, cost) = (none(), none(), [("wall_seconds".to_owned(), 0.1)].into());
        let record = Record { format: RECORD_FORMAT, fingerprint, kind, stage, pipeline, run, outputs, facets, cost, provenance };
        SharedRecord { executable: BTreeSet::new(), record }
    }

    #[test]
    fn not_a_bit_of_it_may_change() {
        let whole = shared("y").to_bytes().unwrap();
        let key = Digest::of_bytes(b"f");
        assert_eq!(SharedRecord::parse(&whole, &key), Some(shared("y")));
        assert_eq!(SharedRecord::parse(&whole, &Digest::of_bytes(b"g")), None);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert_eq!(SharedRecord::parse(&bytes, &key), None, "{at}");
            assert_eq!(SharedRecord::parse(&whole[..at], &key), None, "{at}");
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_not_believed() {
        for name in ["../y", "..", "", "a/b", "/y"] {
            assert_eq!(SharedRecord::parse(&shared(name).to_bytes().unwrap(), &Digest::of_bytes(b"f")), None, "{name}");
        }
    }
}
