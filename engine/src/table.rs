//! A table where one is wanted.

use crate::raw::{Node, Raw, Table};
use crate::source::{Problem, Sink};

/// The table of this key; an empty one if there is none, or if it is something else, which is then told.
pub(crate) fn table_of(node: Option<Node>, key: &str, sink: &mut Sink) -> Table {
    match node {
        Some(Node { value: Raw::Table(table), .. }) => table,
        Some(node) if !node.is_broken() => {
            sink.push(&node.span, || Problem::new(format!("`{key}` wants a table")).label(node.describe()));
            Table::default()
        }
        _ => Table::default(),
    }
}
