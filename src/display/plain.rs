//! Lines on standard error, for logs and pipes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use qapipe_engine::{Event, Observer};

use super::Display;
use super::lines::Lines;
use crate::printer::Printer;

/// A stage's progress is told this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Writes events as lines; when quiet, failures alone.
pub(super) struct Plain {
    printer: Printer,
    lines: Lines,
    /// When each stage's progress was last told.
    told: Mutex<HashMap<String, Instant>>,
}

impl Plain {
    pub(super) fn new(printer: Printer, lines: Lines) -> Self {
        Self { printer, lines, told: Mutex::default() }
    }

    /// Whether a stage's progress is worth a line now: not in its first seconds, and not often.
    fn is_due(&self, stage: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let last = told.entry(stage.to_owned()).or_insert(now);
        let due = now.duration_since(*last) >= PROGRESS_EVERY;
        if due {
            *last = now;
        }
        due
    }
}

impl Observer for Plain {
    fn event(&self, event: &Event) {
        let line = match event {
            Event::Progress { stage, .. } if !self.printer.quiet && self.is_due(stage) => self.lines.progress(event),
            Event::Progress { .. } => None,
            event => self.lines.of(event),
        };
        match (line, event) {
            (Some(line), Event::Failed { .. }) => self.printer.say(&line),
            (Some(line), _) => self.printer.note(&line),
            (None, _) => {}
        }
    }
}

impl Display for Plain {
    fn tell(&self, text: &str) {
        self.printer.say(text);
    }
}
