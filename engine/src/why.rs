//! Why a stage would run: down to what the user changed.

use std::collections::BTreeSet;

use crate::decide::{Keyed, Verdict};
use crate::engine::{Engine, EngineError};
use crate::error::StageError;
use crate::plan::Decision;
use crate::reason::{Change, Reason};

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
    /// What differs from its last result; empty where it is cached, new, or not known yet.
    pub changes: Vec<Change>,
    /// Line of the stage in the pipeline file, from 1.
    pub line: usize,
}

impl Engine {
    /// Explains one stage.
    ///
    /// # Errors
    /// When there is no such stage, or an input or the store cannot be read.
    pub fn why(&self, stage: &str) -> Result<Why, EngineError> {
        let _exists = self.graph.subset(&[stage.to_owned()])?;
        let Some(index) = self.pipeline.index(stage) else { return Ok(Why { steps: Vec::new() }) };
        let plan = self.plan()?;
        let settled = self.decider().settle();
        let mut steps = Vec::new();
        let (mut queue, mut seen) = (vec![index], BTreeSet::new());
        while let Some(index) = queue.pop() {
            let name = &self.pipeline.stages[index].name;
            let Some(planned) = plan.stages.iter().find(|planned| planned.stage == *name) else { continue };
            let cached = planned.decision == Decision::Cached;
            if !seen.insert(index) || (cached && !steps.is_empty()) {
                continue;
            }
            steps.push(self.step(index, planned.decision.clone(), &settled));
            queue.extend(self.graph.dependencies(index).into_iter().rev());
        }
        Ok(Why { steps })
    }

    fn step(&self, index: usize, decision: Decision, settled: &[Option<Result<Keyed, StageError>>]) -> WhyStep {
        let spec = &self.pipeline.stages[index];
        let changes = match &settled[index] {
            Some(Ok(Keyed { verdict: Verdict::Run { reason: Reason::Changed(changes), .. }, .. })) => changes.clone(),
            _ => Vec::new(),
        };
        let line = self.pipeline.diagnostic(&spec.span, "").position().0;
        WhyStep { stage: spec.name.clone(), decision, changes, line }
    }
}
