//! `qapipe why`: the facets that changed, down to the root cause.

use qapipe_engine::{Change, Decision, Why, WhyStep};
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
        step.changes.iter().for_each(|change| text.push_str(&format!("    {change}\n")));
    }
    text
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
    let change = |change: &Change| json!({ "facet": change.facet, "before": change.before, "now": change.now, "from": change.from });
    let changes: Vec<Value> = step.changes.iter().map(change).collect();
    let mut fields = decision_json(&step.decision);
    fields["stage"] = json!(step.stage);
    fields["file"] = json!(project::text(&step.file));
    fields["line"] = json!(step.line);
    fields["changes"] = json!(changes);
    fields
}
