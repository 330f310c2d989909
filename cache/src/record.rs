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
    pub outputs: Outputs,
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
    pub(crate) outputs: Outputs,
}

impl Foreign {
    /// Reads a record of another version.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|foreign: &Self| foreign.format != RECORD_FORMAT)
    }
}

/// What came out of an execution, by output name.
pub type Outputs = BTreeMap<String, Artifact>;

impl Record {
    /// Reads a record, if the bytes are one of this format for this fingerprint.
    pub(crate) fn parse(bytes: &[u8], fingerprint: &Digest) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|record: &Self| record.is_of(fingerprint))
    }

    /// Whether it is of this format and for this fingerprint.
    pub(crate) fn is_of(&self, fingerprint: &Digest) -> bool {
        self.format == RECORD_FORMAT && self.fingerprint == *fingerprint
    }

    /// Wall-clock seconds of the execution, if they are known.
    #[must_use]
    pub fn wall_seconds(&self) -> Option<f64> {
        self.cost.get("wall_seconds").copied()
    }
}
