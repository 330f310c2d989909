//! `include` in a pipeline file: what it may say.

use crate::name::{is_name, no_name, shown};
use crate::nearest::suggest;
use crate::raw::{Entry, Node, Raw, Table};
use crate::source::{Problem, Sink, Span};

/// What the table form may hold.
const KEYS: [&str; 3] = ["file", "name", "vars"];

/// One file that is asked for.
pub(crate) struct Include {
    /// Its path, relative to the including file.
    pub(crate) file: String,
    /// Where the path stands.
    pub(crate) span: Span,
    /// What it is to be called, if the `include` says so.
    pub(crate) name: Option<String>,
    /// Variables to set in it.
    pub(crate) vars: Vec<Entry>,
}

/// The files that a pipeline file asks for, in order. What is wrong goes to `sink` and is left out.
pub(crate) fn read(node: Option<Node>, sink: &mut Sink) -> Vec<Include> {
    let Some(node) = node else { return Vec::new() };
    match node.value {
        Raw::List(items) => items.into_iter().filter_map(|item| one(item, sink)).collect(),
        Raw::Broken => Vec::new(),
        _ => {
            let help = "write `include = [\"FILE\"]`".to_owned();
            sink.push(&node.span, || Problem::new("`include` wants a list of pipeline files").label(node.describe()).help(help));
            Vec::new()
        }
    }
}

fn one(node: Node, sink: &mut Sink) -> Option<Include> {
    match node.value {
        Raw::Text(_) => path(&node, sink).map(|file| Include { file, span: node.span, name: None, vars: Vec::new() }),
        Raw::Table(table) => in_full(table, &node.span, sink),
        Raw::Broken => None,
        _ => {
            sink.push(&node.span, || {
                Problem::new("`include` wants the path of a pipeline file, or a table").label(node.describe()).help(form())
            });
            None
        }
    }
}

fn form() -> String {
    "write `\"FILE\"`, or `{ file = \"FILE\", name = \"NAME\", vars = { … } }`".to_owned()
}

fn in_full(mut table: Table, span: &Span, sink: &mut Sink) -> Option<Include> {
    for entry in table.0.iter().filter(|entry| !KEYS.contains(&entry.key.as_str())) {
        let key = &entry.key;
        sink.push(&entry.span, || Problem::new(format!("`include` takes no `{}`", shown(key))).help(suggest(key, "keys", KEYS)));
    }
    let name = table.take("name").and_then(|node| name(&node, sink));
    let vars = table.take("vars").map(|node| vars(node, sink)).unwrap_or_default();
    let Some(file) = table.take("file") else {
        sink.push(span, || Problem::new("this names no `file`").help(form()));
        return None;
    };
    path(&file, sink).map(|text| Include { file: text, span: file.span, name, vars })
}

fn path(node: &Node, sink: &mut Sink) -> Option<String> {
    let problem = match node.as_text() {
        Some("") => Problem::new("`include` wants the path of a pipeline file").label("this is empty"),
        Some(text) if text.contains('\0') => Problem::new("`include` wants the path of a pipeline file").label("this holds a zero byte"),
        Some(text) => return Some(text.to_owned()),
        None if node.is_broken() => return None,
        None => Problem::new("`file` wants the path of a pipeline file").label(node.describe()),
    };
    sink.push(&node.span, || problem);
    None
}

fn name(node: &Node, sink: &mut Sink) -> Option<String> {
    let problem = match node.as_text() {
        Some(text) if is_name(text) => return Some(text.to_owned()),
        Some(text) => no_name("a pipeline", text),
        None if node.is_broken() => return None,
        None => Problem::new("`name` wants text").label(node.describe()),
    };
    sink.push(&node.span, || problem);
    None
}

fn vars(node: Node, sink: &mut Sink) -> Vec<Entry> {
    match node.value {
        Raw::Table(table) => table.0,
        Raw::Broken => Vec::new(),
        _ => {
            sink.push(&node.span, || Problem::new("`vars` wants a table").label(node.describe()));
            Vec::new()
        }
    }
}
