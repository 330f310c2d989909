//! `qapipe cache`: the store.

use std::time::SystemTime;

use qapipe_cache::{Record, Store};
use serde_json::{Value, json};

use super::session::Session;
use super::{gc, transfer, verify};
use crate::args::{Cache, CacheCommand};
use crate::failure::Failure;
use crate::grid::Grid;
use crate::human::{ago, bytes, things};
use crate::printer::{DIM, PLAIN};
use crate::project::{shown, text};

pub(super) fn run(args: &Cache, session: &Session) -> Result<(), Failure> {
    match &args.command {
        CacheCommand::Ls => list(&session.store()?, session),
        CacheCommand::Size => size(&session.store()?, session),
        CacheCommand::Gc(args) => gc::run(args, session),
        CacheCommand::Verify(args) => verify::run(args, session),
        CacheCommand::Push(args) => transfer::push(args, session),
        CacheCommand::Pull(args) => transfer::pull(args, session),
    }
}

fn list(store: &Store, session: &Session) -> Result<(), Failure> {
    let mut records: Vec<Record> = store.records().collect();
    records.sort_by(|a, b| b.run.cmp(&a.run).then_with(|| a.stage.cmp(&b.stage)).then_with(|| a.fingerprint.cmp(&b.fingerprint)));
    if session.printer.json {
        return session.printer.json(&json!({ "results": records.iter().map(to_json).collect::<Vec<_>>() }));
    }
    let mut grid = Grid::new(&["KEY", "PIPELINE", "STAGE", "KIND", "SIZE", "WHEN"]).right([false, false, false, false, true, false]);
    let now = SystemTime::now();
    for record in &records {
        let when = ago(&record.run, now).unwrap_or_default();
        let cells = [
            record.fingerprint.short(),
            record.pipeline.clone(),
            record.stage.clone(),
            record.kind.clone(),
            bytes(total(record) as f64),
            when,
        ];
        grid.row(cells.into_iter().zip([DIM, PLAIN, PLAIN, PLAIN, PLAIN, DIM]));
    }
    session.printer.data(&grid.to_text(""))
}

fn to_json(record: &Record) -> Value {
    json!({
        "key": record.fingerprint, "pipeline": record.pipeline, "stage": record.stage, "kind": record.kind, "run": record.run,
        "bytes": total(record), "outputs": record.outputs, "cost": record.cost,
    })
}

pub(super) fn total(record: &Record) -> u64 {
    record.outputs.values().map(|artifact| artifact.bytes).sum()
}

fn size(store: &Store, session: &Session) -> Result<(), Failure> {
    let usage = store.usage();
    if session.printer.json {
        return session.printer.json(&json!({
            "store": text(store.root()), "results": usage.records, "objects": usage.objects, "object_bytes": usage.object_bytes,
            "folders": usage.trees, "scratch_bytes": usage.scratch_bytes, "damaged_bytes": usage.damaged_bytes,
        }));
    }
    let mut grid = Grid::new(&["", ""]);
    let mut line = |name: &str, value: String| grid.plain([name.to_owned(), value]);
    line("store", shown(store.root()));
    line("results", usage.records.to_string());
    line(
        "objects",
        format!("{} in {} and {}", bytes(usage.object_bytes as f64), count(usage.objects, "file"), count(usage.trees, "folder")),
    );
    for (name, size) in [("unfinished", usage.scratch_bytes), ("set aside as damaged", usage.damaged_bytes)] {
        if size > 0 {
            line(name, bytes(size as f64));
        }
    }
    session.printer.data(&grid.to_text(""))
}

pub(super) fn count(count: u64, thing: &str) -> String {
    things(usize::try_from(count).unwrap_or(usize::MAX), thing)
}
