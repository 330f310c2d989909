//! Which result each stage of a pipeline had last: what "changed" is measured against.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use qapipe_cache::{Digest, Store};

use crate::paths::absolute;

/// Stage name to fingerprint, kept in `last/PIPELINE.json`; beside it `last/PIPELINE.file` says which file that is. Rebuildable: losing it costs only reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    path: PathBuf,
    keys: BTreeMap<String, Digest>,
}

impl Last {
    pub(crate) fn load(store: &Store, pipeline: &str) -> Self {
        let path = store.root().join("last").join(format!("{pipeline}.json"));
        let keys = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, keys }
    }

    /// The pipeline file that had this name in the store last, if it is another that is still there. Notes that this one has it now.
    pub(crate) fn namesake(&self, file: &Path) -> Option<PathBuf> {
        let (note, own) = (self.path.with_extension("file"), absolute(file));
        let last = std::fs::read(&note).ok().map(|bytes| PathBuf::from(OsString::from_vec(bytes)));
        if last.as_ref() == Some(&own) {
            return None;
        }
        // Losing it costs only the hint.
        let _ = qapipe_cache::write_atomically(&note, own.as_os_str().as_bytes());
        last.filter(|other| other.is_file())
    }

    pub(crate) fn key(&self, stage: &str) -> Option<&Digest> {
        self.keys.get(stage)
    }

    /// Keeps the keys of the stages that were settled; those of others stay. Failing to write costs only reasons.
    pub(crate) fn update<'a>(&self, settled: impl Iterator<Item = (&'a str, Digest)>) {
        let mut keys = self.keys.clone();
        keys.extend(settled.map(|(stage, key)| (stage.to_owned(), key)));
        if keys == self.keys {
            return;
        }
        if let Ok(bytes) = serde_json::to_vec_pretty(&keys) {
            let _ = qapipe_cache::write_atomically(&self.path, &bytes);
        }
    }
}
