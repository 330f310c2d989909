//! `qapipe get`: a result out of the store.

use qapipe_cache::{Artifact, Record};
use qapipe_engine::{Decision, Engine, EngineError, Options, nearest, stage_and_output};
use serde_json::json;

use super::session::Session;
use crate::args;
use crate::failure::{Exit, Failure};
use crate::project::{pipeline_and_stage, shown, text};

pub(super) fn run(args: args::Get, session: &Session) -> Result<(), Failure> {
    let (file, wanted) = pipeline_and_stage(&args.words)?;
    let (stage, output) = stage_and_output(&wanted);
    let options = Options { targets: vec![stage.to_owned()], ..args.machine.options() };
    let engine = session.engine(&file, &args.changes.overrides(), options)?;
    let one = engine.graph().find_one(stage).map_err(EngineError::from)?;
    let stage = engine.pipeline().stages[one].name.as_str();
    let record = current(&engine, stage);
    session.tell_warnings(&engine);
    let record = record?;
    let mut copied = Vec::new();
    for (name, artifact) in chosen(&record, stage, output)? {
        let to = args.output.join(name);
        intact(&engine, stage, artifact)?;
        if to.exists() {
            return Err(Failure::usage(format!("{} is there already", to.display())).help("name another folder with -o, or move it away"));
        }
        std::fs::create_dir_all(&args.output).map_err(|error| Failure::io(&args.output, &error))?;
        engine.store().materialise(artifact, &to)?;
        copied.push(to);
    }
    if session.printer.json {
        return session.printer.json(
            &json!({ "stage": stage, "key": record.fingerprint, "copied": copied.iter().map(|path| text(path)).collect::<Vec<_>>() }),
        );
    }
    session.printer.data(&copied.iter().map(|path| format!("{}\n", shown(path))).collect::<String>())
}

/// The result that the stage has now, here or in the remote.
fn current(engine: &Engine, stage: &str) -> Result<Record, Failure> {
    let plan = engine.plan()?;
    let planned = plan.stages.iter().find(|planned| planned.stage == stage);
    let record = match planned.and_then(|planned| Some((planned.key?, &planned.decision))) {
        Some((key, Decision::Fetch { .. })) => engine.fetch(&key)?,
        Some((key, _)) => engine.store().record(&key)?,
        None => None,
    };
    record.ok_or_else(|| {
        Failure::usage(format!("stage `{stage}` has no result as the pipeline stands now"))
            .help(format!("{} computes it", command(engine, stage)))
    })
}

/// A damaged result is not handed out.
fn intact(engine: &Engine, stage: &str, artifact: &Artifact) -> Result<(), Failure> {
    let again = || format!("{} computes it again", command(engine, stage));
    engine.store().check(artifact).map_err(|damage| Failure::new(Exit::Failed, damage.to_string()).help(again()))
}

/// What brings a stage's result up to date.
fn command(engine: &Engine, stage: &str) -> String {
    format!("`qapipe run {} {stage}`", engine.pipeline().file.display())
}

/// The outputs that are meant.
fn chosen<'a>(record: &'a Record, stage: &str, output: Option<&'a str>) -> Result<Vec<(&'a str, &'a Artifact)>, Failure> {
    let Some(wanted) = output else { return Ok(record.outputs.iter().map(|(name, artifact)| (name.as_str(), artifact)).collect()) };
    if let Some(artifact) = record.outputs.get(wanted) {
        return Ok(vec![(wanted, artifact)]);
    }
    let names = record.outputs.keys().map(String::as_str);
    let help = nearest(wanted, names.clone())
        .map_or_else(|| format!("outputs: {}", names.collect::<Vec<_>>().join(", ")), |name| format!("did you mean `{stage}.{name}`?"));
    Err(Failure::usage(format!("stage `{stage}` gives no `{wanted}`")).help(help))
}
