//! Stages of several files that are made from the same, and so are one.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use qapipe_cache::{Digest, Hasher};

use crate::fingerprint::{facets, fingerprint};
use crate::paths::{absolute, without_dots};
use crate::pipeline::{InputSpec, Source, StageSpec};

/// Which stages are one. Two are if their fingerprints are bound to be equal, whatever files hold, and they put their outputs in the same
/// places. With strict numerics, hints count as well.
#[derive(Debug)]
pub(crate) struct Sharing {
    /// The pipeline's folder.
    folder: PathBuf,
    strict: bool,
    /// For each stage, what it is made from; nothing if that is not known because of an error.
    made_from: Vec<Option<Digest>>,
    /// For each stage, the first of those that are one with it.
    firsts: Vec<usize>,
    known: HashMap<Digest, usize>,
}

impl Sharing {
    /// Knows no stages yet.
    pub(crate) fn new(folder: &Path, strict: bool) -> Self {
        let folder = without_dots(&absolute(folder));
        Self { folder, strict, made_from: Vec::new(), firsts: Vec::new(), known: HashMap::new() }
    }

    /// There are this many stages now; none of the new ones is one with another yet.
    pub(crate) fn grow(&mut self, stages: usize) {
        self.made_from.resize(stages, None);
        self.firsts.extend(self.firsts.len()..stages);
    }

    /// Looks at the stages of one file. `order` has each after those that it reads from.
    pub(crate) fn add(&mut self, order: &[usize], specs: &[Option<StageSpec>]) {
        for &stage in order {
            self.made_from[stage] = specs[stage].as_ref().and_then(|spec| self.made_from(spec));
        }
        let mut ascending = order.to_vec();
        ascending.sort_unstable();
        for stage in ascending {
            if let Some(made_from) = self.made_from[stage] {
                self.firsts[stage] = *self.known.entry(made_from).or_insert(stage);
            }
        }
    }

    /// The first of the stages that are one with this one.
    pub(crate) fn first(&self, stage: usize) -> usize {
        self.firsts[stage]
    }

    /// Of the stages with these numbers, those that are one, by the first of them all; in order.
    pub(crate) fn groups(&self, stages: Range<usize>) -> Vec<(usize, Vec<usize>)> {
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut place: HashMap<usize, usize> = HashMap::new();
        for stage in stages {
            let first = self.firsts[stage];
            let at = *place.entry(first).or_insert(groups.len());
            if at == groups.len() {
                groups.push((first, Vec::new()));
            }
            groups[at].1.push(stage);
        }
        groups
    }

    fn made_from(&self, spec: &StageSpec) -> Option<Digest> {
        let input = |input: &InputSpec| Some((input.param.clone(), self.input(input)?));
        let inputs: Vec<(String, Digest)> = spec.inputs.iter().map(input).collect::<Option<_>>()?;
        let mut facets = facets(spec, &inputs, None);
        for output in &spec.outputs {
            if let Some(place) = &output.place {
                facets.insert(format!("place.{}", output.name), self.path(place));
            }
        }
        if let Some(hints) = spec.values.get("hints").filter(|_| self.strict) {
            facets.insert("hints".to_owned(), hints.to_string());
        }
        Some(fingerprint(&facets))
    }

    /// What an input is, without a look at what it holds.
    fn input(&self, input: &InputSpec) -> Option<Digest> {
        let mut hasher = Hasher::new("qapipe shared input 1");
        match &input.source {
            Source::Stage { index, output } => {
                hasher.field("stage", self.made_from[*index]?.to_string().as_bytes());
                hasher.field("output", output.as_bytes());
            }
            Source::Path(path) => hasher.field("path", self.path(path).as_bytes()),
        }
        hasher.field("part", input.part.join("/").as_bytes());
        Some(hasher.finish())
    }

    /// A path as a text that no other one has.
    fn path(&self, path: &Path) -> String {
        format!("{:?}", without_dots(&self.folder.join(path)))
    }
}
