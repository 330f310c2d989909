//! References between stages: what they name, whether it fits, and whether stages wait for one another in a circle.

use std::collections::HashMap;
use std::ops::Range;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::artifact::OutputSpec;
use crate::check::{Draft, DraftInput, From};
use crate::names::Names;
use crate::nearest::suggest;
use crate::param::Accepts;
use crate::part::Part;
use crate::pipeline::{InputSpec, Source};
use crate::selector::family;
use crate::source::{Problem, Sink, Span};

/// Stages that have been checked one by one, and what each gives; nothing where that is not known because of an error.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) drafts: &'a [Draft],
    pub(crate) outputs: &'a [Option<Vec<OutputSpec>>],
}

/// Resolves all references of the stages of one file, which `names` names. A reference that does not resolve is told and left out.
pub(crate) fn resolve(known: Known<'_>, stages: Range<usize>, names: &Names, parts: &[Part], sink: &mut Sink) -> Vec<Vec<InputSpec>> {
    let mut resolver = Resolver { known, names, parts, sink };
    let inputs: Vec<Vec<InputSpec>> = stages.clone().map(|stage| resolver.stage(&known.drafts[stage])).collect();
    let drafts: Vec<&str> = known.drafts[stages.clone()].iter().map(|draft| draft.name.as_str()).collect();
    circles(&drafts, stages.start, &inputs, sink);
    inputs
}

struct Resolver<'a> {
    known: Known<'a>,
    names: &'a Names,
    parts: &'a [Part],
    sink: &'a mut Sink,
}

impl<'a> Resolver<'a> {
    fn stage(&mut self, draft: &Draft) -> Vec<InputSpec> {
        draft.inputs.iter().filter_map(|input| self.input(draft, input)).collect()
    }

    fn input(&mut self, draft: &Draft, input: &DraftInput) -> Option<InputSpec> {
        let source = match &input.from {
            From::Path(path) => Source::Path(input.home.as_ref().unwrap_or(&self.parts[draft.part].home).join(path)),
            From::Stage { stage, output, .. } => self.reference(draft, input, stage, output.as_deref())?,
        };
        Some(InputSpec { param: input.param.clone(), source, part: input.accepts.part, span: input.span.clone() })
    }

    fn reference(&mut self, draft: &Draft, input: &DraftInput, stage: &str, output: Option<&str>) -> Option<Source> {
        let Some(index) = self.names.get(stage) else {
            let names = self.names.words().filter(|name| *name != draft.name);
            let stage = family(stage);
            self.sink.push(&input.span, || Problem::new(format!("unknown stage `@{stage}`")).help(suggest(stage, "stages", names)));
            return None;
        };
        if stage == draft.name {
            self.sink.push(&input.span, || Problem::new(format!("stage `{stage}` refers to itself")));
            return None;
        }
        let given: &'a [OutputSpec] = match &self.known.outputs[index] {
            Some(given) => given,
            // The stage is unsound, which has been told: its edges still count for circles.
            None => return Some(Source::Stage { index, output: output.unwrap_or_default().to_owned() }),
        };
        let found = match output {
            None => given.first(),
            Some(name) => given.iter().find(|spec| spec.name == name),
        };
        let Some(found) = found else {
            let (stage, name) = (family(stage), output.unwrap_or_default());
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
        let From::Stage { stage, output, .. } = &input.from else { return };
        let stage = family(stage);
        let (known, names) = (self.known, self.names);
        let written = output.as_ref().map_or_else(|| format!("@{stage}"), |output| format!("@{stage}.{output}"));
        self.sink.push(&input.span, || {
            let better = given.iter().find(|spec| accepted.contains(&spec.artifact)).map(|spec| format!("`@{stage}.{}` is one", spec.name));
            let better = better.or_else(|| that_give(known, names, draft, input.accepts));
            Problem::new(format!("`{written}` is {}; `{}` wants {}", found.artifact.noun(), input.param, wants(input.accepts))).help(better)
        });
    }
}

