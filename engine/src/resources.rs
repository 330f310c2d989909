//! What stages share while they run side by side.

use std::collections::HashMap;

use crate::decide::device;
use crate::engine::Engine;
use crate::kind::Place;
use crate::pipeline::StageSpec;

/// What a stage occupies while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    threads: usize,
    gpu: Option<String>,
}

impl Cost {
    /// What only fetches from the remote takes no more than a thread.
    pub(crate) const FETCH: Self = Self { threads: 1, gpu: None };

    /// A stage on the CPU that uses libtorch takes all threads, unless it was given a number: how many it gets must not depend on
    /// what else runs, since sums depend on it. On a GPU it takes one thread and the GPU.
    pub(crate) fn of(engine: &Engine, spec: &StageSpec) -> Self {
        if spec.kind.place_of(&spec.values) == Place::Here {
            return Self { threads: threads(engine, spec), gpu: None };
        }
        match gpu(engine, spec) {
            Some(gpu) => Self { threads: 1, gpu: Some(gpu) },
            None => Self { threads: threads(engine, spec), gpu: None },
        }
    }
}

/// How many threads a stage may use.
pub(crate) fn threads(engine: &Engine, spec: &StageSpec) -> usize {
    let given = spec.values.get("hints.threads").and_then(serde_json::Value::as_u64).and_then(|threads| usize::try_from(threads).ok());
    let usual = if spec.kind.place_of(&spec.values) == Place::Worker { engine.options.jobs } else { 1 };
    given.unwrap_or(usual).max(1)
}

/// The GPU that a stage runs on, if it does.
pub(crate) fn gpu(engine: &Engine, spec: &StageSpec) -> Option<String> {
    match device(engine, spec) {
        "cpu" => None,
        "auto" if !engine.options.gpu => None,
        "auto" | "cuda" => Some("cuda:0".into()),
        named => Some(named.into()),
    }
}

/// The threads and GPUs that are left.
#[derive(Debug)]
pub(crate) struct Resources {
    threads: usize,
    held: HashMap<usize, Cost>,
}

impl Resources {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), held: HashMap::new() }
    }

    /// Gives a stage what it needs, if that is free. A stage that needs more than there is runs alone.
    pub(crate) fn take(&mut self, stage: usize, cost: Cost) -> bool {
        let used: usize = self.held.values().map(|cost| cost.threads.min(self.threads)).sum();
        let threads = used + cost.threads.min(self.threads) <= self.threads;
        let gpu = cost.gpu.is_none() || self.held.values().all(|held| held.gpu != cost.gpu);
        if threads && gpu {
            self.held.insert(stage, cost);
        }
        threads && gpu
    }

    /// Whether no stage at all could start now.
    pub(crate) fn are_used_up(&self) -> bool {
        self.held.values().map(|cost| cost.threads.min(self.threads)).sum::<usize>() >= self.threads
    }

    pub(crate) fn release(&mut self, stage: usize) {
        self.held.remove(&stage);
    }
}
