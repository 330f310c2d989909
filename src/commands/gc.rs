//! `qapipe cache gc`: what nothing cites goes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qapipe_cache::{Alone, Amount, Digest, Garbage, Gone, Leftover, Policy, Store};
use qapipe_engine::Options;
use qapipe_stages::tables;
use serde_json::{Value, json};

use super::cache::{count, total};
use super::session::Session;
use crate::args::Gc;
use crate::failure::{Exit, Failure};
use crate::grid::Grid;
use crate::human::{age, bytes, seconds, things};
use crate::interrupt;
use crate::printer::{DIM, PLAIN};
use crate::project::pipeline_file;

pub(super) fn run(args: &Gc, session: &Session) -> Result<(), Failure> {
    let cited = Cited::of(args, session)?;
    let policy = Policy { unused_for: args.older_than, max_bytes: args.max_size, all: args.all };
    let store = &cited.store;
    let garbage = if args.delete {
        let alone = wait(store, args.no_wait, session)?;
        // Asked only now: a run that has just ended has said what its pipeline has.
        alone.collect(&policy, &cited.roots()?)?
    } else {
        store.garbage(&policy, &cited.roots()?)?
    };
    if session.printer.json {
        return session.printer.json(&to_json(&garbage, args.delete));
    }
    tell(&garbage, args, session)
}

/// Who cites results.
struct Cited {
    store: Store,
    /// The pipelines that do; all if none are named.
    pipelines: Option<HashSet<String>>,
    /// What these have as their files stand now.
    now: HashSet<Digest>,
    all: bool,
}

impl Cited {
    fn of(args: &Gc, session: &Session) -> Result<Self, Failure> {
        let (mut now, mut names, mut store) = (HashSet::new(), HashSet::new(), None);
        for file in &args.pipelines {
            let options = Options { offline: true, ..Options::default() };
            let engine = session.engine(&pipeline_file(Some(file)), &[], options)?;
            now.extend(engine.plan()?.stages.into_iter().filter_map(|planned| planned.key));
            names.insert(engine.pipeline().name.clone());
            if store.as_ref().is_some_and(|store: &Store| store.root().canonicalize().ok() != engine.store().root().canonicalize().ok()) {
                let failure = Failure::usage("these pipelines have different stores");
                return Err(failure.help("clear one store at a time, or name one with --store DIR"));
            }
            store = Some(engine.store().clone());
        }
        let store = store.map_or_else(|| session.store(), Ok)?;
        Ok(Self { store, pipelines: (!args.pipelines.is_empty()).then_some(names), now, all: args.all })
    }

    /// The fingerprints of all that is cited.
    fn roots(&self) -> Result<HashSet<Digest>, Failure> {
        if self.all {
            return Ok(HashSet::new());
        }
        let mut roots = qapipe_engine::cited(&self.store, self.pipelines.as_ref())?;
        roots.extend(tables::cited(&self.store, self.pipelines.as_ref())?);
        roots.extend(&self.now);
        Ok(roots)
    }
}

