//! `qapipe log`: past runs.

use std::time::SystemTime;

use qapipe_engine::{PastRun, runs};
use serde_json::json;

use super::session::Session;
use crate::args;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::human::{ago, seconds};
use crate::printer::{BAD, DIM, NAME, PLAIN};

pub(super) fn run(args: &args::Log, session: &Session) -> Result<(), Failure> {
    let store = session.store()?;
    let mut runs = runs(store.root());
    runs.truncate(args.limit);
    if session.printer.json {
        return session.printer.json(&json!({ "runs": runs }));
    }
    let mut grid =
        Grid::new(&["RUN", "WHEN", "PIPELINE", "RAN", "CACHED", "FAILED", "TIME"]).right([false, false, false, true, true, true, true]);
    let now = SystemTime::now();
    runs.iter().for_each(|run| grid.row(row(run, now)));
    session.printer.data(&grid.to_text(""))
}

fn row(run: &PastRun, now: SystemTime) -> [(String, anstyle::Style); 7] {
    let failed = if run.failed > 0 { BAD } else { PLAIN };
    [
        (run.run.clone(), NAME),
        (ago(&run.run, now).unwrap_or_default(), DIM),
        (run.pipeline.clone(), PLAIN),
        (run.ran.to_string(), PLAIN),
        (run.cached.to_string(), PLAIN),
        (run.failed.to_string(), failed),
        (run.seconds.map_or_else(|| "not ended".to_owned(), seconds), PLAIN),
    ]
}
