//! `qapipe show`: one past run, stage by stage.

use std::collections::HashMap;
use std::path::Path;

use qapipe_engine::{ErrorClass, Event, events, runs};
use serde_json::json;

use super::session::Session;
use crate::args;
use crate::failure::Failure;
use crate::families::{common, grouped};
use crate::grid::Grid;
use crate::human::{seconds, things};
use crate::printer::{BAD, DIM, DUE, GOOD, PLAIN};

pub(super) fn run(args: &args::Show, session: &Session) -> Result<(), Failure> {
    let store = session.store()?;
    let run = find(store.root(), args.run.as_deref())?;
    let events = events(store.root(), &run).unwrap_or_default();
    if session.printer.json {
        return session.printer.json(&json!({ "run": run, "events": events }));
    }
    session.printer.data(&to_text(&run, &events, session.printer.verbose))
}

/// The id of the run that is meant: the newest, or the one that the given text is a part of.
pub(super) fn find(root: &Path, wanted: Option<&str>) -> Result<String, Failure> {
    let all: Vec<String> = runs(root).into_iter().map(|past| past.run).collect();
    let Some(wanted) = wanted else {
        return all.into_iter().next().ok_or_else(|| Failure::usage("nothing has run yet").help("`qapipe run` does it"));
    };
    let fitting: Vec<&String> = all.iter().filter(|run| run.contains(wanted)).collect();
    match fitting.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Failure::usage(format!("no run `{wanted}`")).help("`qapipe log` lists them")),
        several => {
            Err(Failure::usage(format!("{} runs fit `{wanted}`", several.len())).help("`qapipe log` lists them; give more of the id"))
        }
    }
}

/// What became of one stage.
#[derive(Clone, Debug, Default)]
struct Line {
    state: &'static str,
    key: String,
    because: String,
    time: String,
}

fn to_text(run: &str, events: &[Event], all: bool) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut lines: HashMap<&str, Line> = HashMap::new();
    let (mut head, mut tail) = (format!("Run {run}\n"), "the run did not end: it goes on, or was killed\n".to_owned());
    for event in events {
        match event {
            Event::RunStarted { pipeline, stages, .. } => head = format!("Run {run}: pipeline {pipeline}, {}\n", things(*stages, "stage")),
            Event::RunFinished { ran, cached, fetched, in_remote, failed, blocked, seconds: time } => {
                let away = if fetched + in_remote > 0 { format!("{in_remote} in the remote, {fetched} fetched, ") } else { String::new() };
                tail = format!("{ran} ran, {cached} cached, {away}{failed} failed, {blocked} not run in {}\n", seconds(*time));
            }
            event => note(event, &mut order, &mut lines),
        }
    }
    let mut grid = Grid::new(&["STATE", "STAGE", "KEY", "BECAUSE", "TIME"]);
    let stages: Vec<(&str, Line)> = order.into_iter().map(|stage| (stage, lines.remove(stage).unwrap_or_default())).collect();
    for group in grouped(&stages, |(stage, _)| stage, |(_, line)| line.state, all) {
        let first = &group.members[0].1;
        let alone = |text: &str| if group.members.len() == 1 { text.to_owned() } else { String::new() };
        grid.row([
            (first.state.to_owned(), style(first.state)),
            (group.label.clone(), PLAIN),
            (alone(&first.key), DIM),
            (common(group.members.iter().map(|(_, line)| line.because.clone())), PLAIN),
            (alone(&first.time), PLAIN),
        ]);
    }
    format!("{head}{}{tail}", grid.to_text(" "))
}

/// Takes an event into the lines; later events of a stage overrule earlier ones.
fn note<'a>(event: &'a Event, order: &mut Vec<&'a str>, lines: &mut HashMap<&'a str, Line>) {
    let (Event::Cached { stage, .. }
    | Event::InRemote { stage, .. }
    | Event::Fetching { stage, .. }
    | Event::Fetched { stage, .. }
    | Event::Queued { stage, .. }
    | Event::Started { stage, .. }
    | Event::Finished { stage, .. }
    | Event::Failed { stage, .. }
    | Event::Blocked { stage, .. }) = event
    else {
        return;
    };
    if !lines.contains_key(stage.as_str()) {
        order.push(stage);
    }
    let line = lines.entry(stage).or_default();
    match event {
        Event::Cached { key, .. } => (line.state, line.key) = ("cached", short(key)),
        Event::InRemote { key, .. } => (line.state, line.key) = ("remote", short(key)),
        Event::Fetching { key, .. } => (line.state, line.key) = ("fetching", short(key)),
        Event::Fetched { key, seconds: time, .. } => (line.state, line.key, line.time) = ("fetched", short(key), seconds(*time)),
        Event::Queued { key, job, .. } => (line.state, line.key, line.because) = ("queued", short(key), format!("job {job}")),
        Event::Started { key, because, .. } => (line.state, line.key, line.because) = ("running", short(key), because.clone()),
        Event::Finished { key, seconds: time, .. } => (line.state, line.key, line.time) = ("done", short(key), seconds(*time)),
        Event::Failed { error, .. } if error.class == ErrorClass::Interrupted => line.state = "stopped",
        Event::Failed { error, .. } => (line.state, line.because) = ("failed", error.message.lines().next().unwrap_or_default().to_owned()),
        Event::Blocked { by, .. } if by.is_empty() => (line.state, line.because) = ("not run", "the run was stopping".to_owned()),
        Event::Blocked { by, .. } => (line.state, line.because) = ("not run", format!("after {by}")),
        _ => {}
    }
}

fn short(key: &str) -> String {
    key.chars().take(8).collect()
}

fn style(state: &str) -> anstyle::Style {
    match state {
        "failed" => BAD,
        "done" | "cached" | "fetched" => GOOD,
        "running" | "queued" | "fetching" | "stopped" => DUE,
        _ => DIM,
    }
}
