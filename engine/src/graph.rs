//! The graph of a pipeline's stages.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::cell::Cell;
use crate::pipeline::{Pipeline, Source};
use crate::select::{self, Directory, Unknown, Where};

/// The stages of a pipeline and what flows between them. Stages are named by their index in the pipeline.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(crate) title: String,
    pub(crate) graph: DiGraph<Node, Edge>,
    order: Vec<usize>,
    /// Other names of stages.
    aliases: BTreeMap<String, usize>,
}

/// A stage in the graph.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    /// Its place in the matrix.
    pub(crate) cell: Cell,
    /// What is said behind the name of a family.
    pub(crate) more: String,
}

/// An output that flows into a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    /// The parameter that takes it, as a dotted path.
    pub(crate) param: String,
    /// The output's name; empty for the first, which needs none.
    pub(crate) output: String,
}

impl Graph {
    /// The graph of a checked pipeline.
    pub fn of(pipeline: &Pipeline) -> Self {
        let mut graph = DiGraph::with_capacity(pipeline.stages.len(), pipeline.stages.len());
        for stage in &pipeline.stages {
            graph.add_node(Node { name: stage.name.clone(), kind: stage.kind.name(), cell: stage.cell.clone(), more: String::new() });
        }
        for (index, stage) in pipeline.stages.iter().enumerate() {
            for input in &stage.inputs {
                if let Source::Stage { index: from, output } = &input.source {
                    let is_first = pipeline.stages[*from].outputs.first().is_some_and(|first| first.name == *output);
                    let output = if is_first { String::new() } else { output.clone() };
                    graph.add_edge(NodeIndex::new(*from), NodeIndex::new(index), Edge { param: input.param.clone(), output });
                }
            }
        }
        Self::new(pipeline.name.clone(), graph, pipeline.aliases.clone())
    }

    pub(crate) fn new(title: String, graph: DiGraph<Node, Edge>, aliases: BTreeMap<String, usize>) -> Self {
        let order = topological(&graph);
        Self { title, graph, order, aliases }
    }

    /// Number of stages.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no stage.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All stages, each after those that it reads from; of two that could both come next, the one earlier in the file.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The stages that this one reads from, each once, ascending.
    pub fn dependencies(&self, stage: usize) -> Vec<usize> {
        self.neighbours(stage, Direction::Incoming)
    }

    /// The stages that read from this one, each once, ascending.
    pub fn dependents(&self, stage: usize) -> Vec<usize> {
        self.neighbours(stage, Direction::Outgoing)
    }

    /// All stages that this one depends on, directly or not, in topological order.
    pub fn ancestors(&self, stage: usize) -> Vec<usize> {
        self.reachable(&[stage], Direction::Incoming).into_iter().filter(|&other| other != stage).collect()
    }

    /// All stages that depend on this one, directly or not, in topological order.
    pub fn descendants(&self, stage: usize) -> Vec<usize> {
        self.reachable(&[stage], Direction::Outgoing).into_iter().filter(|&other| other != stage).collect()
    }

    /// The stages that names mean, in their order. The name of a family means all of its stages, one with some values those that have them.
    ///
    /// # Errors
    /// Where a name is no stage's.
    pub fn find(&self, names: &[String]) -> Result<Vec<usize>, Unknown> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let own = (0..self.len()).map(|stage| (self.name(stage), stage));
        let directory = Directory::new(self.aliases.iter().map(|(alias, stage)| (alias.as_str(), *stage)).chain(own));
        let found = names.iter().map(|name| directory.find(name, &|stage| self.cell(stage)));
        Ok(found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The stages that names mean and all that they depend on, in topological order; all stages if none is named.
    ///
    /// # Errors
    /// Where a name is no stage's.
    pub fn subset(&self, names: &[String]) -> Result<Vec<usize>, Unknown> {
        if names.is_empty() { Ok(self.order.clone()) } else { Ok(self.with_ancestors(&self.find(names)?)) }
    }

    /// The one stage that a name means.
    ///
    /// # Errors
    /// Where it means none, or several.
    pub fn find_one(&self, name: &str) -> Result<usize, Unknown> {
        match self.find(&[name.to_owned()])?[..] {
            [stage] => Ok(stage),
            ref several => {
                let first = several.first().map(|&stage| self.name(stage)).unwrap_or_default();
                let help = format!("it stands for {}; name one, such as `{first}`", several.len());
                Err(Unknown { what: "single stage", name: name.to_owned(), help: Some(help) })
            }
        }
    }

    /// Those of some stages that meet all conditions.
    ///
    /// # Errors
    /// Where an axis or a value is not among them.
    pub fn among(&self, stages: Vec<usize>, conditions: &[Where]) -> Result<Vec<usize>, Unknown> {
        select::among(stages, conditions, &|stage| self.cell(stage))
    }

    /// These stages and all that they depend on, in topological order.
    pub fn with_ancestors(&self, stages: &[usize]) -> Vec<usize> {
        self.reachable(stages, Direction::Incoming)
    }

    pub(crate) fn cell(&self, stage: usize) -> &Cell {
        &self.graph[NodeIndex::new(stage)].cell
    }

    pub(crate) fn name(&self, stage: usize) -> &str {
        &self.graph[NodeIndex::new(stage)].name
    }

    /// The name, and of a family how large it is.
    pub(crate) fn label(&self, stage: usize) -> String {
        format!("{}{}", self.name(stage), self.graph[NodeIndex::new(stage)].more)
    }

    pub(crate) fn kind(&self, stage: usize) -> &'static str {
        self.graph[NodeIndex::new(stage)].kind
    }

    /// What flows into a stage, in the order of its parameters.
    pub(crate) fn incoming(&self, stage: usize) -> Vec<(usize, &Edge)> {
        let mut edges: Vec<_> = self.graph.edges_directed(NodeIndex::new(stage), Direction::Incoming).collect();
        edges.sort_by_key(|edge| edge.id());
        edges.into_iter().map(|edge| (edge.source().index(), edge.weight())).collect()
    }

    /// For each stage, the length of the longest way that leads to it.
    pub(crate) fn depths(&self) -> Vec<usize> {
        let mut depths = vec![0; self.len()];
        for &stage in &self.order {
            depths[stage] = self.dependencies(stage).into_iter().map(|from| depths[from] + 1).max().unwrap_or(0);
        }
        depths
    }

    fn neighbours(&self, stage: usize, direction: Direction) -> Vec<usize> {
        let mut found: Vec<usize> = self.graph.neighbors_directed(NodeIndex::new(stage), direction).map(NodeIndex::index).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn reachable(&self, from: &[usize], direction: Direction) -> Vec<usize> {
        let mut seen = vec![false; self.len()];
        let mut queue = from.to_vec();
        while let Some(stage) = queue.pop() {
            if !std::mem::replace(&mut seen[stage], true) {
                queue.extend(self.graph.neighbors_directed(NodeIndex::new(stage), direction).map(NodeIndex::index));
            }
        }
        self.order.iter().copied().filter(|&stage| seen[stage]).collect()
    }
}

/// Kahn's order, the earliest stage of the file first among those that are ready.
fn topological(graph: &DiGraph<Node, Edge>) -> Vec<usize> {
    let mut waiting: Vec<usize> = graph.node_indices().map(|node| graph.edges_directed(node, Direction::Incoming).count()).collect();
    let mut ready: BinaryHeap<Reverse<usize>> = (0..waiting.len()).filter(|&node| waiting[node] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for next in graph.neighbors_directed(NodeIndex::new(node), Direction::Outgoing).map(NodeIndex::index) {
            waiting[next] -= 1;
            if waiting[next] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    order
}
