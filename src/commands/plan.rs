//! `qapipe plan`: what a run would do and why.

use anstyle::Style;
use qapipe_engine::{Decision, Options, Pipeline, Plan, Planned, family};
use serde_json::{Value, json};

use super::session::Session;
use crate::args;
use crate::failure::{Exit, Failure};
use crate::families::{Group, common, grouped};
use crate::grid::Grid;
use crate::human::{self, about, things};
use crate::printer::{DIM, DUE, GOOD, PLAIN, Printer};
use crate::project;

pub(super) fn run(args: args::Plan, session: &Session) -> Result<(), Failure> {
    let set = args.work.changes.overrides();
    let (file, targets) = project::pipeline_and_stages(args.work.pipeline, args.work.stages);
    let options = Options { targets, cells: args.work.cells, force: args.work.force, offline: args.offline, ..args.work.machine.options() };
    let engine = session.engine(&file, &set, options)?;
    let plan = engine.plan()?;
    session.tell_warnings(&engine);
    let view = View { pipeline: engine.pipeline(), plan: &plan };
    if session.printer.json {
        session.printer.json(&view.to_json())?;
    } else {
        session.printer.data(&view.to_text(&session.printer))?;
    }
    if args.check && !plan.is_done() { Err(Failure::told(Exit::Due)) } else { Ok(()) }
}

/// A plan and what is needed to show it.
struct View<'a> {
    pipeline: &'a Pipeline,
    plan: &'a Plan,
}

impl View<'_> {
    /// The table of decisions; when quiet, without what is cached and what is only talk.
    fn to_text(&self, printer: &Printer) -> String {
        let mut grid = Grid::new(&["STATE", "STAGE", "KEY", "BECAUSE", "TIME"]);
        let groups = grouped(&self.plan.stages, |planned| &planned.stage, |planned| state(planned).0, printer.verbose);
        let shown = groups.iter().filter(|group| !printer.quiet || group.members[0].decision != Decision::Cached);
        shown.for_each(|group| grid.row(row(group)));
        if printer.quiet {
            return if self.plan.is_done() { String::new() } else { grid.to_text(" ") };
        }
        let stages = things(self.plan.stages.len(), "stage");
        let head = format!("Pipeline {}: {stages}  ({})\n", self.pipeline.name, self.pipeline.file.display());
        format!("{head}{}{}\n", grid.to_text(" "), summary(self.plan))
    }

    fn to_json(&self) -> Value {
        let stage = |planned: &Planned| {
            let mut fields = decision_json(&planned.decision);
            fields["stage"] = json!(planned.stage);
            fields["key"] = json!(planned.key);
            fields["expected_seconds"] = json!(planned.expected_seconds);
            fields["gpu"] = json!(planned.gpu);
            fields["gpu_bytes"] = json!(planned.gpu_bytes);
            fields
        };
        let stages: Vec<Value> = self.plan.stages.iter().map(stage).collect();
        json!({
            "pipeline": self.pipeline.name, "file": project::text(&self.pipeline.file), "done": self.plan.is_done(),
            "side_by_side_seconds": self.plan.side_by_side_seconds, "stages": stages,
        })
    }
}

/// A stage's row, or that of stages of a family.
fn row(group: &Group<'_, Planned>) -> [(String, Style); 5] {
    let (state, style) = state(group.members[0]);
    let key = match group.members[..] {
        [Planned { key: Some(key), .. }] => key.short(),
        _ => "-".to_owned(),
    };
    let because = common(group.members.iter().map(|planned| because(&planned.decision)));
    [(state.to_owned(), style), (group.label.clone(), PLAIN), (key, DIM), (because, PLAIN), (time(&group.members), PLAIN)]
}

fn state(planned: &Planned) -> (&'static str, Style) {
    match planned.decision {
        Decision::Cached => ("cached", GOOD),
        Decision::Fetch { .. } => ("fetch", GOOD),
        Decision::Run(_) => ("run", DUE),
        Decision::Maybe { .. } => ("maybe", DIM),
    }
}

/// Expected time in all, and the GPU that each takes with what was held of it at most.
fn time(stages: &[&Planned]) -> String {
    let due = stages.iter().filter(|planned| !planned.decision.is_there());
    let known: Vec<f64> = due.clone().filter_map(|planned| planned.expected_seconds).collect();
    let time = if known.is_empty() { String::new() } else { about(known.iter().sum()) };
    if !due.clone().any(|planned| planned.gpu) {
        return time;
    }
    let held = due
        .filter_map(|planned| planned.gpu_bytes)
        .max()
        .filter(|bytes| *bytes > 0)
        .map(|bytes| format!(" {}", human::bytes(bytes as f64)));
    format!("{time:<4} 1 GPU{}", held.unwrap_or_default())
}

/// A decision as JSON.
pub(super) fn decision_json(decision: &Decision) -> Value {
    match decision {
        Decision::Cached => json!({ "decision": "cached", "because": null, "after": [] }),
        Decision::Fetch { bytes } => json!({ "decision": "fetch", "because": null, "after": [], "bytes": bytes }),
        Decision::Run(reason) => json!({ "decision": "run", "because": reason.to_string(), "after": [] }),
        Decision::Maybe { after } => json!({ "decision": "maybe", "because": null, "after": after }),
    }
}

fn because(decision: &Decision) -> String {
    match decision {
        Decision::Cached => String::new(),
        Decision::Fetch { bytes } => format!("in the remote, {}", human::bytes(*bytes as f64)),
        Decision::Run(reason) => reason.to_string(),
        Decision::Maybe { after } => {
            let mut families: Vec<&str> = after.iter().map(|stage| family(stage)).collect();
            families.dedup();
            match families.split_at(families.len().min(3)) {
                (first, []) => format!("after {}", first.join(", ")),
                (first, rest) => format!("after {} and {} more", first.join(", "), rest.len()),
            }
        }
    }
}

/// Time in all, and what is left of it where stages run side by side.
fn in_all(seconds: f64, side_by_side: Option<f64>) -> String {
    let (all, shorter) = (about(seconds), side_by_side.map(about));
    let shorter = shorter.filter(|shorter| *shorter != all).map(|shorter| format!(", {shorter} side by side"));
    format!("; {all} in all{}", shorter.unwrap_or_default())
}

fn summary(plan: &Plan) -> String {
    let count = |wanted: fn(&Decision) -> bool| plan.stages.iter().filter(|planned| wanted(&planned.decision)).count();
    let run = count(|decision| matches!(decision, Decision::Run(_)));
    let maybe = count(|decision| matches!(decision, Decision::Maybe { .. }));
    let fetch = count(|decision| matches!(decision, Decision::Fetch { .. }));
    let cached = plan.stages.len() - run - maybe - fetch;
    let fetch = if fetch > 0 { format!(", {fetch} in the remote") } else { String::new() };
    if plan.is_done() {
        return format!("nothing to do: {} cached{fetch}", things(cached, "stage"));
    }
    let known: Vec<f64> = plan.stages.iter().filter_map(|planned| planned.expected_seconds).collect();
    let time = match known.len() {
        0 => String::new(),
        all if all == run + maybe => in_all(known.iter().sum(), plan.side_by_side_seconds),
        some => format!("; {} for the {some} whose time is known", about(known.iter().sum())),
    };
    let maybe = if maybe > 0 { format!(", {maybe} maybe") } else { String::new() };
    format!("{run} to run{maybe}, {cached} cached{fetch}{time}")
}
