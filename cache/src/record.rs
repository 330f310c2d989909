//! The action record: what a stage's inputs gave.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::artifact::Artifact;
use crate::digest::Digest;

/// Format of records that this version writes and reads.
pub const RECORD_FORMAT: u32 = 1;

/// What one execution of a stage gave. A small JSON file, named by the fingerprint; the truth, not an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always `RECORD_FORMAT`; anything else is not read.
    pub format: u32,
    /// What the result is made from.
    pub fingerprint: Digest,
    /// Kind of the stage.
    pub kind: String,
    /// Name of the stage that ran it first.
    pub stage: String,
    /// Pipeline of the stage that ran it first.
    pub pipeline: String,
    /// Run that made it.
    pub run: String,
    /// What came out, by output name.
    pub outputs: BTreeMap<String, Artifact>,
    /// The named ingredients of the fingerprint.
    pub facets: BTreeMap<String, String>,
    /// Figures of the execution: `wall_seconds`, `peak_memory_bytes`, … One that is not finite is unknown, and left out when written.
    #[serde(serialize_with = "finite")]
    pub cost: BTreeMap<String, f64>,
    /// Host, device, version, times: recorded, never keyed.
    pub provenance: BTreeMap<String, String>,
}

/// JSON has no NaN: written as null, it would make the record unreadable.
fn finite<S: Serializer>(cost: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(cost.iter().filter(|(_, figure)| figure.is_finite()))
}

/// What records of all versions have.
#[derive(Debug, Deserialize)]
pub(crate) struct Foreign {
    format: u32,
    /// What came out.
    pub(crate) outputs: BTreeMap<String, Artifact>,
}

impl Foreign {
    /// Reads a record of another version.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|foreign: &Self| foreign.format != RECORD_FORMAT)
    }
}

impl Record {
    /// Reads a record, if the bytes are one of this format for this fingerprint.
    pub(crate) fn parse(bytes: &[u8], fingerprint: &Digest) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        record.is_of(fingerprint).then_some(record)
    }

    /// Whether it is of this format and for this fingerprint.
    pub(crate) fn is_of(&self, fingerprint: &Digest) -> bool {
        self.format == RECORD_FORMAT && self.fingerprint == *fingerprint
    }
}
