//! Where what determines a result was written.

use std::fmt;
use std::path::PathBuf;

use crate::pipeline::{Pipeline, Source, StageSpec};
use crate::raw::Raw;
use crate::reason::{self, Change};
use crate::source::Span;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// In the pipeline file, or in one that it includes.
    File {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// On the command line: the option and its value.
    Option(String),
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Option(option) => f.write_str(option),
        }
    }
}

impl Pipeline {
    /// Where a change of a stage was written: the value itself, that of the variable or the axis that it comes from, or the path of an input.
    /// None where nothing of it stands anywhere: a value at its default, a new version of a kind.
    pub(crate) fn spot_of(&self, spec: &StageSpec, change: &Change) -> Option<Spot> {
        let span = spec.written(change)?;
        let place = self.diagnostic(span, "");
        Some(if span.is_override() {
            Spot::Option(format!("{} {}", place.file.display(), place.source))
        } else {
            Spot::File { line: place.position().0, file: place.file }
        })
    }
}

impl StageSpec {
    fn written(&self, change: &Change) -> Option<&Span> {
        match change.facet.split_once('.') {
            None if change.facet == "seed" => self.table.at("seed").map(|seed| seed.written()).or(self.seed_span.as_ref()),
            None => self.table.at(&change.facet).map(|node| node.written()),
            // A stage that another one reads from is a step of its own.
            Some(("input", param)) => {
                self.inputs.iter().find(|input| input.param == param && matches!(input.source, Source::Path(_))).map(|input| &input.span)
            }
            Some(("params", param)) => {
                let node = self.table.at(param)?;
                let part = match &node.value {
                    Raw::List(items) => reason::only_part(change).and_then(|part| items.get(part)),
                    _ => None,
                };
                Some(part.unwrap_or(node).written())
            }
            Some(_) => None,
        }
    }
}
