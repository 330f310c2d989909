//! What a run would do. Planning runs nothing and writes only what can be lost: what it saw of files and records, and what the remote said that it has.

use qapipe_cache::{Digest, Record};

use crate::decide::{Keyed, Settled, Verdict};
use crate::engine::{Engine, EngineError};
use crate::forecast::forecast;
use crate::reason::Reason;
use crate::resources::{gpu_peak, gpus};

/// What a run would do, stage by stage.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The stages in topological order.
    pub stages: Vec<Planned>,
    /// Seconds that a run would take with its stages side by side, where it is known of each that may run how long it took last time.
    pub side_by_side_seconds: Option<f64>,
}

/// What a run would do with one stage.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Stage name.
    pub stage: String,
    /// Its fingerprint, where that is known already.
    pub key: Option<Digest>,
    /// What would be done.
    pub decision: Decision,
    /// Seconds that it took last time, if it may run.
    pub expected_seconds: Option<f64>,
    /// Whether it would take a GPU.
    pub gpu: bool,
    /// Bytes that it held of a GPU at most last time, if it may run on one.
    pub gpu_bytes: Option<u64>,
}

/// What a run would do with a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: the result is there.
    Cached,
    /// Fetch what it gave from the remote, if something needs it.
    Fetch {
        /// Bytes in all outputs.
        bytes: u64,
    },
    /// Run it.
    Run(Reason),
    /// That depends on whether these stages, which run, give something new.
    Maybe {
        /// The stages directly before it whose results are not known yet.
        after: Vec<String>,
    },
}

impl Plan {
    /// Whether a run would find all results, here or in the remote.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stages.iter().all(|planned| planned.decision.is_there())
    }
}

impl Decision {
    /// Whether the result is there, here or in the remote.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self, Self::Cached | Self::Fetch { .. })
    }
}

impl Engine {
    /// Works out what a run would do.
    ///
    /// # Errors
    /// When an input or the store cannot be read.
    pub fn plan(&self) -> Result<Plan, EngineError> {
        let settled = self.decider().settle();
        let stages: Vec<Planned> = self.selected.iter().map(|&stage| self.planned(stage, &settled)).collect::<Result<_, _>>()?;
        // A read-only store still plans; it only reads more the next time.
        self.keep_looks(stages.iter().filter_map(|planned| planned.key));
        let side_by_side_seconds = self.forecast(&stages);
        Ok(Plan { stages, side_by_side_seconds })
    }

    fn forecast(&self, planned: &[Planned]) -> Option<f64> {
        let due = self.selected.iter().zip(planned).filter(|(_, planned)| !planned.decision.is_there());
        let due: Option<Vec<(usize, f64)>> = due.map(|(&stage, planned)| Some((stage, planned.expected_seconds?))).collect();
        due.filter(|due| !due.is_empty()).map(|due| forecast(self, &due))
    }

    pub(crate) fn planned(&self, stage: usize, settled: &Settled) -> Result<Planned, EngineError> {
        let spec = &self.pipeline.stages[stage];
        let (key, decision) = match &settled[stage] {
            Some(Ok(Keyed { key, verdict: Verdict::Cached(_), .. })) => (Some(*key), Decision::Cached),
            Some(Ok(Keyed { key, verdict: Verdict::Fetch(shared), .. })) => {
                (Some(*key), Decision::Fetch { bytes: shared.record.outputs.values().map(|output| output.bytes).sum() })
            }
            Some(Ok(Keyed { key, verdict: Verdict::Run(reason), .. })) => (Some(*key), Decision::Run(reason.clone())),
            Some(Err(error)) => return Err(EngineError::Input { stage: spec.name.clone(), error: error.clone() }),
            None => (None, Decision::Maybe { after: self.unknown_before(stage, settled) }),
        };
        let last = (!decision.is_there()).then(|| self.last_record(&spec.name)).flatten();
        let expected_seconds = last.as_ref().and_then(Record::wall_seconds);
        let gpu = !matches!(decision, Decision::Fetch { .. }) && !gpus(self, spec).is_empty();
        let gpu_bytes = last.as_ref().filter(|_| gpu).and_then(gpu_peak);
        Ok(Planned { stage: spec.name.clone(), key, decision, expected_seconds, gpu, gpu_bytes })
    }

    fn unknown_before(&self, stage: usize, settled: &Settled) -> Vec<String> {
        let known = |upstream: &usize| matches!(&settled[*upstream], Some(Ok(keyed)) if keyed.outputs().is_some());
        let upstream = self.graph.dependencies(stage).into_iter().filter(|upstream| !known(upstream));
        upstream.map(|upstream| self.pipeline.stages[upstream].name.clone()).collect()
    }

    /// Wall-clock seconds of a stage's last execution.
    pub(crate) fn expected_seconds(&self, stage: &str) -> Option<f64> {
        self.last_record(stage)?.wall_seconds()
    }
}
