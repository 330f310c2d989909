//! After a run: the rows of evaluations and trainings go into the tables folder, with where they come from.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use qapipe_cache::{Artifact, CacheError, Digest, Store};
use qapipe_engine::{ArtifactType, Outcome, Pipeline, StageOutcome, StageState, keys_in};

use super::lineage::{Chain, axes, is_shared, lineage};
use super::{Lineage, MetricsRow, PredictionRow, Row, StageRow, TrainingRow, read_table, write_table};
use crate::error::Error;

/// Folder of the tables within a store.
pub const TABLES: &str = "tables";

/// What came of collecting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files that were written, relative to the tables folder.
    pub written: Vec<String>,
}

/// Writes what a run gave into the tables folder of its store: `metrics`, `predictions` and `training` for every stage that has
/// such an output, unless they are there; `stages` where something ran; and in `current` which key each of these stages has now. A stage
/// that failed has none. A run that found everything cached writes nothing.
///
/// # Errors
/// Where a result cannot be read, or the tables folder not be written.
pub fn collect(pipeline: &Pipeline, outcome: &Outcome, store: &Store) -> Result<Collected, Error> {
    let position = pipeline.stages.iter().enumerate().map(|(at, spec)| (spec.name.as_str(), at)).collect();
    let by_name = outcome.stages.iter().map(|stage| (stage.stage.as_str(), stage)).collect();
    let mut run = Run { pipeline, outcome, store, position, by_name, tables: store.root().join(TABLES), collected: Collected::default() };
    for stage in &outcome.stages {
        run.stage(stage)?;
    }
    run.current()?;
    run.stages()?;
    Ok(run.collected)
}

/// The results that the tables in a store have as the current ones: of all pipelines, or of those with such names.
///
/// # Errors
/// Where what says so cannot be read.
pub fn cited(store: &Store, pipelines: Option<&HashSet<String>>) -> Result<HashSet<Digest>, CacheError> {
    keys_in(&store.root().join(TABLES).join(CURRENT), pipelines)
}

/// Folder of the notes which key each stage has now, within the tables folder.
const CURRENT: &str = "current";

struct Run<'a> {
    pipeline: &'a Pipeline,
    outcome: &'a Outcome,
    store: &'a Store,
    position: HashMap<&'a str, usize>,
    by_name: HashMap<&'a str, &'a StageOutcome>,
    tables: PathBuf,
    collected: Collected,
}

/// Where the rows of a stage come from.
struct Origin<'a> {
    lineage: Lineage,
    chain: &'a Chain,
    /// Whether other stages ran on its GPU at the time.
    shared: bool,
}

impl Origin<'_> {
    fn metrics(&self, row: MetricsRow) -> MetricsRow {
        self.chain.add_costs(if self.shared { row.without_times() } else { row })
    }

    fn training(&self, row: TrainingRow) -> TrainingRow {
        TrainingRow { seconds: row.seconds.filter(|_| !self.shared), ..row }
    }
}

/// The table that an output of a type belongs to.
fn table_of(artifact: ArtifactType) -> Option<&'static str> {
    match artifact {
        ArtifactType::METRICS => Some("metrics"),
        ArtifactType::PREDICTIONS => Some("predictions"),
        ArtifactType::TRAINING_LOG => Some("training"),
        _ => None,
    }
}

