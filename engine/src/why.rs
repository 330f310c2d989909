//! Why a stage would run: down to what the user changed.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;

use qapipe_cache::{Digest, Record};

use crate::decide::{Keyed, Settled};
use crate::engine::{Engine, EngineError};
use crate::pipeline::{InputSpec, Source, StageSpec};
use crate::plan::Decision;
use crate::reason::{self, Change, Reason};

/// Why a stage would run, followed upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The stage in question, and then the stages upstream that have a part in it, nearest first.
    pub steps: Vec<WhyStep>,
}

/// What is the matter with one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyStep {
    /// Stage name.
    pub stage: String,
    /// What a run would do with it.
    pub decision: Decision,
    /// What differs from its last result; empty where it is new or not known yet. Of a stage upstream that is cached: what differs
    /// from the result that the stage after it read last.
    pub changes: Vec<Change>,
    /// The file that the stage stands in: the pipeline file or one that it includes.
    pub file: PathBuf,
    /// Line of the stage in that file, from 1.
    pub line: usize,
}

impl Engine {
    /// Explains one stage.
    ///
    /// # Errors
    /// When there is no such stage, or an input or the store cannot be read.
    pub fn why(&self, stage: &str) -> Result<Why, EngineError> {
        let index = self.graph.find_one(stage)?;
        let settled = self.decider().settle();
        let mut steps = Vec::new();
        let (mut queue, mut seen) = (VecDeque::from([(index, None)]), BTreeSet::new());
        while let Some((index, read)) = queue.pop_front() {
            let step = self.step(index, read, &settled)?;
            let matters = steps.is_empty() || !step.decision.is_there() || !step.changes.is_empty();
            if matters && seen.insert(index) {
                queue.extend(self.upstream(index, &step));
                steps.push(step);
            }
        }
        Ok(Why { steps })
    }

    /// The stages that a stage reads from, each with the digest of what it read of it last, if that is known to differ now.
    fn upstream(&self, index: usize, step: &WhyStep) -> Vec<(usize, Option<Digest>)> {
        let inputs = self.pipeline.stages[index].inputs.iter().filter_map(|input| match &input.source {
            Source::Stage { index, .. } => Some((*index, input)),
            Source::Path(_) => None,
        });
        let read = |input: &InputSpec| {
            let change = step.changes.iter().find(|change| change.facet.strip_prefix("input.") == Some(&input.param))?;
            change.before.as_ref()?.parse().ok()
        };
        inputs.map(|(upstream, input)| (upstream, read(input))).collect()
    }

    fn step(&self, index: usize, read: Option<Digest>, settled: &Settled) -> Result<WhyStep, EngineError> {
        let spec = &self.pipeline.stages[index];
        let decision = self.planned(index, settled)?.decision;
        let changes = match (&decision, &settled[index], read) {
            (Decision::Run(Reason::Changed(changes)), ..) => changes.clone(),
            (Decision::Cached | Decision::Fetch { .. }, Some(Ok(keyed)), Some(read)) => self.changes_since(spec, &read, keyed),
            _ => Vec::new(),
        };
        let place = self.pipeline.diagnostic(&spec.span, "");
        let line = place.position().0;
        Ok(WhyStep { stage: spec.name.clone(), decision, changes, file: place.file, line })
    }

    /// The stage has run since, in another run: what makes its result differ from the one with this output.
    fn changes_since(&self, spec: &StageSpec, read: &Digest, now: &Keyed) -> Vec<Change> {
        let mine = |record: &Record| record.stage == spec.name && record.pipeline == self.pipeline.name;
        let gave = |record: &Record| record.outputs.values().any(|output| output.digest == *read);
        let then = self.store.records().find(|record| mine(record) && gave(record));
        then.map(|record| reason::changes(&record.facets, &now.facets, spec)).unwrap_or_default()
    }
}
