//! `qapipe logs`: what a stage wrote.

use serde_json::json;

use super::session::Session;
use super::show;
use crate::args;
use crate::failure::Failure;

pub(super) fn run(args: &args::Logs, session: &Session) -> Result<(), Failure> {
    let store = session.store()?;
    let run = args.run.as_deref().map(|run| show::find(store.root(), Some(run))).transpose()?;
    let Some(path) = qapipe_engine::log(store.root(), &args.stage, run.as_deref()) else {
        let when = run.map_or_else(|| "in any run".to_owned(), |run| format!("in run {run}"));
        let failure = Failure::usage(format!("stage `{}` has written nothing {when}", args.stage));
        return Err(failure.help(
            "a stage that prints nothing has no log; `qapipe show -v` lists the stages of a run, each cell of a matrix by its name",
        ));
    };
    let bytes = std::fs::read(&path).map_err(|error| Failure::io(&path, &error))?;
    if session.printer.json {
        let text = String::from_utf8_lossy(&bytes);
        return session.printer.json(&json!({ "stage": args.stage, "path": path, "lines": text.lines().collect::<Vec<_>>() }));
    }
    session.printer.bytes(&bytes)
}
