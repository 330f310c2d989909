//! `qapipe run` and a Slurm cluster: the jobs that it would submit, and the side that is such a job.

use std::sync::Arc;

use qapipe_engine::slurm::{Cluster, Wants};
use qapipe_engine::{Engine, Job, family};
use serde_json::json;

use super::session::Session;
use crate::args::{Executor, Run};
use crate::display;
use crate::failure::{Exit, Failure};
use crate::interrupt;

/// The cluster that is to run the stages, if one is. What the project says of it is filled in with the pipeline at hand.
pub(super) fn cluster(args: &Run) -> Result<Option<Cluster>, Failure> {
    if args.executor == Executor::Local {
        let help = "`qapipe plan` says what a run on this machine would do";
        return if args.dry { Err(Failure::usage("--dry shows jobs: it needs --executor slurm").help(help)) } else { Ok(None) };
    }
    if args.no_wait {
        return Err(Failure::usage("--no-wait is for --executor local: jobs that another run has submitted are waited for"));
    }
    if args.work.machine.names_several() || args.share_gpus {
        let help = "a job has the GPUs that `[slurm]` in qapipe.toml or the stage's `slurm` asks for, and its stage takes the first";
        return Err(Failure::usage("several GPUs, and shared ones, are for --executor local").help(help));
    }
    let lost = |what: &str, error: std::io::Error| Failure::new(Exit::Environment, format!("cannot find {what}: {error}"));
    Ok(Some(Cluster {
        wants: Wants::default(),
        program: std::env::current_exe().map_err(|error| lost("this program", error))?,
        folder: std::env::current_dir().map_err(|error| lost("the current folder", error))?,
        arguments: args.work.changes.arguments(),
        fixed_jobs: args.work.machine.fixes_jobs(),
        orders: Arc::default(),
    }))
}

/// Prints the scripts that a run would submit now, and names what may follow.
pub(super) fn dry_run(engine: &Engine, session: &Session) -> Result<(), Failure> {
    let Some(cluster) = engine.cluster() else { return Ok(()) };
    let dry = engine.dry_run(cluster)?;
    session.tell_warnings(engine);
    if session.printer.json {
        let later: Vec<_> = dry.later.iter().map(|later| json!({ "stage": later.stage, "after": later.after })).collect();
        return session.printer.json(&json!({ "scripts": dry.scripts, "later": later }));
    }
    session.printer.data(&dry.scripts.join("\n"))?;
    let mut told = Vec::new();
    for later in &dry.later {
        let mut after: Vec<&str> = later.after.iter().map(|stage| family(stage)).collect();
        after.dedup();
        let line = format!("later: {}, once it is known what {} gives", family(&later.stage), after.join(", "));
        if !told.contains(&line) {
            session.printer.note(&line);
            told.push(line);
        }
    }
    if dry.scripts.is_empty() && dry.later.is_empty() {
        session.printer.note("nothing to submit: all results are there");
    }
    Ok(())
}

/// Runs the one stage of a job.
pub(super) fn run(engine: &Engine, job: &Job, session: &Session) -> Result<(), Failure> {
    let [stage] = engine.targets() else { return Err(Failure::usage("a job is one stage")) };
    let display = display::open(session.printer, engine.pipeline());
    let shown = Arc::clone(&display);
    let cancel = interrupt::watch(move |text| shown.tell(text))?;
    let ran = engine.run_job(stage, job, display.as_ref(), &cancel);
    display.close();
    // The display has told why.
    ran.map_err(|error| Failure::told(error.class.into()))
}
