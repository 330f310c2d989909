//! Where a piece of a pipeline was written, and the pile of errors that point there.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::overrides::Override;

/// A place in what the user wrote: bytes of the pipeline file or of one override.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// 0 for the pipeline file; n for the n-th override.
    pub(crate) origin: u32,
    /// First byte.
    pub(crate) start: usize,
    /// Byte after the last.
    pub(crate) end: usize,
}

impl Span {
    /// Bytes of the pipeline file.
    pub(crate) fn file(range: Range<usize>) -> Self {
        Self { origin: 0, start: range.start, end: range.end }
    }

    /// The bytes, within the text that the span belongs to.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Whether it points into an override rather than into the file.
    pub fn is_override(&self) -> bool {
        self.origin > 0
    }
}

/// The texts that spans point into.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    file: PathBuf,
    text: Arc<str>,
    overrides: Vec<Arc<str>>,
}

impl Sources {
    pub(crate) fn new(file: &Path, text: &str, overrides: &[Override]) -> Self {
        let overrides = overrides.iter().map(|o| Arc::from(o.to_string())).collect();
        Self { file: file.to_owned(), text: Arc::from(text), overrides }
    }

    /// The text of the pipeline file.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub(crate) fn diagnostic(&self, span: &Span, problem: Problem) -> Diagnostic {
        let (file, source) = match span.origin.checked_sub(1).and_then(|n| self.overrides.get(n as usize)) {
            Some(text) => (PathBuf::from(Diagnostic::OVERRIDE), text),
            None => (self.file.clone(), &self.text),
        };
        let Problem { message, label, help } = problem;
        Diagnostic { file, source: Arc::clone(source), span: span.range(), message, label, help }
    }
}

/// What is wrong, without the place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problem {
    message: String,
    label: String,
    help: Option<String>,
}

impl Problem {
    /// A lowercase fragment: what is wrong.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), label: String::new(), help: None }
    }

    /// What to print under the caret.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What to do about it.
    pub(crate) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

/// Errors found so far. Beyond [`Sink::LIMIT`] they are only counted, so that a file of garbage costs no more than a long one.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    found: Vec<(Span, Problem)>,
    more: usize,
}

impl Sink {
    /// How many errors are told in full.
    const LIMIT: usize = 200;

    /// Adds an error. `problem` is worked out only if it will be shown.
    pub(crate) fn push(&mut self, span: &Span, problem: impl FnOnce() -> Problem) {
        if self.found.len() < Self::LIMIT {
            self.found.push((span.clone(), problem()));
        } else {
            self.more += 1;
        }
    }

    /// Takes over what another pile holds.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.more += other.more;
        for (span, problem) in other.found {
            self.push(&span, || problem);
        }
    }

    /// How many errors there are.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.more
    }

    /// Nothing if there was no error; otherwise all of them, those in the file first, in its order.
    pub(crate) fn finish(mut self, sources: &Sources) -> Result<(), Diagnostics> {
        self.found.sort_by(|(a, _), (b, _)| a.cmp(b));
        if self.more > 0 {
            let end = Span::file(sources.text.len()..sources.text.len());
            self.found.push((end, Problem::new(format!("{} more errors", self.more))));
        }
        if self.found.is_empty() {
            return Ok(());
        }
        Err(Diagnostics(self.found.into_iter().map(|(span, problem)| sources.diagnostic(&span, problem)).collect()))
    }
}
