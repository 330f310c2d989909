//! `qapipe why`: the facets that changed, down to the root cause.

use qapipe_engine::{Cause, Change, Closest, Decision, Spot, Why, WhyStep};
use serde_json::{Value, json};

use super::plan::decision_json;
use super::session::Session;
use crate::args;
use crate::failure::Failure;
use crate::printer::{BOLD, DIM, DUE, GOOD, styled};
use crate::project;

pub(super) fn run(args: args::Why, session: &Session) -> Result<(), Failure> {
    let (file, stage) = project::pipeline_and_stage(&args.words)?;
    let engine = session.engine(&file, &args.changes.overrides(), args.machine.options())?;
    let why = engine.why(&stage)?;
    if session.printer.json {
        session.printer.json(&json!({ "pipeline": engine.pipeline().name, "steps": why.steps.iter().map(to_json).collect::<Vec<_>>() }))
    } else {
        session.printer.data(&to_text(&why))
    }
}

/// The stage asked for, then what lies behind it; causes that the user changed come last.
fn to_text(why: &Why) -> String {
    let mut text = String::new();
    for step in &why.steps {
        let place = styled(DIM, &format!("({}:{})", step.file.display(), step.line));
        text.push_str(&format!("{}  {}  {place}\n", styled(BOLD, &step.stage), verdict(step)));
        step.changes.iter().for_each(|cause| text.push_str(&format!("    {}\n", cause_text(cause))));
        if let Some(closest) = &step.closest {
            text.push_str(&closest_text(closest, step));
        }
    }
    text
}

fn cause_text(cause: &Cause) -> String {
    let spot = cause.spot.as_ref().map(|spot| format!("  {}", styled(DIM, &format!("({spot})"))));
    format!("{}{}", cause.change, spot.unwrap_or_default())
}

/// The result that comes closest, and what it differs by.
fn closest_text(closest: &Closest, step: &WhyStep) -> String {
    let of = if closest.stage == step.stage { String::new() } else { format!(" of {}", closest.stage) };
    let head = format!("  the closest result there is, {}{of} (run {}), differs by:\n", closest.key.short(), closest.run);
    closest.changes.iter().fold(head, |text, cause| format!("{text}    {}\n", cause_text(cause)))
}

fn verdict(step: &WhyStep) -> String {
    match &step.decision {
        Decision::Cached if !step.changes.is_empty() => {
            format!("{} now; it ran anew since the stage after it read it, because this changed:", styled(GOOD, "cached"))
        }
        Decision::Cached => format!("{}: nothing that it is made from has changed", styled(GOOD, "cached")),
        Decision::Fetch { .. } => format!("{}: the remote has its result", styled(GOOD, "fetch")),
        Decision::Run(qapipe_engine::Reason::Changed(_)) => format!("{} because this changed:", styled(DUE, "runs")),
        Decision::Run(reason) => format!("{}: {reason}", styled(DUE, "runs")),
        Decision::Maybe { after } => {
            format!("{} run: that depends on what {} will give", styled(DUE, "may"), after.join(", "))
        }
    }
}

fn to_json(step: &WhyStep) -> Value {
    let mut fields = decision_json(&step.decision);
    fields["stage"] = json!(step.stage);
    fields["file"] = json!(project::text(&step.file));
    fields["line"] = json!(step.line);
    fields["changes"] = step.changes.iter().map(cause_json).collect();
    fields["closest"] = step.closest.as_ref().map_or(Value::Null, |closest| {
        let changes: Vec<Value> = closest.changes.iter().map(cause_json).collect();
        json!({ "key": closest.key, "stage": closest.stage, "pipeline": closest.pipeline, "run": closest.run, "changes": changes })
    });
    fields
}

fn cause_json(Cause { change, spot }: &Cause) -> Value {
    let (file, line, option) = match spot {
        Some(Spot::File { file, line }) => (Some(project::text(file)), Some(line), None),
        Some(Spot::Option(option)) => (None, None, Some(option)),
        None => (None, None, None),
    };
    let Change { facet, before, now, from } = change;
    json!({ "facet": facet, "before": before, "now": now, "from": from, "file": file, "line": line, "option": option })
}
