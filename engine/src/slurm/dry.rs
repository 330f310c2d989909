//! What a run would submit, without submitting it.

use std::collections::HashSet;

use super::Cluster;
use super::batch::{Batch, Task};
use super::note::Note;
use super::script::Script;
use super::wants::Wants;
use crate::decide::Verdict;
use crate::engine::{Engine, EngineError};
use crate::plan::Decision;

/// What a run would submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// The scripts of what would be submitted at once.
    pub scripts: Vec<String>,
    /// What may follow.
    pub later: Vec<Later>,
}

/// A stage about which only the results before it decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// The stage.
    pub stage: String,
    /// Those before it that are not known yet.
    pub after: Vec<String>,
}

/// What stands for the id of a run that never was.
const RUN: &str = "RUN";
/// Slurm's usual limit, which only a cluster at hand could tell.
const WIDEST: usize = 1000;

impl Engine {
    /// The scripts that a run would submit now, in the order of their submission. Asks nothing of Slurm.
    ///
    /// # Errors
    /// When an input or the store cannot be read.
    pub fn dry_run(&self, cluster: &Cluster) -> Result<DryRun, EngineError> {
        let settled = self.decider().settle();
        let (mut tasks, mut later, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for &stage in &self.selected {
            let planned = self.planned(stage, &settled)?;
            if let Decision::Maybe { after } = planned.decision {
                later.push(Later { stage: planned.stage, after });
            } else if let Some(Ok(keyed)) = &settled[stage]
                && matches!(keyed.verdict, Verdict::Run(_))
                && seen.insert(keyed.key)
            {
                let wants = Wants::of(self, &self.pipeline.stages[stage], cluster);
                tasks.push(Task { stage, name: planned.stage, key: keyed.key, anew: keyed.is_forced(), wants });
            }
        }
        tasks.sort_by_key(|task| task.stage);
        let batches = Batch::of(tasks, WIDEST);
        let scripts = batches.iter().enumerate().map(|(number, batch)| self.script(cluster, batch, number)).collect();
        let _ = self.stats.save();
        Ok(DryRun { scripts, later })
    }

    fn script(&self, cluster: &Cluster, batch: &Batch, number: usize) -> String {
        let note = Note::new(RUN, number, "", batch);
        Script::new(self, cluster, batch, &note.files(self.store.root()), RUN, &note.comment()).text()
    }
}
