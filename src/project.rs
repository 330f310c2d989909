//! Where things are: the pipeline file that a command means, the store that belongs to it, the worker beside this executable.
//!
//! The store is the folder `.qapipe` beside the pipeline file; `--store` or `QAPIPE_STORE` name another. A command that takes no pipeline looks for
//! the store in the current folder, then in its parents, then in the folders directly below.

use std::path::{Path, PathBuf};

use qapipe_cache::Store;
use qapipe_engine::family;

use crate::failure::Failure;

/// The pipeline file that is meant where none is named.
pub(crate) const PIPELINE: &str = "pipeline.toml";
/// The folder of results.
const STORE: &str = ".qapipe";
/// The executable that runs what needs libtorch.
const WORKER: &str = "qapipe-worker";

/// The pipeline file and the stages that the words of a command mean: the first word may be a stage already.
pub(crate) fn pipeline_and_stages(first: Option<PathBuf>, rest: Vec<String>) -> (PathBuf, Vec<String>) {
    match first {
        Some(word) if is_stage(&word) => (PIPELINE.into(), std::iter::once(word.to_string_lossy().into_owned()).chain(rest).collect()),
        other => (pipeline_file(other.as_deref()), rest),
    }
}

/// The pipeline file and the one stage that one or two words mean.
pub(crate) fn pipeline_and_stage(words: &[String]) -> Result<(PathBuf, String), Failure> {
    match words {
        [stage] => Ok((PIPELINE.into(), stage.clone())),
        [pipeline, stage] => Ok((pipeline_file(Some(Path::new(pipeline))), stage.clone())),
        _ => Err(Failure::usage("name one stage")),
    }
}

/// The pipeline file that a path means: a folder stands for the `pipeline.toml` in it.
pub(crate) fn pipeline_file(given: Option<&Path>) -> PathBuf {
    match given {
        None => PIPELINE.into(),
        Some(path) if path.is_dir() => path.join(PIPELINE),
        Some(path) => path.to_owned(),
    }
}

/// Whether a word can only be a stage: but for values of a matrix, names of stages hold no dot and no slash, and no folder with a pipeline is called so.
fn is_stage(word: &Path) -> bool {
    let text = word.to_string_lossy();
    !family(&text).contains(['.', '/']) && !word.is_file() && !word.join(PIPELINE).is_file()
}

/// The folder of the store that belongs to a pipeline's folder.
pub(crate) fn store_beside(folder: &Path, given: Option<&Path>) -> PathBuf {
    given.map_or_else(|| folder.join(STORE), Path::to_owned)
}

/// The store of a command that takes no pipeline.
pub(crate) fn find_store(given: Option<&Path>) -> Result<Store, Failure> {
    let folder = match given {
        Some(folder) => folder.to_owned(),
        None => nearest_store()?,
    };
    let store = Store::open_existing(&folder)?;
    store.ok_or_else(|| Failure::usage(format!("there is no store at {}", folder.display())).help("`qapipe run` makes one"))
}

/// The same for a command that makes one in the current folder where there is none.
pub(crate) fn find_or_make_store(given: Option<&Path>) -> Result<Store, Failure> {
    let folder = match given {
        Some(folder) => folder.to_owned(),
        None => store_around()?.unwrap_or_else(|| STORE.into()),
    };
    Ok(Store::open(&folder)?)
}

fn nearest_store() -> Result<PathBuf, Failure> {
    store_around()?.ok_or_else(|| {
        let failure = Failure::usage("there are no results here: no folder .qapipe in this folder, above it, or directly below");
        failure.help("run a pipeline first, or name the store with --store DIR or QAPIPE_STORE")
    })
}

/// The one store above the current folder or directly below it.
fn store_around() -> Result<Option<PathBuf>, Failure> {
    let here = std::env::current_dir().map_err(|error| Failure::io(Path::new("."), &error))?;
    if let Some(found) = here.ancestors().map(|folder| folder.join(STORE)).find(|store| store.is_dir()) {
        return Ok(Some(found));
    }
    let below = std::fs::read_dir(&here).into_iter().flatten().flatten().map(|entry| entry.path().join(STORE));
    let mut below: Vec<PathBuf> = below.filter(|store| store.is_dir()).collect();
    below.sort();
    match below.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let names: Vec<String> = several.iter().map(|store| store.strip_prefix(&here).unwrap_or(store).display().to_string()).collect();
            Err(Failure::usage(format!("there are several stores below this folder: {}", names.join(", ")))
                .help("name one with --store DIR"))
        }
    }
}

/// The worker executable: `QAPIPE_WORKER`, or else the one beside this executable.
pub(crate) fn worker() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("QAPIPE_WORKER").filter(|name| !name.is_empty()) {
        return Some(named.into());
    }
    let beside = std::env::current_exe().ok()?.with_file_name(WORKER);
    beside.is_file().then_some(beside)
}

/// A path as JSON can hold it.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path from the current folder where that is shorter, for people.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).filter(|short| !short.as_os_str().is_empty());
    short.unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_word_may_be_a_stage() {
        let words =
            |first: &str, rest: &[&str]| pipeline_and_stages(Some(first.into()), rest.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(words("scores", &["train"]), (PIPELINE.into(), vec!["scores".to_owned(), "train".to_owned()]));
        assert_eq!(words("x/p.toml", &["train"]), ("x/p.toml".into(), vec!["train".to_owned()]));
        assert_eq!(words("missing.toml", &[]), ("missing.toml".into(), vec![]));
    }

    #[test]
    fn a_folder_stands_for_its_pipeline() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(pipeline_file(Some(folder.path())), folder.path().join(PIPELINE));
        assert!(is_stage(Path::new("src")), "a folder without a pipeline hides no stage");
    }
}
