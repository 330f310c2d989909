//! References between stages: what they name, whether it fits, and whether stages wait for one another in a circle.

use std::collections::HashMap;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::artifact::OutputSpec;
use crate::check::{Draft, DraftInput, From};
use crate::nearest::suggest;
use crate::param::Accepts;
use crate::pipeline::{InputSpec, Source};
use crate::source::{Problem, Sink};

/// Resolves all references. `outputs` holds what each stage gives; nothing where it is not known because of an error.
/// A reference that does not resolve is told and left out.
pub(crate) fn resolve(drafts: &[Draft], outputs: &[Option<Vec<OutputSpec>>], sink: &mut Sink) -> Vec<Vec<InputSpec>> {
    let index: HashMap<&str, usize> = drafts.iter().enumerate().map(|(index, draft)| (draft.name.as_str(), index)).collect();
    let mut resolver = Resolver { drafts, outputs, index, sink };
    let inputs: Vec<Vec<InputSpec>> = (0..drafts.len()).map(|stage| resolver.stage(stage)).collect();
    circles(drafts, &inputs, sink);
    inputs
}

struct Resolver<'a> {
    drafts: &'a [Draft],
    outputs: &'a [Option<Vec<OutputSpec>>],
    index: HashMap<&'a str, usize>,
    sink: &'a mut Sink,
}

impl<'a> Resolver<'a> {
    fn stage(&mut self, stage: usize) -> Vec<InputSpec> {
        let drafts = self.drafts;
        drafts[stage].inputs.iter().filter_map(|input| self.input(&drafts[stage], input)).collect()
    }

    fn input(&mut self, draft: &Draft, input: &DraftInput) -> Option<InputSpec> {
        let source = match &input.from {
            From::Path(path) => Source::Path(path.into()),
            From::Stage { stage, output } => self.reference(draft, input, stage, output.as_deref())?,
        };
        Some(InputSpec { param: input.param.clone(), source, part: input.accepts.part, span: input.span.clone() })
    }

    fn reference(&mut self, draft: &Draft, input: &DraftInput, stage: &str, output: Option<&str>) -> Option<Source> {
        let Some(&index) = self.index.get(stage) else {
            let names = self.drafts.iter().map(|other| other.name.as_str()).filter(|name| *name != draft.name);
            self.sink.push(&input.span, || Problem::new(format!("unknown stage `@{stage}`")).help(suggest(stage, "stages", names)));
            return None;
        };
        if stage == draft.name {
            self.sink.push(&input.span, || Problem::new(format!("stage `{stage}` refers to itself")));
            return None;
        }
        let given: &'a [OutputSpec] = match &self.outputs[index] {
            Some(given) => given,
            // The stage is unsound, which has been told: its edges still count for circles.
            None => return Some(Source::Stage { index, output: output.unwrap_or_default().to_owned() }),
        };
        let found = match output {
            None => given.first(),
            Some(name) => given.iter().find(|spec| spec.name == name),
        };
        let Some(found) = found else {
            let name = output.unwrap_or_default();
            let names = given.iter().map(|spec| spec.name.as_str());
            self.sink
                .push(&input.span, || Problem::new(format!("stage `{stage}` gives no `{name}`")).help(suggest(name, "outputs", names)));
            return None;
        };
        self.fits(draft, input, found, given);
        Some(Source::Stage { index, output: found.name.clone() })
    }

    /// Tells if an output is of a type that the parameter does not take.
    fn fits(&mut self, draft: &Draft, input: &DraftInput, found: &OutputSpec, given: &[OutputSpec]) {
        let accepted = input.accepts.types;
        if accepted.is_empty() || accepted.contains(&found.artifact) {
            return;
        }
        let From::Stage { stage, output } = &input.from else { return };
        let (drafts, outputs) = (self.drafts, self.outputs);
        let written = output.as_ref().map_or_else(|| format!("@{stage}"), |output| format!("@{stage}.{output}"));
        self.sink.push(&input.span, || {
            let better = given.iter().find(|spec| accepted.contains(&spec.artifact)).map(|spec| format!("`@{stage}.{}` is one", spec.name));
            let better = better.or_else(|| that_give(drafts, outputs, draft, input.accepts));
            Problem::new(format!("`{written}` is {}; `{}` wants {}", found.artifact.noun(), input.param, wants(input.accepts))).help(better)
        });
    }
}

