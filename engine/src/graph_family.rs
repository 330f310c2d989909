//! The graph with the stages of each family as one.

use std::collections::{BTreeMap, HashMap, HashSet};

use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::graph::{Graph, Node};
use crate::selector::family;

impl Graph {
    /// The graph with the stages of each family drawn as one, which says how many there are and what they hang on: `lora ×3 [rank]`.
    #[must_use]
    pub fn folded(&self) -> Self {
        let mut graph = DiGraph::new();
        let mut drawn: HashMap<&str, NodeIndex> = HashMap::new();
        let mut sizes: Vec<usize> = Vec::new();
        let mut places = Vec::with_capacity(self.len());
        for node in self.graph.raw_nodes() {
            let name = family(&node.weight.name);
            let place = *drawn.entry(name).or_insert_with(|| graph.add_node(Node { name: name.to_owned(), ..node.weight.clone() }));
            sizes.resize(graph.node_count(), 0);
            sizes[place.index()] += 1;
            places.push(place);
        }
        let mut seen = HashSet::new();
        for edge in self.graph.edge_references() {
            let (from, to) = (places[edge.source().index()], places[edge.target().index()]);
            if seen.insert((from, to, &edge.weight().param, &edge.weight().output)) {
                graph.add_edge(from, to, edge.weight().clone());
            }
        }
        for (node, size) in graph.node_weights_mut().zip(sizes).filter(|(node, _)| !node.cell.is_empty()) {
            node.more = format!(" ×{size} [{}]", node.cell.axes().collect::<Vec<_>>().join(","));
        }
        Self::new(self.title.clone(), graph, BTreeMap::new())
    }
}
