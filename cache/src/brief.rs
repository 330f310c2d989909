//! A record as far as a run goes by it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::record::{Outputs, Record};
use crate::stale::anew;

/// A result that is there. How it came to be is most of its record; of a result that was found without reading it, it is read when somebody asks.
#[derive(Clone, Debug)]
pub struct Brief {
    /// What the result is made from.
    pub fingerprint: Digest,
    /// What a run goes by.
    pub short: Arc<Short>,
    /// Where the record lies, if it is not known yet.
    path: PathBuf,
    record: OnceLock<Arc<Record>>,
}

/// What a run goes by: what a result is, and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

    /// The whole record; nothing if it has gone meanwhile, or is now that of another execution.
    #[must_use]
    pub fn record(&self) -> Option<&Arc<Record>> {
        if self.record.get().is_none() {
            let bytes = anew(|| std::fs::read(&self.path)).ok()?;
            let record = Record::parse(&bytes, &self.fingerprint).filter(|record| Short::from(record) == *self.short)?;
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
