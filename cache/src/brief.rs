//! A record as far as a run goes by it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::record::{Outputs, RECORD_FORMAT, Record};

/// A result that is there. How it came to be is most of its record, and is read only when somebody asks.
#[derive(Clone, Debug)]
pub struct Brief {
    /// What the result is made from.
    pub fingerprint: Digest,
    /// What a run goes by.
    pub short: Arc<Short>,
    /// Where the record lies.
    path: PathBuf,
    record: OnceLock<Arc<Record>>,
}

/// What a run goes by: what a result is, and what it took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Short {
    /// What came out, by output name.
    pub outputs: Outputs,
    /// Wall-clock seconds of the execution.
    pub wall_seconds: Option<f64>,
    /// Most memory that it took.
    pub peak_memory_bytes: Option<f64>,
    /// Where it ran.
    pub device: Option<String>,
}

/// The same as it stands in a record, of which the rest is passed over.
#[derive(Deserialize)]
struct Written {
    format: u32,
    fingerprint: Digest,
    outputs: Outputs,
    cost: Cost,
    provenance: Provenance,
}

#[derive(Deserialize)]
struct Cost {
    wall_seconds: Option<f64>,
    peak_memory_bytes: Option<f64>,
}

#[derive(Deserialize)]
struct Provenance {
    device: Option<String>,
}

impl Short {
    /// Reads it, if the bytes are a record of this format for this fingerprint.
    pub(crate) fn parse(bytes: &[u8], fingerprint: &Digest) -> Option<Self> {
        let Written { format, fingerprint: written, outputs, cost, provenance } = serde_json::from_slice(bytes).ok()?;
        let Cost { wall_seconds, peak_memory_bytes } = cost;
        let is_meant = format == RECORD_FORMAT && written == *fingerprint;
        is_meant.then_some(Self { outputs, wall_seconds, peak_memory_bytes, device: provenance.device })
    }
}

impl From<&Record> for Short {
    fn from(record: &Record) -> Self {
        let cost = |name: &str| record.cost.get(name).copied();
        Self {
            outputs: record.outputs.clone(),
            wall_seconds: cost("wall_seconds"),
            peak_memory_bytes: cost("peak_memory_bytes"),
            device: record.provenance.get("device").cloned(),
        }
    }
}

impl Brief {
    pub(crate) fn new(fingerprint: Digest, short: Arc<Short>, path: PathBuf) -> Self {
        Self { fingerprint, short, path, record: OnceLock::new() }
    }

    /// What came out, by output name.
    #[must_use]
    pub fn outputs(&self) -> &Outputs {
        &self.short.outputs
    }

    /// The whole record; nothing if it has gone meanwhile, or is damaged where a run does not look.
    #[must_use]
    pub fn record(&self) -> Option<&Arc<Record>> {
        if self.record.get().is_none() {
            let record = std::fs::read(&self.path).ok().and_then(|bytes| Record::parse(&bytes, &self.fingerprint))?;
            return Some(self.record.get_or_init(|| Arc::new(record)));
        }
        self.record.get()
    }
}

impl From<Record> for Brief {
    fn from(record: Record) -> Self {
        let brief = Self::new(record.fingerprint, Arc::new(Short::from(&record)), PathBuf::new());
        Self { record: Arc::new(record).into(), ..brief }
    }
}
