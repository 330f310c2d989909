//! Events as lines, for the terminal and for logs alike.

use anstyle::Style;
use qapipe_engine::{ErrorClass, Event, Pipeline, StageError};

use crate::human;
use crate::printer::{BAD, DIM, DUE, GOOD, NAME, styled, warning};

/// Writes events as lines: a word, the stage, and what there is to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// Letters of the longest stage name.
    width: usize,
    verbose: bool,
}

/// Stage names beyond this length push their line's rest to the right.
const WIDEST: usize = 32;

impl Lines {
    pub(super) fn new(pipeline: &Pipeline, verbose: bool) -> Self {
        let width = pipeline.stages.iter().map(|stage| stage.name.len()).max().unwrap_or(0).min(WIDEST);
        Self { width, verbose }
    }

    /// The line for an event, if it is worth one.
    pub(super) fn of(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Started { stage, because, expected_seconds, .. } => {
                let expected = expected_seconds.map(|seconds| format!(" {}", styled(DIM, &human::about(seconds)))).unwrap_or_default();
                self.line(DUE, "run", stage, &format!("{because}{expected}"))
            }
            Event::Finished { stage, seconds, unchanged, .. } => {
                let same = if *unchanged { ", output as before" } else { "" };
                self.line(GOOD, "done", stage, &format!("{}{same}", human::seconds(*seconds)))
            }
            Event::Failed { stage, error } if error.class == ErrorClass::Interrupted => self.stopped(stage, error),
            Event::Failed { stage, error } => self.failed(stage, error),
            Event::Queued { stage, job, by, .. } => {
                let by = by.as_ref().map(|run| format!(", which run {run} had submitted")).unwrap_or_default();
                self.line(DIM, "queued", stage, &format!("job {job}{by}"))
            }
            Event::Waiting { stage, .. } => self.line(DUE, "wait", stage, "another run is computing it"),
            Event::Damaged { stage, what } => self.line(BAD, "damaged", stage, &format!("{what}; it runs again")),
            Event::Fetching { stage, bytes, .. } => self.line(DUE, "fetch", stage, &human::bytes(*bytes as f64)),
            Event::Fetched { stage, bytes, seconds, .. } => {
                self.line(GOOD, "fetched", stage, &format!("{} in {}", human::bytes(*bytes as f64), human::seconds(*seconds)))
            }
            Event::Pushed { stage, bytes, .. } if self.verbose => self.line(DIM, "pushed", stage, &human::bytes(*bytes as f64)),
            Event::InRemote { stage, .. } if self.verbose => self.line(DIM, "remote", stage, "nothing here needs what it gave"),
            Event::Warning { message, help } => warning(message, help.as_deref()),
            Event::Cached { stage, .. } if self.verbose => self.line(DIM, "cached", stage, ""),
            Event::Blocked { stage, by } if self.verbose && by.is_empty() => self.line(DIM, "blocked", stage, "the run is stopping"),
            Event::Blocked { stage, by } if self.verbose => self.line(DIM, "blocked", stage, &format!("after {by}")),
            Event::Restored { stage, path } if self.verbose => self.line(GOOD, "restored", stage, path),
            Event::Kept { stage, path, to } => self.line(DUE, "kept", stage, &format!("{path} was altered; what it held is in {to}")),
            Event::Log { stage, line } if self.verbose => format!("{}  {line}", styled(NAME, &format!("{stage} |"))),
            _ => return None,
        })
    }

    /// Progress of a stage as a line of a log.
    pub(super) fn progress(&self, event: &Event) -> Option<String> {
        let Event::Progress { stage, done, total, unit, note } = event else { return None };
        let of = if *total > 0 { format!(" of {total}") } else { String::new() };
        let note = if note.is_empty() { String::new() } else { format!("  {note}") };
        Some(self.line(DIM, "...", stage, &format!("{done}{of} {unit}{note}")))
    }

    /// That it was interrupted is what the word says already.
    fn stopped(&self, stage: &str, error: &StageError) -> String {
        self.line(DUE, "stopped", stage, if *error == StageError::interrupted() { "" } else { &error.message })
    }

    fn failed(&self, stage: &str, error: &StageError) -> String {
        let help = error.help.as_ref().map(|help| format!("\n  {}: {help}", styled(NAME, "help"))).unwrap_or_default();
        format!("{}{help}", self.line(BAD, "failed", stage, &error.message))
    }

    fn line(&self, style: Style, word: &str, stage: &str, rest: &str) -> String {
        let text = format!("{}  {stage:width$}  {rest}", styled(style, &format!("{word:<8}")), width = self.width);
        text.trim_end().to_owned()
    }
}
