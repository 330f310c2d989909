//! Why a stage would run: down to what the user changed.

use std::cell::OnceCell;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::path::PathBuf;

use qapipe_cache::{Digest, Record};

use crate::closest::closest;
use crate::decide::{Keyed, Verdict};
use crate::engine::{Engine, EngineError};
use crate::error::StageError;
use crate::pipeline::{InputSpec, Source, StageSpec};
use crate::plan::Decision;
use crate::reason::{self, Change, Reason};
use crate::spot::Spot;

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
    pub changes: Vec<Cause>,
    /// Of a stage that would run, the result in the store that comes closest, if it is closer than the last one.
    pub closest: Option<Closest>,
    /// The file that the stage stands in: the pipeline file or one that it includes.
    pub file: PathBuf,
    /// Line of the stage in that file, from 1.
    pub line: usize,
}

/// One facet that differs, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What differs.
    pub change: Change,
    /// Where that was written; none where nothing of it stands anywhere, such as a value at its default.
    pub spot: Option<Spot>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.change.fmt(f)?;
        self.spot.iter().try_for_each(|spot| write!(f, "  ({spot})"))
    }
}

/// A result of the same kind that is made from almost the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closest {
    /// Its key.
    pub key: Digest,
    /// The stage that it was computed for.
    pub stage: String,
    /// The pipeline of that stage.
    pub pipeline: String,
    /// The run that computed it.
    pub run: String,
    /// What it differs by; never empty.
    pub changes: Vec<Cause>,
}

impl Engine {
    /// Explains one stage.
    ///
    /// # Errors
    /// When there is no such stage, or an input or the store cannot be read.
    pub fn why(&self, stage: &str) -> Result<Why, EngineError> {
        let index = self.graph.find_one(stage)?;
        let inquiry = Inquiry { engine: self, settled: self.decider().settle(), records: OnceCell::new() };
        let mut steps = Vec::new();
        let (mut queue, mut seen) = (VecDeque::from([(index, None)]), BTreeSet::new());
        while let Some((index, read)) = queue.pop_front() {
            let step = inquiry.step(index, read)?;
            let matters = steps.is_empty() || !step.decision.is_there() || !step.changes.is_empty();
            if matters && seen.insert(index) {
                queue.extend(inquiry.upstream(index, &step));
                steps.push(step);
            }
        }
        Ok(Why { steps })
    }
}

/// One question, and what is known to answer it.
struct Inquiry<'a> {
    engine: &'a Engine,
    settled: Vec<Option<Result<Keyed, StageError>>>,
    /// All records of the store, once they are needed.
    records: OnceCell<Vec<Record>>,
}

impl Inquiry<'_> {
    /// The stages that a stage reads from, each with the digest of what it read of it last, if that is known to differ now.
    fn upstream(&self, index: usize, step: &WhyStep) -> Vec<(usize, Option<Digest>)> {
        let inputs = self.engine.pipeline.stages[index].inputs.iter().filter_map(|input| match &input.source {
            Source::Stage { index, .. } => Some((*index, input)),
            Source::Path(_) => None,
        });
        let read = |input: &InputSpec| {
            let changes = step.changes.iter().map(|cause| &cause.change);
            changes.clone().find(|change| change.facet.strip_prefix("input.") == Some(&input.param))?.before.as_ref()?.parse().ok()
        };
        inputs.map(|(upstream, input)| (upstream, read(input))).collect()
    }

    fn step(&self, index: usize, read: Option<Digest>) -> Result<WhyStep, EngineError> {
        let spec = &self.engine.pipeline.stages[index];
        let decision = self.engine.planned(index, &self.settled)?.decision;
        let keyed = self.settled[index].as_ref().and_then(|settled| settled.as_ref().ok());
        let changes = match (&decision, keyed, read) {
            (Decision::Run(Reason::Changed(changes)), ..) => changes.clone(),
            (Decision::Cached | Decision::Fetch { .. }, Some(keyed), Some(read)) => self.changes_since(spec, &read, keyed),
            _ => Vec::new(),
        };
        let closest = keyed.and_then(|keyed| self.closest(spec, keyed, &changes));
        let place = self.engine.pipeline.diagnostic(&spec.span, "");
        let line = place.position().0;
        Ok(WhyStep { stage: spec.name.clone(), decision, changes: self.causes(spec, changes), closest, file: place.file, line })
    }

    fn causes(&self, spec: &StageSpec, changes: Vec<Change>) -> Vec<Cause> {
        changes.into_iter().map(|change| Cause { spot: self.engine.pipeline.spot_of(spec, &change), change }).collect()
    }

    fn records(&self) -> &[Record] {
        self.records.get_or_init(|| self.engine.store.records().collect())
    }

    /// The stage has run since, in another run: what makes its result differ from the one with this output.
    fn changes_since(&self, spec: &StageSpec, read: &Digest, now: &Keyed) -> Vec<Change> {
        let mine = |record: &Record| record.stage == spec.name && record.pipeline == self.engine.pipeline.name;
        let gave = |record: &Record| record.outputs.values().any(|output| output.digest == *read);
        let then = self.records().iter().find(|record| mine(record) && gave(record));
        then.map(|record| reason::changes(&record.facets, &now.facets(spec), spec)).unwrap_or_default()
    }

    /// The closest result for a stage that would run and was not asked to, if it is closer than the last one, from which `changes` are.
    fn closest(&self, spec: &StageSpec, keyed: &Keyed, changes: &[Change]) -> Option<Closest> {
        let limit = match keyed.verdict {
            Verdict::Run(Reason::New | Reason::Missing) => usize::MAX,
            Verdict::Run(Reason::Changed(_)) => changes.len(),
            _ => return None,
        };
        let alike = self.records().iter().filter(|record| record.kind == spec.kind.name());
        let facets = keyed.facets(spec);
        let record = closest(alike, &facets, limit)?;
        let changes = reason::changes(&record.facets, &facets, spec);
        let (stage, pipeline, run) = (record.stage.clone(), record.pipeline.clone(), record.run.clone());
        Some(Closest { key: record.fingerprint, stage, pipeline, run, changes: self.causes(spec, changes) })
    }
}
