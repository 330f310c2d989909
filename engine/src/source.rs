//! Where a piece of a pipeline was written, and the pile of errors that point there.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::overrides::Override;

/// A place in what the user wrote: bytes of a pipeline file or of one override.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    pub(crate) origin: Origin,
    /// First byte. A pipeline has many places, and no text of it four gigabytes.
    start: u32,
    /// Byte after the last.
    end: u32,
}

/// The text that a span points into. Files come before overrides, the pipeline file itself before those that it includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// The file of this number; 0 is the pipeline file itself.
    File(u32),
    /// The override of this number, from 0.
    Override(u32),
}

impl Default for Origin {
    fn default() -> Self {
        Self::File(0)
    }
}

impl Span {
    /// Bytes of a file.
    pub(crate) fn of(file: u32, range: Range<usize>) -> Self {
        Self::at(Origin::File(file), range)
    }

    /// Bytes of a text.
    pub(crate) fn at(origin: Origin, range: Range<usize>) -> Self {
        let byte = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { origin, start: byte(range.start), end: byte(range.end) }
    }

    /// The bytes, within the text that the span belongs to.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether it points into an override rather than into a file.
    pub fn is_override(&self) -> bool {
        matches!(self.origin, Origin::Override(_))
    }
}

/// The texts that spans point into.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// The pipeline file, then those that it includes, each once.
    files: Vec<(PathBuf, Arc<str>)>,
    /// What each is given by, and its text.
    overrides: Vec<(&'static str, Arc<str>)>,
}

impl Sources {
    pub(crate) fn new(file: &Path, text: &str, overrides: &[Override]) -> Self {
        let by = |change: &Override| if change.sweep { Diagnostic::SWEEP } else { Diagnostic::OVERRIDE };
        let overrides = overrides.iter().map(|change| (by(change), Arc::from(change.to_string()))).collect();
        Self { files: vec![(file.to_owned(), Arc::from(text))], overrides }
    }

    /// Adds an included file; gives its number.
    pub(crate) fn add(&mut self, file: &Path, text: &str) -> u32 {
        self.files.push((file.to_owned(), Arc::from(text)));
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// The text of the pipeline file.
    pub(crate) fn text(&self) -> &Arc<str> {
        self.text_of(0)
    }

    /// The text of the file of this number.
    pub(crate) fn text_of(&self, file: u32) -> &Arc<str> {
        &self.file(file).1
    }

    fn file(&self, file: u32) -> &(PathBuf, Arc<str>) {
        self.files.get(file as usize).unwrap_or(&self.files[0])
    }

    /// The file or override that a span points into, and its text.
    fn origin(&self, span: &Span) -> (PathBuf, &Arc<str>) {
        let file = match span.origin {
            Origin::File(file) => file,
            Origin::Override(number) => match self.overrides.get(number as usize) {
                Some((by, text)) => return (PathBuf::from(by), text),
                None => 0,
            },
        };
        let (file, text) = self.file(file);
        (file.clone(), text)
    }

    pub(crate) fn diagnostic(&self, span: &Span, problem: Problem) -> Diagnostic {
        let (file, source) = self.origin(span);
        let Problem { message, label, help } = problem;
        Diagnostic { file, source: Arc::clone(source), span: span.range(), message, label, help }
    }
}

/// What is wrong, without the place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

/// Errors found so far, each once. Beyond [`Sink::LIMIT`] they are only counted, so that a file of garbage costs no more than a long one.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    found: Vec<(Span, Problem)>,
    /// The same: every cell of a matrix may have the errors of its stage.
    told: HashSet<(Span, Problem)>,
    again: usize,
    more: usize,
}

impl Sink {
    /// How many errors are told in full.
    const LIMIT: usize = 200;

    /// Adds an error. `problem` is worked out only if it will be shown.
    pub(crate) fn push(&mut self, span: &Span, problem: impl FnOnce() -> Problem) {
        if self.found.len() >= Self::LIMIT {
            self.more += 1;
            return;
        }
        let found = (span.clone(), problem());
        if self.told.insert(found.clone()) {
            self.found.push(found);
        } else {
            self.again += 1;
        }
    }

    /// Takes over what another pile holds.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.more += other.more;
        self.again += other.again;
        for (span, problem) in other.found {
            self.push(&span, || problem);
        }
    }

    /// How many errors there are.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.again + self.more
    }

    /// Nothing if there was no error; otherwise all of them, those in files first, in their order. A file that is included twice has its
    /// errors told once.
    pub(crate) fn finish(mut self, sources: &Sources) -> Result<(), Diagnostics> {
        self.found.sort_by(|(a, _), (b, _)| a.cmp(b));
        if self.more > 0 {
            let end = Span::of(0, sources.text().len()..sources.text().len());
            self.found.push((end, Problem::new(format!("{} more errors", self.more))));
        }
        if self.found.is_empty() {
            return Ok(());
        }
        Err(Diagnostics(self.found.into_iter().map(|(span, problem)| sources.diagnostic(&span, problem)).collect()))
    }
}
