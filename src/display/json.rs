//! Every event as a line of JSON on standard output.

use std::sync::Mutex;
use std::sync::PoisonError;

use qapipe_engine::{Event, Observer};

use super::Display;
use crate::printer::Printer;

/// Writes events as JSON lines. A reader that has gone away does not stop the run.
pub(super) struct Json {
    printer: Printer,
    /// One line at a time.
    turn: Mutex<()>,
}

impl Json {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer, turn: Mutex::new(()) }
    }
}

impl Observer for Json {
    fn event(&self, event: &Event) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(value) = serde_json::to_value(event) {
            let _ = self.printer.json_line(&value);
        }
    }
}

impl Display for Json {
    fn tell(&self, text: &str) {
        self.printer.note(text);
    }
}
