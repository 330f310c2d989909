//! The graph as text, for Graphviz, and for Mermaid.

use std::fmt::Write as _;

use crate::graph::{Edge, Graph};

/// Steps of indentation after which deeper stages stay where they are.
const INDENT: usize = 20;

impl Graph {
    /// One line a stage: its name, indented by its depth, its kind, and what it reads as `parameter @stage.output`.
    pub fn to_text(&self) -> String {
        let depths = self.depths();
        let indent = |stage: usize| 2 * depths[stage].min(INDENT);
        let left = (0..self.len()).map(|stage| indent(stage) + self.label(stage).chars().count()).max().unwrap_or(0);
        let middle = (0..self.len()).map(|stage| self.kind(stage).len()).max().unwrap_or(0);
        let mut text = String::new();
        for &stage in self.order() {
            let name = format!("{:indent$}{}", "", self.label(stage), indent = indent(stage));
            let reads = self.incoming(stage).into_iter().map(|(from, edge)| self.reads(from, edge)).collect::<Vec<_>>().join(", ");
            let line = format!("{name:left$}  {:middle$}  {reads}", self.kind(stage));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The graph in Graphviz's language: `dot -Tsvg`.
    pub fn to_dot(&self) -> String {
        let mut text =
            format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n", quoted(&self.title));
        for stage in 0..self.len() {
            let (name, label) = (quoted(self.name(stage)), quoted(&self.label(stage)));
            let _ = writeln!(text, "  \"{name}\" [label=\"{label}\\n{}\"];", quoted(self.kind(stage)));
        }
        for &stage in self.order() {
            for (from, edge) in self.incoming(stage) {
                let (from, to) = (quoted(self.name(from)), quoted(self.name(stage)));
                let _ = writeln!(text, "  \"{from}\" -> \"{to}\" [label=\"{}\"];", quoted(&flow(edge)));
            }
        }
        text.push_str("}\n");
        text
    }

    /// The graph in Mermaid's language, as Markdown viewers draw it.
    pub fn to_mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for stage in 0..self.len() {
            let _ = writeln!(text, "  s{stage}[\"{}<br/><i>{}</i>\"]", entities(&self.label(stage)), entities(self.kind(stage)));
        }
        for &stage in self.order() {
            for (from, edge) in self.incoming(stage) {
                let _ = writeln!(text, "  s{from} -->|\"{}\"| s{stage}", entities(&flow(edge)));
            }
        }
        text
    }

    fn reads(&self, from: usize, edge: &Edge) -> String {
        let dot = if edge.output.is_empty() { "" } else { "." };
        format!("{} @{}{dot}{}", edge.param, self.name(from), edge.output)
    }
}

/// What an arrow carries: the parameter, and the output where it is not the first.
pub(crate) fn flow(edge: &Edge) -> String {
    if edge.output.is_empty() { edge.param.clone() } else { format!("{} = .{}", edge.param, edge.output) }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Text as it may stand in XML and HTML.
pub(crate) fn entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