/// Help that names the other stages that give what is wanted, if there are any.
fn that_give(known: Known<'_>, names: &Names, asking: &Draft, accepts: Accepts) -> Option<String> {
    const SHOWN: usize = 5;
    let gives = |name: &str| {
        let outputs = names.get(name).and_then(|index| known.outputs[index].as_ref());
        outputs.and_then(|outputs| outputs.first()).is_some_and(|first| accepts.types.contains(&first.artifact))
    };
    let others = names.iter().filter(|name| *name != asking.name && gives(name));
    let names: Vec<String> = others.take(SHOWN).map(|name| format!("`@{name}`")).collect();
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
/// The stages are those of one file, numbered from `start`: what it includes does not wait for it.
pub(crate) fn circles(names: &[&str], start: usize, inputs: &[Vec<InputSpec>], sink: &mut Sink) {
    let waits = Waits { start, inputs };
    let graph = waits.graph();
    if petgraph::algo::toposort(&graph, None).is_ok() {
        return;
    }
    for knot in kosaraju_scc(&graph) {
        if knot.len() > 1 {
            circle(names, &waits, &knot, sink);
        }
    }
}

/// Walks from the knot's first stage along first references within the knot until a stage comes again.
fn circle(names: &[&str], waits: &Waits<'_>, knot: &[NodeIndex], sink: &mut Sink) {
    const SHOWN: usize = 20;
    let members: std::collections::HashSet<usize> = knot.iter().map(|node| node.index()).collect();
    let Some(&first) = members.iter().min() else { return };
    let mut position: HashMap<usize, usize> = HashMap::new();
    let mut walk = Vec::new();
    let mut stage = first;
    while !position.contains_key(&stage) {
        position.insert(stage, walk.len());
        let Some((next, span)) = waits.edges(stage).find(|(next, _)| members.contains(next)) else { return };
        walk.push((stage, span));
        stage = next;
    }
    let mut circle = walk.split_off(position.get(&stage).copied().unwrap_or(0));
    let earliest = (0..circle.len()).min_by_key(|&at| circle[at].0).unwrap_or(0);
    circle.rotate_left(earliest);
    let Some((start, span)) = circle.first().copied() else { return };
    sink.push(span, || {
        let mut chain: Vec<String> = circle.iter().take(SHOWN).map(|(stage, _)| names[*stage].to_owned()).collect();
        if circle.len() > SHOWN {
            chain.push(format!("({} more)", circle.len() - SHOWN));
        }
        chain.push(names[start].to_owned());
        Problem::new(format!("stages wait for one another in a circle: {}", chain.join(" -> ")))
    });
}

/// Who waits for whom among the stages of one file.
struct Waits<'a> {
    /// The number of its first stage.
    start: usize,
    inputs: &'a [Vec<InputSpec>],
}

impl<'a> Waits<'a> {
    fn edges(&self, stage: usize) -> impl Iterator<Item = (usize, &'a Span)> + use<'a> {
        let start = self.start;
        self.inputs[stage].iter().filter_map(move |input| match input.source {
            Source::Stage { index, .. } => Some((index.checked_sub(start)?, &input.span)),
            Source::Path(_) => None,
        })
    }

    fn graph(&self) -> DiGraph<(), ()> {
        let mut graph = DiGraph::with_capacity(self.inputs.len(), self.inputs.len());
        for _ in self.inputs {
            graph.add_node(());
        }
        for stage in 0..self.inputs.len() {
            for (from, _) in self.edges(stage) {
                graph.add_edge(NodeIndex::new(stage), NodeIndex::new(from), ());
            }
        }
        graph
    }
}

/// The stages of one file, numbered from `start`, each after those that it waits for; nothing if there is a circle.
pub(crate) fn order(start: usize, inputs: &[Vec<InputSpec>]) -> Option<Vec<usize>> {
    let sorted = petgraph::algo::toposort(&Waits { start, inputs }.graph(), None).ok()?;
    Some(sorted.into_iter().rev().map(|node| start + node.index()).collect())
}
