//! Runs of the past, read back from their folders.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::event::Event;
use crate::journal;

/// One run of the past.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PastRun {
    /// Run id, which begins with the time (UTC) at which it started.
    pub run: String,
    /// Pipeline name.
    pub pipeline: String,
    /// Number of stages in question.
    pub stages: usize,
    /// Stages that ran; counted so far if the run has not ended.
    pub ran: usize,
    /// Stages whose result was there, here or in the remote.
    pub cached: usize,
    /// Stages that failed.
    pub failed: usize,
    /// Wall-clock seconds; none if the run was killed or still goes on.
    pub seconds: Option<f64>,
}

/// The runs of a store, newest first.
#[must_use]
pub fn runs(root: &Path) -> Vec<PastRun> {
    newest_first(root).iter().filter_map(|run| past_run(root, run)).collect()
}

/// The names of all runs.
fn newest_first(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("runs")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names
}

/// The stages that the last run of a pipeline left undone: those that failed, were stopped or could not run, and of a run that was killed, all
/// that it had not come to.
pub(crate) fn left_over(root: &Path, pipeline: &str) -> Vec<String> {
    let is_its = |event: &Event| matches!(event, Event::RunStarted { pipeline: name, .. } if name == pipeline);
    let its = |run: &String| events(root, run).filter(|events| events.first().is_some_and(is_its)).map(|events| (run.clone(), events));
    let Some((run, events)) = newest_first(root).iter().find_map(its) else { return Vec::new() };
    let mut left = journal::stages(&journal::folder(root, &run));
    let mut places: HashMap<String, usize> = left.iter().cloned().zip(0..).collect();
    for event in events {
        match event {
            Event::Queued { stage, .. } | Event::Started { stage, .. } | Event::Failed { stage, .. } | Event::Blocked { stage, .. } => {
                if let Entry::Vacant(place) = places.entry(stage) {
                    left.push(place.key().clone());
                    place.insert(left.len() - 1);
                }
            }
            Event::Cached { stage, .. } | Event::Finished { stage, .. } | Event::Fetched { stage, .. } | Event::InRemote { stage, .. } => {
                if let Some(place) = places.remove(&stage) {
                    left[place].clear();
                }
            }
            _ => {}
        }
    }
    left.retain(|stage| !stage.is_empty());
    left
}

/// The events of one run; none if there is no such run. Lines that were cut by a kill are left out.
#[must_use]
pub fn events(root: &Path, run: &str) -> Option<Vec<Event>> {
    let file = std::fs::File::open(journal::folder(root, run).join(journal::EVENTS)).ok()?;
    Some(BufReader::new(file).lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect())
}

/// The newest log of a stage, or the one of the given run.
#[must_use]
pub fn log(root: &Path, stage: &str, run: Option<&str>) -> Option<PathBuf> {
    let names = match run {
        Some(run) => vec![run.to_owned()],
        None => newest_first(root),
    };
    names.iter().find_map(|run| log_in(&journal::folder(root, run), stage))
}

/// The log of a stage, by any of its names, in the folder of a run.
fn log_in(folder: &Path, stage: &str) -> Option<PathBuf> {
    let log = |name: &str| Some(journal::log_path(folder, name)).filter(|path| path.is_file());
    log(stage).or_else(|| log(&journal::alias(folder, stage)?))
}

fn past_run(root: &Path, run: &str) -> Option<PastRun> {
    let mut past = PastRun { run: run.to_owned(), pipeline: String::new(), stages: 0, ran: 0, cached: 0, failed: 0, seconds: None };
    for event in events(root, run)? {
        match event {
            Event::RunStarted { pipeline, stages, .. } => (past.pipeline, past.stages) = (pipeline, stages),
            Event::Finished { .. } => past.ran += 1,
            Event::Cached { .. } | Event::Fetched { .. } | Event::InRemote { .. } => past.cached += 1,
            Event::Failed { .. } => past.failed += 1,
            Event::RunFinished { seconds, .. } => past.seconds = Some(seconds),
            _ => {}
        }
    }
    (!past.pipeline.is_empty()).then_some(past)
}