/// Help that names the other stages that give what is wanted, if there are any.
fn that_give(drafts: &[Draft], outputs: &[Option<Vec<OutputSpec>>], asking: &Draft, accepts: Accepts) -> Option<String> {
    const SHOWN: usize = 5;
    let gives = |outputs: &Option<Vec<OutputSpec>>| {
        outputs.as_ref().and_then(|outputs| outputs.first()).is_some_and(|first| accepts.types.contains(&first.artifact))
    };
    let others = drafts.iter().zip(outputs).filter(|(draft, outputs)| gives(outputs) && draft.name != asking.name);
    let names = others.map(|(draft, _)| format!("`@{}`", draft.name));
    let names: Vec<String> = names.take(SHOWN).collect();
    match names.len() {
        0 => None,
        1 => Some(format!("{} is one", names[0])),
        SHOWN => Some(format!("such as {}", names.join(", "))),
        _ => Some(format!("these are: {}", names.join(", "))),
    }
}

fn wants(accepts: Accepts) -> String {
    accepts.types.iter().map(|artifact| artifact.noun()).collect::<Vec<_>>().join(" or ")
}

/// Tells one circle for every knot of stages that wait for one another.
fn circles(drafts: &[Draft], inputs: &[Vec<InputSpec>], sink: &mut Sink) {
    let mut graph = DiGraph::<(), ()>::with_capacity(drafts.len(), drafts.len());
    for _ in drafts {
        graph.add_node(());
    }
    for (stage, inputs) in inputs.iter().enumerate() {
        for (from, _) in edges(inputs) {
            graph.add_edge(NodeIndex::new(stage), NodeIndex::new(from), ());
        }
    }
    if petgraph::algo::toposort(&graph, None).is_ok() {
        return;
    }
    for knot in kosaraju_scc(&graph) {
        if knot.len() > 1 {
            circle(drafts, inputs, &knot, sink);
        }
    }
}

/// Walks from the knot's first stage along first references within the knot until a stage comes again.
fn circle(drafts: &[Draft], inputs: &[Vec<InputSpec>], knot: &[NodeIndex], sink: &mut Sink) {
    const SHOWN: usize = 20;
    let members: std::collections::HashSet<usize> = knot.iter().map(|node| node.index()).collect();
    let Some(&first) = members.iter().min() else { return };
    let mut position: HashMap<usize, usize> = HashMap::new();
    let mut walk = Vec::new();
    let mut stage = first;
    while !position.contains_key(&stage) {
        position.insert(stage, walk.len());
        let Some((next, span)) = edges(&inputs[stage]).find(|(next, _)| members.contains(next)) else { return };
        walk.push((stage, span));
        stage = next;
    }
    let mut circle = walk.split_off(position.get(&stage).copied().unwrap_or(0));
    let earliest = (0..circle.len()).min_by_key(|&at| circle[at].0).unwrap_or(0);
    circle.rotate_left(earliest);
    let Some((start, span)) = circle.first().copied() else { return };
    sink.push(span, || {
        let names = circle.iter().map(|(stage, _)| drafts[*stage].name.as_str());
        let mut chain: Vec<String> = names.take(SHOWN).map(str::to_owned).collect();
        if circle.len() > SHOWN {
            chain.push(format!("({} more)", circle.len() - SHOWN));
        }
        chain.push(drafts[start].name.clone());
        Problem::new(format!("stages wait for one another in a circle: {}", chain.join(" -> ")))
    });
}

fn edges(inputs: &[InputSpec]) -> impl Iterator<Item = (usize, &crate::source::Span)> {
    inputs.iter().filter_map(|input| match input.source {
        Source::Stage { index, .. } => Some((index, &input.span)),
        Source::Path(_) => None,
    })
}