impl Run<'_> {
    /// Collects the outputs of a stage that are tables.
    fn stage(&mut self, stage: &StageOutcome) -> Result<(), Error> {
        let (Some(brief), Some(&at)) = (&stage.brief, self.position.get(stage.stage.as_str())) else { return Ok(()) };
        let spec = &self.pipeline.stages[at];
        // Of a result that was computed again under the same key, the costs are others.
        let anew = stage.state == StageState::Ran;
        let mut chain = None;
        for output in &spec.outputs {
            let Some(table) = table_of(output.artifact) else { continue };
            let name = format!("{table}/{}.{}.{}.parquet", self.pipeline.name, spec.name, brief.fingerprint.short());
            let is_due = |artifact: &&Artifact| {
                let is_here = stage.state != StageState::InRemote || self.store.check(artifact).is_ok();
                anew || (is_here && !self.tables.join(&name).exists())
            };
            let Some(artifact) = brief.outputs().get(&output.name).filter(is_due) else { continue };
            let is_gone = Cell::new(false);
            let record_of = |index: usize| {
                let stage = self.by_name.get(self.pipeline.stages[index].name.as_str())?;
                let record = stage.brief.as_ref()?.record();
                is_gone.set(is_gone.get() | record.is_none());
                record.map(AsRef::as_ref)
            };
            let chain = chain.get_or_insert_with(|| Chain::of(self.pipeline, at, &record_of));
            let from = self.store.path(artifact);
            // A record that has gone meanwhile, or been replaced, would leave costs out of a table that is not written again.
            let Some(record) = brief.record().filter(|_| !is_gone.get()) else { continue };
            let lineage = lineage(self.pipeline, at, record, chain);
            self.table(table, &name, &from, &Origin { lineage, chain, shared: is_shared(record) })?;
            self.collected.written.push(name);
        }
        Ok(())
    }

    fn table(&self, table: &str, name: &str, from: &Path, origin: &Origin<'_>) -> Result<(), Error> {
        let path = self.tables.join(name);
        match table {
            "metrics" => beside(&path, &origin.lineage, read_table(from)?.into_iter().map(|row| origin.metrics(row)).collect()),
            "predictions" => beside(&path, &origin.lineage, read_table::<PredictionRow>(from)?),
            _ => beside(&path, &origin.lineage, read_table(from)?.into_iter().map(|row| origin.training(row)).collect()),
        }
    }

    /// Writes which key each stage has now, where that is not what the file says.
    fn current(&mut self) -> Result<(), Error> {
        let name = format!("{CURRENT}/{}.json", self.pipeline.name);
        let path = self.tables.join(&name);
        let old: BTreeMap<String, String> = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(Error::io(&path)(e)),
        };
        let mut new = BTreeMap::new();
        for spec in self.pipeline.stages.iter().filter(|spec| spec.outputs.iter().any(|output| table_of(output.artifact).is_some())) {
            let key = match self.by_name.get(spec.name.as_str()) {
                Some(stage) => stage.brief.as_ref().map(|brief| brief.fingerprint.to_string()),
                None => old.get(&spec.name).cloned(),
            };
            new.extend(key.map(|key| (spec.name.clone(), key)));
        }
        if new == old {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&new).map_err(|e| Error::data(format!("{}: {e}", path.display())))?;
        place(&path, |to| std::fs::write(to, format!("{text}\n")).map_err(Error::io(to)))?;
        self.collected.written.push(name);
        Ok(())
    }

    /// Writes one row a stage, where something ran.
    fn stages(&mut self) -> Result<(), Error> {
        if !self.outcome.stages.iter().any(|stage| matches!(stage.state, StageState::Ran | StageState::Failed(_))) {
            return Ok(());
        }
        let rows: Vec<StageRow> = self.outcome.stages.iter().map(|stage| self.stage_row(stage)).collect();
        let name = format!("stages/{}.parquet", self.outcome.run);
        place(&self.tables.join(&name), |to| write_table(to, &rows))?;
        self.collected.written.push(name);
        Ok(())
    }

    fn stage_row(&self, stage: &StageOutcome) -> StageRow {
        let short = stage.brief.as_ref().map(|brief| &brief.short);
        let spec = self.position.get(stage.stage.as_str()).map(|&at| &self.pipeline.stages[at]);
        let state = match stage.state {
            StageState::Cached => "cached",
            StageState::Fetched => "fetched",
            StageState::InRemote => "remote",
            StageState::Ran => "ran",
            StageState::Failed(_) => "failed",
            StageState::Blocked => "blocked",
        };
        StageRow {
            run: self.outcome.run.clone(),
            pipeline: self.pipeline.name.clone(),
            stage: stage.stage.clone(),
            axes: spec.and_then(|spec| axes(&spec.cell)),
            kind: spec.map_or("", |spec| spec.kind.name()).to_owned(),
            key: stage.key.map(|key| key.to_string()),
            state: state.to_owned(),
            seconds: short.and_then(|short| short.wall_seconds),
            peak_memory_bytes: short.and_then(|short| short.peak_memory_bytes),
            device: short.and_then(|short| short.device.clone()),
        }
    }
}

/// Writes rows with a lineage beside each.
fn beside<R: Row + Clone>(path: &Path, lineage: &Lineage, rows: Vec<R>) -> Result<(), Error> {
    let rows: Vec<(Lineage, R)> = rows.into_iter().map(|row| (lineage.clone(), row)).collect();
    place(path, |to| write_table(to, &rows))
}

/// Writes a file beside its place, then moves it there: whoever reads sees all of it or nothing.
fn place(path: &Path, write: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let scratch = folder.join(format!(".{name}.{}", std::process::id()));
    let written = write(&scratch).and_then(|()| std::fs::rename(&scratch, path).map_err(Error::io(path)));
    if written.is_err() {
        let _ = std::fs::remove_file(&scratch);
    }
    written
}
