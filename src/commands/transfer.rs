//! `qapipe cache push` and `qapipe cache pull`: results to the remote and from it.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use qapipe_cache::{Digest, Record, Remote, RemoteError, Store, Traffic, Watch};
use qapipe_engine::{Decision, Engine, Options};
use serde_json::json;

use super::session::Session;
use crate::args::Transfer;
use crate::failure::{Exit, Failure};
use crate::human::{bytes, things};
use crate::interrupt;
use crate::printer::Printer;
use crate::project::pipeline_and_stages;
use crate::settings;

/// Sends results to the remote: all, or those that a pipeline has now.
pub(super) fn push(args: &Transfer, session: &Session) -> Result<(), Failure> {
    let (store, remote, records) = match engine(args, session, true)? {
        Some(engine) => {
            let remote = settings::remote_of(&engine.pipeline().folder)?;
            let keys = keys(&engine, |decision| *decision == Decision::Cached)?;
            let records: Vec<Record> = keys.iter().filter_map(|key| engine.store().record(key).ok()?).collect();
            (engine.store().clone(), remote, records)
        }
        None => {
            let store = session.store()?;
            let remote = remote_of(&store)?;
            let records = store.records().collect();
            (store, remote, records)
        }
    };
    // What goes stays here meanwhile.
    let lease = store.lease();
    lease.keep(store.hold(), records.iter().map(|record| &record.fingerprint));
    let traffic = watched(session, |watch| remote.push(&store, &records, args.dry_run, watch))?;
    tell(&traffic, if args.dry_run { "to send" } else { "sent" }, &remote, session)
}

/// Fetches results from the remote: all, or those that a pipeline's stages have there now.
pub(super) fn pull(args: &Transfer, session: &Session) -> Result<(), Failure> {
    let (store, remote, keys) = match engine(args, session, false)? {
        Some(engine) => {
            let remote = settings::remote_of(&engine.pipeline().folder)?;
            remote.probe()?;
            let keys = keys(&engine, Decision::is_there)?;
            session.tell_warnings(&engine);
            (engine.store().clone(), remote, keys)
        }
        None => {
            let store = session.store_or_new()?;
            let remote = remote_of(&store)?;
            let keys = remote.fingerprints()?;
            (store, remote, keys)
        }
    };
    let traffic = watched(session, |watch| remote.pull(&store, &keys, args.dry_run, watch))?;
    tell(&traffic, if args.dry_run { "to fetch" } else { "fetched" }, &remote, session)
}

/// The pipeline that is meant, if one is.
fn engine(args: &Transfer, session: &Session, offline: bool) -> Result<Option<Engine>, Failure> {
    if args.pipeline.is_none() {
        return Ok(None);
    }
    let (file, targets) = pipeline_and_stages(args.pipeline.clone(), args.stages.clone());
    let options = Options { targets, offline, ..args.machine.clone().options() };
    session.engine(&file, &args.changes.overrides(), options).map(Some)
}

/// The remote where no pipeline is named: that of the project that the store lies in.
fn remote_of(store: &Store) -> Result<Arc<Remote>, Failure> {
    settings::remote_of(project(store))
}

/// The same, if there is one.
pub(super) fn remote_behind(store: &Store) -> Result<Option<Arc<Remote>>, Failure> {
    Ok(settings::remote(project(store))?.remote)
}

fn project(store: &Store) -> &Path {
    store.root().parent().unwrap_or(Path::new("."))
}

/// Keys of stages whose decision is such.
fn keys(engine: &Engine, is_meant: impl Fn(&Decision) -> bool) -> Result<Vec<Digest>, Failure> {
    let plan = engine.plan()?;
    Ok(plan.stages.into_iter().filter(|planned| is_meant(&planned.decision)).filter_map(|planned| planned.key).collect())
}

/// Transfers with a bar on a terminal, until Ctrl-C.
pub(super) fn watched<T>(session: &Session, transfer: impl FnOnce(&dyn Watch) -> Result<T, RemoteError>) -> Result<T, Failure> {
    let printer = session.printer;
    let cancel =
        interrupt::watch(move |_| printer.note("interrupted: what has been transferred stays, and the next time goes on from there"))?;
    let bar = Bar { bar: bar(&printer), cancel };
    let done = transfer(&bar);
    bar.bar.finish_and_clear();
    Ok(done?)
}

struct Bar {
    bar: ProgressBar,
    cancel: Arc<AtomicBool>,
}

fn bar(printer: &Printer) -> ProgressBar {
    if printer.quiet || printer.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}  {bytes_per_sec} (~{eta} left)");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"))
}

impl Watch for Bar {
    fn planned(&self, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    fn moved(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// What was transferred, in one line; then what is damaged.
fn tell(traffic: &Traffic, done: &str, remote: &Remote, session: &Session) -> Result<(), Failure> {
    let printer = &session.printer;
    if printer.json {
        let mut answer = json!(traffic);
        answer["remote"] = json!(remote.url());
        printer.json(&answer)?;
    } else {
        let (results, size) = (things(traffic.results, "result"), bytes(traffic.bytes as f64));
        let files = if traffic.files > 0 { format!("{}, ", things(traffic.files, "file")) } else { String::new() };
        printer.data(&format!("{results} {done} ({files}{size}), {} there already\n", traffic.results_there))?;
    }
    traffic.damaged.iter().for_each(|what| printer.error(what, None));
    if traffic.damaged.is_empty() {
        return Ok(());
    }
    printer.note("what is damaged in the store is computed again by the next run; what is damaged in the remote has to be deleted there");
    Err(Failure::told(Exit::Failed))
}
