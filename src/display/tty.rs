//! Bars on a terminal: a line for every running stage below the lines of what has happened.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use qapipe_engine::{Event, Observer};

use super::Display;
use super::lines::Lines;
use crate::printer::Printer;

/// Shows bars for running stages and lines above them.
pub(super) struct Tty {
    printer: Printer,
    lines: Lines,
    bars: MultiProgress,
    running: Mutex<HashMap<String, ProgressBar>>,
}

impl Tty {
    pub(super) fn new(printer: Printer, lines: Lines) -> Self {
        Self { printer, lines, bars: MultiProgress::new(), running: Mutex::default() }
    }

    fn start(&self, stage: &str) {
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(spinner());
        bar.set_prefix(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.running().insert(stage.to_owned(), bar);
    }

    fn end(&self, stage: &str) {
        if let Some(bar) = self.running().remove(stage) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn advance(&self, event: &Event) {
        let Event::Progress { stage, done, total, unit, note } = event else { return };
        let running = self.running();
        let Some(bar) = running.get(stage) else { return };
        let what = if note.is_empty() { unit.clone() } else { format!("{unit}  {note}") };
        if *total == 0 {
            bar.set_message(format!("{done} {what}  "));
            return;
        }
        if bar.length() != Some(*total) {
            bar.set_style(full());
            bar.set_length(*total);
        }
        bar.set_position(*done);
        bar.set_message(what);
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, ProgressBar>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Tty {
    fn event(&self, event: &Event) {
        match event {
            Event::Started { stage, .. } | Event::Waiting { stage, .. } | Event::Fetching { stage, .. } => self.start(stage),
            Event::Finished { stage, .. } | Event::Failed { stage, .. } | Event::Cached { stage, .. } | Event::Fetched { stage, .. } => {
                self.end(stage);
            }
            Event::Progress { .. } => self.advance(event),
            _ => {}
        }
        if let Some(line) = self.lines.of(event) {
            self.tell(&line);
        }
    }
}

impl Display for Tty {
    fn tell(&self, text: &str) {
        self.bars.suspend(|| self.printer.say(text));
    }

    fn close(&self) {
        for (_, bar) in self.running().drain() {
            bar.finish_and_clear();
        }
        let _ = self.bars.clear();
    }
}

fn spinner() -> ProgressStyle {
    style("{spinner} {prefix}  {msg}{elapsed}")
}

fn full() -> ProgressStyle {
    style("{spinner} {prefix}  {wide_bar} {pos}/{len} {msg}  {elapsed} (~{eta} left)").progress_chars("━╸─")
}

/// A template that does not parse would be a slip of ours; the run is worth more than its looks.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
