//! `qapipe run`: bring results up to date.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qapipe_engine::{Engine, ErrorClass, Event, Job, Observer, Options, Outcome, Override, StageState};

use super::session::Session;
use super::{jobs, results};
use crate::args::Run;
use crate::display::{self, Display};
use crate::failure::{Exit, Failure};
use crate::human::{seconds, things};
use crate::interrupt;
use crate::project;

pub(super) fn run(args: Run, session: &Session) -> Result<(), Failure> {
    let (no_wait, dry) = (args.no_wait, args.dry);
    let (file, options, set, job) = prepare(args)?;
    if let Some(job) = job {
        return jobs::run(&session.engine_of_job(&file, &set, options)?, &job, session);
    }
    let only_left = options.left_over;
    let engine = session.engine(&file, &set, options)?;
    if only_left && engine.selected().is_empty() {
        session.printer.note("nothing to do: the last run left nothing undone");
        return Ok(());
    }
    if dry {
        return jobs::dry_run(&engine, session);
    }
    let display = display::open(session.printer, engine.pipeline());
    let shown = Arc::clone(&display);
    let tell = move |text: &str| shown.tell(text);
    let cancel = match engine.cluster() {
        Some(cluster) => interrupt::watch_jobs(Arc::clone(&cluster.orders), tell)?,
        None => interrupt::watch(tell)?,
    };
    let observer =
        Watcher { next: display.as_ref(), cancel: &cancel, no_wait, locked: AtomicBool::new(false), restored: Counter::default() };
    let outcome = engine.run(&observer, &cancel);
    display.close();
    let outcome = outcome?;
    tell_outcome(&engine, &outcome, observer.restored.get(), session)?;
    if observer.locked.load(Ordering::Relaxed) {
        return Err(Failure::new(Exit::Locked, "another run is computing the same result").help("leave out --no-wait to wait for it"));
    }
    let exit = exit(&outcome);
    engine.leave();
    std::mem::forget(outcome);
    match exit {
        Exit::Done => Ok(()),
        exit => Err(Failure::told(exit)),
    }
}

/// Brings the tables up to date, and sums the run up.
fn tell_outcome(engine: &Engine, outcome: &Outcome, restored: usize, session: &Session) -> Result<(), Failure> {
    collect(engine, outcome, session);
    tell_namesake(engine, session);
    if session.printer.json {
        return Ok(());
    }
    session.printer.note(&summary(outcome, restored));
    results::after_run(engine, outcome, session)
}

/// The file, the engine's options and the job that the arguments mean.
fn prepare(args: Run) -> Result<(PathBuf, Options, Vec<Override>, Option<Job>), Failure> {
    let set = args.work.changes.overrides();
    let cluster = jobs::cluster(&args)?;
    let (file, targets) = project::pipeline_and_stages(args.work.pipeline, args.work.stages);
    let options = Options {
        keep_going: args.keep_going,
        force: args.work.force,
        targets,
        cells: args.work.cells,
        left_over: args.failed,
        share_gpus: args.share_gpus,
        offline: args.offline,
        cluster,
        ..args.work.machine.options()
    };
    Ok((file, options, set, args.job.job()))
}

/// Passes events on; notes what the summary and the exit code need.
struct Watcher<'a> {
    next: &'a dyn Display,
    cancel: &'a AtomicBool,
    no_wait: bool,
    locked: AtomicBool,
    restored: Counter,
}

#[derive(Default)]
struct Counter(std::sync::atomic::AtomicUsize);

impl Counter {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Observer for Watcher<'_> {
    fn event(&self, event: &Event) {
        match event {
            Event::Restored { .. } => self.restored.add(),
            Event::Waiting { .. } if self.no_wait => {
                self.locked.store(true, Ordering::Relaxed);
                self.cancel.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
        self.next.event(event);
    }
}

/// Brings the result tables up to date. Results are safe in the store whatever becomes of the tables.
fn collect(engine: &Engine, outcome: &Outcome, session: &Session) {
    if let Err(error) = qapipe_stages::tables::collect(engine.pipeline(), outcome, engine.store()) {
        session.printer.error(&format!("the result tables could not be written: {error}"), None);
    }
}

/// Results are shown by the pipeline's name.
fn tell_namesake(engine: &Engine, session: &Session) {
    if let Some(other) = engine.namesake() {
        let name = &engine.pipeline().name;
        session.printer.note(&format!("note: {} is called `{name}` too; in one store, give them different names", other.display()));
    }
}

/// The run in one line.
fn summary(outcome: &Outcome, restored: usize) -> String {
    let count = |wanted: fn(&StageState) -> bool| outcome.count(wanted);
    let ran = count(|state| *state == StageState::Ran);
    let cached = count(|state| *state == StageState::Cached);
    let stopped = count(|state| matches!(state, StageState::Failed(error) if error.class == ErrorClass::Interrupted));
    let failed = count(|state| matches!(state, StageState::Failed(_))) - stopped;
    let blocked = count(|state| *state == StageState::Blocked);
    let back = if restored > 0 { format!(", {} put back", things(restored, "file")) } else { String::new() };
    let fetched = count(|state| *state == StageState::Fetched);
    let in_remote = count(|state| *state == StageState::InRemote);
    if ran + fetched + failed + stopped + blocked == 0 {
        let away = if in_remote > 0 { format!(", {in_remote} in the remote") } else { String::new() };
        return format!("nothing to do: {} cached{away}{back}", things(cached, "stage"));
    }
    let mut parts = vec![format!("{ran} ran"), format!("{cached} cached")];
    let words = [(in_remote, "in the remote"), (fetched, "fetched"), (failed, "failed"), (stopped, "stopped"), (blocked, "not run")];
    for (count, word) in words {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    let ended = if outcome.interrupted { "interrupted: " } else { "" };
    format!("{ended}{}{back} in {}  (run {})", parts.join(", "), seconds(outcome.seconds), outcome.run)
}

/// How the run ends: a bug before an interruption, that before failures; the machine is at fault only if it is for all of them.
fn exit(outcome: &Outcome) -> Exit {
    let mut classes = outcome.failures().map(|(_, error)| error.class).filter(|class| *class != ErrorClass::Interrupted).peekable();
    if outcome.failures().any(|(_, error)| error.class == ErrorClass::Bug) {
        Exit::Bug
    } else if outcome.interrupted {
        Exit::Interrupted
    } else if classes.peek().is_some() {
        if classes.all(|class| class == ErrorClass::Environment) { Exit::Environment } else { Exit::Failed }
    } else {
        Exit::Done
    }
}
