//! The store's own folder, which no stage writes to. Looked at once, before anything runs.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use qapipe_cache::Store;

use crate::engine::EngineError;
use crate::error::StageError;
use crate::paths::{absolute, real};
use crate::pipeline::{Pipeline, StageSpec};

/// Refuses a pipeline that puts an output into the store or around it.
///
/// # Errors
/// With the first stage that does.
pub(crate) fn check(pipeline: &Pipeline, store: &Store) -> Result<(), EngineError> {
    let mut apart = Apart::new(pipeline, store);
    for stage in &pipeline.stages {
        apart.places(stage).map_err(|error| EngineError::Input { stage: stage.name.clone(), error })?;
    }
    Ok(())
}

/// How a folder lies to the store.
enum Folder {
    /// In it.
    Inside,
    /// Around it or beside it: these names in it lead to the store.
    Outside(Vec<OsString>),
}

struct Apart<'a> {
    pipeline: &'a Pipeline,
    /// The pipeline's folder, links followed.
    folder: PathBuf,
    /// The store's folder, links followed, and as it was given.
    stores: [PathBuf; 2],
    /// Folders of places as they are written: a thousand places share a few.
    folders: HashMap<&'a Path, Folder>,
}

impl<'a> Apart<'a> {
    fn new(pipeline: &'a Pipeline, store: &Store) -> Self {
        let root = real(store.root());
        let stores = [root, absolute(store.root())];
        Self { pipeline, folder: real(&pipeline.folder), stores, folders: HashMap::new() }
    }

    fn places(&mut self, stage: &'a StageSpec) -> Result<(), StageError> {
        for place in stage.outputs.iter().filter_map(|output| output.place.as_deref()) {
            let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else { continue };
            if !self.folders.contains_key(folder) {
                let found = self.folder(folder);
                self.folders.insert(folder, found);
            }
            let meets = match self.folders.get(folder) {
                Some(Folder::Inside) => true,
                Some(Folder::Outside(names)) => names.iter().any(|other| other == name),
                None => false,
            };
            if meets {
                let message =
                    format!("the output `{}` meets the store {}, which stages do not write", place.display(), self.stores[0].display());
                return Err(StageError::failed(message).help("give the output another path, or the store another folder with --store"));
            }
        }
        Ok(())
    }

    /// How the folder of a place lies to the store, by its real path and as it is written.
    fn folder(&self, folder: &Path) -> Folder {
        let as_written: PathBuf = self.pipeline.resolve(folder).components().collect();
        let real = real(&self.folder.join(folder));
        let pairs = [&real, &as_written].into_iter().flat_map(|folder| self.stores.iter().map(move |store| (folder, store)));
        let mut names = Vec::new();
        for (folder, store) in pairs {
            if folder.starts_with(store) {
                return Folder::Inside;
            }
            names.extend(store.strip_prefix(folder).ok().and_then(|rest| rest.iter().next().map(OsStr::to_owned)));
        }
        Folder::Outside(names)
    }
}
