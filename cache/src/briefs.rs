//! Results that were found before, remembered by what the file system says of their records.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::brief::{Brief, Short};
use crate::digest::Digest;
use crate::error::CacheError;
use crate::record::RECORD_FORMAT;
use crate::sealed::{is_worth_writing, read_sealed, write_sealed};
use crate::stamp::{Stamp, is_here};
use crate::store::Store;
use crate::used::touch;

/// The form of the file. What was read from a record of another format is not remembered as of this one.
fn kind() -> String {
    format!("qapipe briefs 1, records {RECORD_FORMAT}")
}

/// Finds results in a store; those that it found before by one look at their records, which need not be opened. Where the store lies in a file system of
/// another machine, which may be behind in what it says, they are read each time. Rebuildable: losing it costs only reading.
#[derive(Debug)]
pub struct Briefs {
    file: PathBuf,
    known: HashMap<Digest, Known>,
    learnt: Mutex<HashMap<Digest, Known>>,
    /// Whether what the file system says is taken for what is there.
    is_here: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    stamp: Stamp,
    #[serde(with = "shared")]
    short: Arc<Short>,
}

mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(shared: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        shared.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

impl Briefs {
    /// Of a store, with what is kept in a file; a missing or damaged one is of no use, and does no harm.
    #[must_use]
    pub fn of(store: &Store, file: &Path) -> Self {
        let is_here = is_here(&store.layout.records());
        let known = if is_here { read_sealed(file, &kind()).unwrap_or_default() } else { HashMap::new() };
        Self { file: file.to_path_buf(), known, learnt: Mutex::default(), is_here }
    }

    /// The result of a fingerprint, for who goes on to use it, as [`Store::use_record`].
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn find(&self, store: &Store, fingerprint: &Digest) -> Result<Option<Brief>, CacheError> {
        if let Some(known) = self.known.get(fingerprint) {
            let path = store.layout.record(fingerprint);
            if let Some(metadata) = fs::metadata(&path).ok().filter(|metadata| Stamp::of(metadata) == known.stamp) {
                touch(&path, &metadata);
                return Ok(Some(Brief::new(*fingerprint, Arc::clone(&known.short), path)));
            }
        }
        let now = SystemTime::now();
        let Some((brief, metadata)) = store.read_brief(fingerprint)? else { return Ok(None) };
        let stamp = metadata.map(|metadata| Stamp::of(&metadata)).filter(|stamp| self.is_here && stamp.settled(now, || true));
        if let Some(stamp) = stamp {
            let known = Known { stamp, short: Arc::clone(&brief.short) };
            self.learnt.lock().unwrap_or_else(PoisonError::into_inner).insert(*fingerprint, known);
        }
        Ok(Some(brief))
    }

    /// Keeps what was learnt, if it is not little, beside what was known of the results that are `current`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, current: impl IntoIterator<Item = Digest>) -> Result<(), CacheError> {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_worth_writing(learnt.len() as u64, self.known.len() as u64) {
            return Ok(());
        }
        let current: HashSet<Digest> = current.into_iter().collect();
        let still = self.known.iter().filter(|(key, _)| current.contains(*key) && !learnt.contains_key(*key));
        let still: Vec<(Digest, Known)> = still.map(|(key, known)| (*key, known.clone())).collect();
        learnt.extend(still);
        write_sealed(&self.file, &kind(), &*learnt)?;
        learnt.clear();
        Ok(())
    }
}