/// Waits until nobody keeps anything.
fn wait<'a>(store: &'a Store, no_wait: bool, session: &Session) -> Result<Alone<'a>, Failure> {
    let mut cancel: Option<std::sync::Arc<AtomicBool>> = None;
    loop {
        if let Some(alone) = store.try_alone()? {
            return Ok(alone);
        }
        if no_wait {
            return Err(Failure::new(Exit::Locked, "another qapipe is keeping a result").help("leave out --no-wait to wait for it"));
        }
        if cancel.is_none() {
            session.printer.note("waiting: another qapipe is keeping a result");
            cancel = Some(interrupt::watch(|_| ())?);
        }
        if cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(Failure::new(Exit::Interrupted, "interrupted: nothing was deleted"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn to_json(garbage: &Garbage, deleted: bool) -> Value {
    let result = |gone: &Gone| {
        let record = &gone.record;
        json!({
            "key": record.fingerprint, "pipeline": record.pipeline, "stage": record.stage, "kind": record.kind, "run": record.run,
            "bytes": total(record), "seconds": wall_seconds(gone), "unused_seconds": gone.unused_for.as_secs(),
        })
    };
    json!({
        "deleted": deleted, "results": garbage.results.iter().map(result).collect::<Vec<_>>(), "kept": garbage.kept,
        "unreadable": garbage.unreadable, "objects": garbage.objects, "folders": garbage.trees, "leftovers": garbage.leftovers,
        "freed_bytes": garbage.freed(), "object_bytes_before": garbage.bytes, "object_bytes_after": garbage.bytes - garbage.objects.bytes,
    })
}

fn wall_seconds(gone: &Gone) -> Option<f64> {
    gone.record.cost.get("wall_seconds").copied()
}

fn tell(garbage: &Garbage, args: &Gc, session: &Session) -> Result<(), Failure> {
    let printer = &session.printer;
    if garbage.is_empty() {
        printer.data(&format!("nothing to delete: {} in {}\n", things(garbage.kept, "result"), bytes(garbage.bytes as f64)))?;
    } else {
        let table = if garbage.results.is_empty() { String::new() } else { table(&garbage.results) };
        printer.data(&format!("{table}{}", summary(garbage, args.delete)))?;
    }
    let left = garbage.bytes - garbage.objects.bytes;
    if let Some(max_size) = args.max_size.filter(|max_size| left > *max_size) {
        let wanted = bytes(max_size as f64);
        printer.note(&format!("{} stay, more than {wanted}: what is left is cited, in use, or was used too recently", bytes(left as f64)));
    }
    if !args.delete && !garbage.is_empty() {
        printer.note("nothing was deleted: say it again with --delete");
    }
    Ok(())
}

fn table(results: &[Gone]) -> String {
    let titles = ["KEY", "PIPELINE", "STAGE", "KIND", "UNUSED", "SIZE", "TOOK"];
    let mut grid = Grid::new(&titles).right([false, false, false, false, true, true, true]);
    for gone in results {
        let record = &gone.record;
        let took = wall_seconds(gone).map_or_else(|| "-".to_owned(), seconds);
        let (unused, size) = (age(gone.unused_for.as_secs()), bytes(total(record) as f64));
        let cells = [record.fingerprint.short(), record.pipeline.clone(), record.stage.clone(), record.kind.clone(), unused, size, took];
        grid.row(cells.into_iter().zip([DIM, PLAIN, PLAIN, PLAIN, DIM, PLAIN, PLAIN]));
    }
    grid.to_text("")
}

/// What goes and what stays, a line each.
fn summary(garbage: &Garbage, deleted: bool) -> String {
    let goes = if deleted { "deleted" } else { "to delete" };
    let (results, files) = (things(garbage.results.len(), "result"), count(garbage.objects.count, "file"));
    let took: f64 = garbage.results.iter().filter_map(wall_seconds).sum();
    let again = if took > 0.0 { format!(", {} to compute again", seconds(took)) } else { String::new() };
    let mut text = format!("{results} {goes}: {} in {files} that nothing else has{again}\n", bytes(garbage.objects.bytes as f64));
    if garbage.unreadable > 0 {
        text += &format!("{} {goes} that cannot be read\n", things(garbage.unreadable, "record"));
    }
    for (what, amount) in &garbage.leftovers {
        text += &format!("{} {goes}: {}\n", leftover(*what, *amount), bytes(amount.bytes as f64));
    }
    let stay = bytes((garbage.bytes - garbage.objects.bytes) as f64);
    text + &format!("{} kept: {stay} of {}\n", things(garbage.kept, "result"), bytes(garbage.bytes as f64))
}

fn leftover(what: Leftover, amount: Amount) -> String {
    match what {
        Leftover::Unfinished => count(amount.count, "unfinished write"),
        Leftover::Partial => count(amount.count, "unfinished transfer"),
        Leftover::Damaged => count(amount.count, "damaged object"),
        Leftover::Rows => count(amount.count, "answer folder"),
        Leftover::Trainings => count(amount.count, "kept training"),
        Leftover::Away => count(amount.count, "note on the remote"),
        Leftover::Locks => count(amount.count, "stale lock"),
    }
}
