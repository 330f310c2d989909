//! Errors in what the user wrote, with the place.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// One error in a pipeline file or an override.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// The file, or [`Diagnostic::OVERRIDE`] or [`Diagnostic::SWEEP`].
    pub file: PathBuf,
    /// The file's whole text, or the override's.
    pub source: Arc<str>,
    /// Bytes of `source` to point at.
    pub span: Range<usize>,
    /// A lowercase fragment: what is wrong.
    pub message: String,
    /// What to print under the caret: what was expected.
    pub label: String,
    /// What to do: the nearest name, what exists.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Stands in `file` where `source` is an override rather than a file's text.
    pub const OVERRIDE: &'static str = "--set";
    /// The same where it is one of several values.
    pub const SWEEP: &'static str = "--sweep";

    /// Line and column of the span's start, both from 1, columns in characters.
    pub fn position(&self) -> (usize, usize) {
        let mut end = self.span.start.min(self.source.len());
        while !self.source.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.source[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if [Self::OVERRIDE, Self::SWEEP].iter().any(|name| self.file.as_os_str() == *name) {
            write!(f, "{} {}: {}", self.file.display(), self.source, self.message)?;
        } else {
            let (line, column) = self.position();
            write!(f, "{}:{line}:{column}: {}", self.file.display(), self.message)?;
        }
        if !self.label.is_empty() {
            write!(f, ": {}", self.label)?;
        }
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// All errors found in one pass; never empty.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Diagnostics(pub Vec<Diagnostic>);
