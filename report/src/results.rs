//! The stored tables, and which of their rows count.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use polars::sql::SQLContext;

use crate::error::ReportError;
use crate::frame;
use crate::table::Table;

/// The tables, by the names that a query uses: one row an evaluation, a question, a logged training step, a stage of a run.
pub const TABLES: [&str; 4] = ["metrics", "predictions", "training", "stages"];

/// Which rows count.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only these pipelines; none means all.
    pub pipelines: Vec<String>,
    /// Only these stages, or those of these families; none means all.
    pub stages: Vec<String>,
    /// Results of every state that a pipeline ever had, not just of the newest.
    pub all: bool,
}

/// The tables folder of a store: `<table>/<pipeline>.<stage>.<key>.parquet`, `stages/<run>.parquet`, and in
/// `current/<pipeline>.json` the key that each stage has now.
#[derive(Clone, Debug)]
pub struct Results {
    folder: PathBuf,
}

impl Results {
    /// The tables in this folder; it need not exist.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// One row an evaluation, all columns, in the order of pipeline and stage.
    ///
    /// # Errors
    /// Where files of the table cannot be read.
    pub fn metrics(&self, scope: &Scope) -> Result<Table, ReportError> {
        let files = self.files("metrics", scope)?;
        let failed = |message: String| ReportError::Table { table: "metrics", message };
        frame::collect(frame::scan("metrics", &files)?).map_err(|error| failed(frame::first_line(&error.to_string())))
    }

    /// The answer to a SQL query over the tables named in [`TABLES`].
    ///
    /// # Errors
    /// Where the query is wrong or files of a table cannot be read.
    pub fn query(&self, sql: &str, scope: &Scope) -> Result<Table, ReportError> {
        let mut context = SQLContext::new();
        for table in TABLES {
            context.register(table, frame::scan(table, &self.files(table, scope)?)?);
        }
        let answer = context.execute(sql).and_then(frame::collect);
        answer.map_err(|error| ReportError::Query(frame::first_line(&error.to_string())))
    }

    /// The files of a table that the scope takes, in the order of their names.
    fn files(&self, table: &str, scope: &Scope) -> Result<Vec<PathBuf>, ReportError> {
        let current = if scope.all { None } else { Some(self.current()?) };
        let folder = self.folder.join(table);
        let names = listing(&folder)?.into_iter().filter(|name| match Stem::of(name) {
            Some(stem) => scope.takes(&stem) && current.as_ref().is_none_or(|current| stem.is_among(current)),
            None => table == "stages" && name.ends_with(".parquet"),
        });
        Ok(names.map(|name| folder.join(name)).collect())
    }

    /// For each pipeline the key of each stage.
    fn current(&self) -> Result<BTreeMap<String, BTreeMap<String, String>>, ReportError> {
        let folder = self.folder.join("current");
        let mut current = BTreeMap::new();
        for name in listing(&folder)? {
            let Some(pipeline) = name.strip_suffix(".json") else { continue };
            let path = folder.join(&name);
            let bytes = std::fs::read(&path).map_err(|source| ReportError::Io { path: path.clone(), source })?;
            let keys = serde_json::from_slice(&bytes).map_err(|source| ReportError::Current { path, source })?;
            current.insert(pipeline.to_owned(), keys);
        }
        Ok(current)
    }
}

impl Scope {
    fn takes(&self, stem: &Stem<'_>) -> bool {
        let among = |names: &[String], name: &str| names.is_empty() || names.iter().any(|other| other == name);
        let family = stem.stage.split('[').next().unwrap_or(stem.stage);
        among(&self.pipelines, stem.pipeline) && (among(&self.stages, stem.stage) || among(&self.stages, family))
    }
}

/// What a file's name says about its rows.
struct Stem<'a> {
    pipeline: &'a str,
    stage: &'a str,
    key: &'a str,
}

impl<'a> Stem<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let (pipeline, rest) = name.strip_suffix(".parquet")?.split_once('.')?;
        // The name of a stage of a matrix may hold dots.
        let (stage, key) = rest.rsplit_once('.')?;
        Some(Self { pipeline, stage, key })
    }

    fn is_among(&self, current: &BTreeMap<String, BTreeMap<String, String>>) -> bool {
        current.get(self.pipeline).and_then(|keys| keys.get(self.stage)).is_some_and(|key| key.starts_with(self.key))
    }
}

/// Names in a folder, sorted; none if there is no such folder.
fn listing(folder: &Path) -> Result<BTreeSet<String>, ReportError> {
    let failed = |source| ReportError::Io { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed(error)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<io::Result<_>>().map_err(failed)
}
