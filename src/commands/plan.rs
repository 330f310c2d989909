//! `qapipe plan`: what a run would do and why.

use anstyle::Style;
use qapipe_engine::{Decision, Options, Pipeline, Plan, Planned};
use serde_json::{Value, json};

use super::session::Session;
use crate::args;
use crate::failure::{Exit, Failure};
use crate::grid::Grid;
use crate::human::{self, about, things};
use crate::printer::{DIM, DUE, GOOD, PLAIN};
use crate::project;

pub(super) fn run(args: args::Plan, session: &Session) -> Result<(), Failure> {
    let (file, targets) = project::pipeline_and_stages(args.work.pipeline, args.work.stages);
    let options =
        Options { targets, force: args.work.force, device: args.work.machine.device, offline: args.offline, ..Options::default() };
    let engine = session.engine(&file, &args.work.changes.set, options)?;
    let plan = engine.plan()?;
    session.tell_warnings(&engine);
    let view = View { pipeline: engine.pipeline(), plan: &plan };
    if session.printer.json {
        session.printer.json(&view.to_json())?;
    } else {
        session.printer.data(&view.to_text(session.printer.quiet))?;
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
    fn to_text(&self, quiet: bool) -> String {
        let mut grid = Grid::new(&["STATE", "STAGE", "KEY", "BECAUSE", "TIME"]);
        let shown = self.plan.stages.iter().filter(|planned| !quiet || planned.decision != Decision::Cached);
        shown.for_each(|planned| grid.row(self.row(planned)));
        if quiet {
            return if self.plan.is_done() { String::new() } else { grid.to_text(" ") };
        }
        let stages = things(self.plan.stages.len(), "stage");
        let head = format!("Pipeline {}: {stages}  ({})\n", self.pipeline.name, self.pipeline.file.display());
        format!("{head}{}{}\n", grid.to_text(" "), summary(self.plan))
    }

    fn row(&self, planned: &Planned) -> [(String, Style); 5] {
        let (state, style) = match planned.decision {
            Decision::Cached => ("cached", GOOD),
            Decision::Fetch { .. } => ("fetch", GOOD),
            Decision::Run(_) => ("run", DUE),
            Decision::Maybe { .. } => ("maybe", DIM),
        };
        let key = planned.key.map_or_else(|| "-".to_owned(), |key| key.short());
        [
            (state.to_owned(), style),
            (planned.stage.clone(), PLAIN),
            (key, DIM),
            (because(&planned.decision), PLAIN),
            (self.time(planned), PLAIN),
        ]
    }

    /// Expected time, and the GPU that it takes.
    fn time(&self, planned: &Planned) -> String {
        if planned.decision.is_there() {
            return String::new();
        }
        let time = planned.expected_seconds.map(about).unwrap_or_default();
        if planned.gpu { format!("{time:<4} 1 GPU") } else { time }
    }

    fn to_json(&self) -> Value {
        let stage = |planned: &Planned| {
            let mut fields = decision_json(&planned.decision);
            fields["stage"] = json!(planned.stage);
            fields["key"] = json!(planned.key);
            fields["expected_seconds"] = json!(planned.expected_seconds);
            fields["gpu"] = json!(planned.gpu);
            fields
        };
        let stages: Vec<Value> = self.plan.stages.iter().map(stage).collect();
        json!({ "pipeline": self.pipeline.name, "file": project::text(&self.pipeline.file), "done": self.plan.is_done(), "stages": stages })
    }
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
        Decision::Maybe { after } => match after.split_at(after.len().min(3)) {
            (first, []) => format!("after {}", first.join(", ")),
            (first, rest) => format!("after {} and {} more", first.join(", "), rest.len()),
        },
    }
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
        all if all == run + maybe => format!("; {} in all", about(known.iter().sum())),
        some => format!("; {} for the {some} whose time is known", about(known.iter().sum())),
    };
    let maybe = if maybe > 0 { format!(", {maybe} maybe") } else { String::new() };
    format!("{run} to run{maybe}, {cached} cached{fetch}{time}")
}
