//! What a run looks like while it goes on.

mod json;
mod lines;
mod plain;
mod tty;

use std::io::IsTerminal;
use std::sync::Arc;

use qapipe_engine::{Observer, Pipeline};

use crate::printer::Printer;

/// Shows a run.
pub(crate) trait Display: Observer {
    /// Shows a line that is no event, among the others.
    fn tell(&self, text: &str);

    /// Takes away what is only for the time of the run.
    fn close(&self) {}
}

/// The display that fits: JSON where it was asked for, bars on a terminal, lines elsewhere.
pub(crate) fn open(printer: Printer, pipeline: &Pipeline) -> Arc<dyn Display> {
    let lines = lines::Lines::new(pipeline, printer.verbose);
    if printer.json {
        Arc::new(json::Json::new(printer))
    } else if std::io::stderr().is_terminal() && !printer.quiet {
        Arc::new(tty::Tty::new(printer, lines))
    } else {
        Arc::new(plain::Plain::new(printer, lines))
    }
}
