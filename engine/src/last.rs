//! Which result each stage of a pipeline had last: what "changed" is measured against.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use qapipe_cache::{Briefs, CacheError, Digest, Store};

use crate::paths::absolute;

/// Stage name to fingerprint, kept in `last/PIPELINE.json`; beside it `last/PIPELINE.file` says which file that is, and `last/PIPELINE.briefs`
/// what the results are. Losing it costs reasons, and what is cited nowhere else counts as garbage until the next run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    path: PathBuf,
    keys: BTreeMap<String, Digest>,
}

/// The results that the stages of pipelines had last: of all pipelines in a store, or of those with such names.
///
/// # Errors
/// When a file that says so cannot be read: what it cites must not look like garbage.
pub fn cited(store: &Store, pipelines: Option<&HashSet<String>>) -> Result<HashSet<Digest>, CacheError> {
    keys_in(&store.last(), pipelines)
}

/// The keys in a folder with a file a pipeline, `PIPELINE.json`, which has a key a stage: in all of them, or in those with such names.
///
/// # Errors
/// When one cannot be read.
pub fn keys_in(folder: &Path, pipelines: Option<&HashSet<String>>) -> Result<HashSet<Digest>, CacheError> {
    let mut cited = HashSet::new();
    let failed = |path: &Path, source| CacheError::Io { path: path.to_path_buf(), source };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(cited),
        other => other.map_err(|source| failed(folder, source))?,
    };
    for entry in entries {
        let path = entry.map_err(|source| failed(folder, source))?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let is_meant = pipelines.is_none_or(|pipelines| pipelines.contains(name.as_ref())) && !name.starts_with('.');
        if is_meant && path.extension().is_some_and(|extension| extension == "json") {
            let read = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<BTreeMap<String, Digest>>(&bytes)?));
            cited.extend(read.map_err(|source| failed(&path, source))?.into_values());
        }
    }
    Ok(cited)
}

/// No keys where there is no such file, or none that can be read.
fn read(path: &Path) -> BTreeMap<String, Digest> {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

impl Last {
    pub(crate) fn load(store: &Store, pipeline: &str) -> Self {
        let path = store.last().join(format!("{pipeline}.json"));
        let keys = read(&path);
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

    /// These results, as they were found when the pipeline ran last.
    pub(crate) fn briefs(&self, store: &Store) -> Briefs {
        Briefs::of(store, &self.path.with_extension("briefs"))
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Digest> {
        self.keys.values()
    }

    pub(crate) fn key(&self, stage: &str) -> Option<&Digest> {
        self.keys.get(stage)
    }

    /// Keeps the keys of the stages that were settled; those of others stay. Failing to write costs only reasons.
    pub(crate) fn update<'a>(&self, store: &Store, settled: impl Iterator<Item = (&'a str, Digest)>) {
        let settled: Vec<(&str, Digest)> = settled.collect();
        if settled.iter().all(|(stage, key)| self.key(stage) == Some(key)) {
            return;
        }
        // Another run of the pipeline, with other targets, may have written it meanwhile.
        let _lock = store.lock(&Digest::of_bytes(self.path.as_os_str().as_bytes()));
        let mut keys = read(&self.path);
        keys.extend(settled.into_iter().map(|(stage, key)| (stage.to_owned(), key)));
        if let Ok(bytes) = serde_json::to_vec_pretty(&keys) {
            let _ = qapipe_cache::write_atomically(&self.path, &bytes);
        }
    }
}
