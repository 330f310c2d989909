//! `qapipe graph`: what flows where.

use qapipe_engine::{Graph, Pipeline};
use serde_json::{Map, Value, json};

use super::session::Session;
use crate::args;
use crate::failure::Failure;
use crate::kinds::kinds;
use crate::project;

pub(super) fn run(args: &args::Graph, session: &Session) -> Result<(), Failure> {
    let file = project::pipeline_file(args.pipeline.as_deref());
    let pipeline = Pipeline::load(&file, &kinds(), &args.changes.overrides())?;
    let graph = Graph::of(&pipeline);
    if session.printer.json {
        return session.printer.json(&to_json(&pipeline, &graph));
    }
    let graph = if session.printer.verbose { graph } else { graph.folded() };
    let form = &args.form;
    let text = match (form.dot, form.mermaid, form.svg) {
        (true, _, _) => graph.to_dot(),
        (_, true, _) => graph.to_mermaid(),
        (_, _, true) => graph.to_svg(),
        _ => graph.to_text(),
    };
    session.printer.data(&format!("{}\n", text.trim_end()))
}

fn to_json(pipeline: &Pipeline, graph: &Graph) -> Value {
    let stage = |&index: &usize| {
        let spec = &pipeline.stages[index];
        let before: Vec<&str> = graph.dependencies(index).into_iter().map(|before| pipeline.stages[before].name.as_str()).collect();
        let outputs: Vec<Value> = spec.outputs.iter().map(|output| json!({ "name": output.name, "type": output.artifact.0 })).collect();
        let also: Vec<&String> = pipeline.aliases.iter().filter(|(_, stage)| **stage == index).map(|(alias, _)| alias).collect();
        let cell: Map<String, Value> = spec.cell.values().map(|(axis, value)| (axis.to_owned(), value)).collect();
        json!({ "stage": spec.name, "cell": cell, "also": also, "kind": spec.kind.name(), "after": before, "outputs": outputs })
    };
    json!({ "pipeline": pipeline.name, "stages": graph.order().iter().map(stage).collect::<Vec<_>>() })
}
