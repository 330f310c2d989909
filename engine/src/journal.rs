//! The folder of a run: every event, and the log of every stage.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use qapipe_cache::Store;

use crate::event::{Event, Observer};
use crate::pipeline::Pipeline;

/// Writes a run's events and logs, and passes every event on. What cannot be written is lost silently: results matter more.
pub(crate) struct Journal<'a> {
    folder: PathBuf,
    next: &'a dyn Observer,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    events: Option<BufWriter<File>>,
    logs: HashMap<String, BufWriter<File>>,
}

impl<'a> Journal<'a> {
    pub(crate) fn create(store: &Store, run: &str, next: &'a dyn Observer) -> Self {
        let folder = folder(store.root(), run);
        let events = fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(EVENTS))).ok().map(BufWriter::new);
        Self { folder, next, files: Mutex::new(Files { events, ..Files::default() }) }
    }

    /// Keeps which stages the run is about, until it has ended: one that is killed leaves those undone that it never came to.
    pub(crate) fn note_stages<'s>(&self, stages: impl Iterator<Item = &'s str>) {
        let lines: String = stages.flat_map(|stage| [stage, "\n"]).collect();
        let _ = fs::write(self.folder.join(STAGES), lines);
    }

    /// The run has ended.
    pub(crate) fn end(&self, last: &Event) {
        self.event(last);
        let _ = fs::remove_file(self.folder.join(STAGES));
    }

    /// Keeps the other names of stages, by which their logs are found as well.
    pub(crate) fn note_aliases(&self, pipeline: &Pipeline) {
        let named: BTreeMap<&str, &str> =
            pipeline.aliases.iter().map(|(alias, stage)| (alias.as_str(), pipeline.stages[*stage].name.as_str())).collect();
        if named.is_empty() {
            return;
        }
        if let Ok(bytes) = serde_json::to_vec(&named) {
            let _ = fs::write(self.folder.join(ALIASES), bytes);
        }
    }
}

impl Files {
    fn log(&mut self, folder: &Path, stage: &str, line: &str) {
        if !self.logs.contains_key(stage) {
            let path = log_path(folder, stage);
            let opened = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create(&path));
            if let Ok(file) = opened {
                self.logs.insert(stage.to_owned(), BufWriter::new(file));
            }
        }
        if let Some(file) = self.logs.get_mut(stage) {
            let _ = writeln!(file, "{line}").and_then(|()| file.flush());
        }
    }

    fn event(&mut self, event: &Event) {
        let Some(file) = &mut self.events else { return };
        let _ = serde_json::to_writer(&mut *file, event).map_err(std::io::Error::from).and_then(|()| file.write_all(b"\n"));
        if !matches!(event, Event::Cached { .. }) {
            let _ = file.flush();
        }
        if let Event::Finished { stage, .. } | Event::Failed { stage, .. } = event {
            self.logs.remove(stage);
        }
    }
}

impl Observer for Journal<'_> {
    /// The lock is held until whoever comes next has heard it too: one event at a time.
    fn event(&self, event: &Event) {
        let mut files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Progress { .. } => {}
            Event::Log { stage, line } => files.log(&self.folder, stage, line),
            event => files.event(event),
        }
        self.next.event(event);
    }
}

pub(crate) const EVENTS: &str = "events.jsonl";
/// Names of the stages of a run that has not ended.
const STAGES: &str = "stages.txt";
/// Names of stages by their other names; only where there are any.
const ALIASES: &str = "aliases.json";

/// The stages of a run that has not ended.
pub(crate) fn stages(folder: &Path) -> Vec<String> {
    fs::read_to_string(folder.join(STAGES)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What a run called the stage that goes by this other name.
pub(crate) fn alias(folder: &Path, stage: &str) -> Option<String> {
    let bytes = fs::read(folder.join(ALIASES)).ok()?;
    serde_json::from_slice::<BTreeMap<String, String>>(&bytes).ok()?.remove(stage)
}

pub(crate) fn folder(root: &Path, run: &str) -> PathBuf {
    root.join("runs").join(run)
}

pub(crate) fn log_path(folder: &Path, stage: &str) -> PathBuf {
    folder.join("logs").join(format!("{stage}.log"))
}
