//! One file of a pipeline: the pipeline file itself, or one that it includes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::raw::{Entry, Node, Table};
use crate::source::Span;

/// One file of a pipeline. Included files come before the file that includes them, and the pipeline file itself comes last; so everything
/// that a file includes, directly or not, stands right before it.
#[derive(Clone)]
pub(crate) struct Part {
    /// The file, as messages name it.
    pub(crate) file: PathBuf,
    /// Its folder, relative to the pipeline's: empty where that is the same.
    pub(crate) home: Arc<Path>,
    /// What it is included as; of the pipeline file itself, its name.
    pub(crate) name: String,
    /// What the names of its stages begin with in the whole pipeline: empty for the pipeline file itself, else `outer-inner-`.
    pub(crate) prefix: String,
    /// What the file says, without its `include`.
    pub(crate) root: Table,
    /// Variables that the `include` sets.
    pub(crate) vars: Vec<Entry>,
    /// Where it is included; the start of the file for the pipeline file itself.
    pub(crate) asked: Span,
    /// The end of its text.
    pub(crate) end: Span,
    /// The first of the files that it includes, directly or not; itself if there are none.
    pub(crate) first: usize,
    /// The files that it includes itself.
    pub(crate) children: Vec<usize>,
}

impl Part {
    /// The tables of its stages by their own names.
    pub(crate) fn stages(&self) -> Option<&Table> {
        self.root.get("stages").and_then(Node::as_table)
    }

    /// The table of one of its stages.
    pub(crate) fn stage(&self, name: &str) -> Option<&Node> {
        self.stages()?.get(name)
    }

    /// Its variables, as written.
    pub(crate) fn variables(&self) -> Option<&Table> {
        self.root.get("vars").and_then(Node::as_table)
    }

    /// Whether it is included by another.
    pub(crate) fn is_included(&self) -> bool {
        !self.prefix.is_empty()
    }
}
