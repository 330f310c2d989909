//! Stages that are ready to run: which of them starts next, and which wait for an equal one.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use qapipe_cache::Digest;

use crate::resources::{Cost, Resources};

/// What is ready to run.
#[derive(Debug)]
pub(crate) struct Queue {
    resources: Resources,
    /// What each takes, in the order of the file.
    ready: BTreeMap<usize, Cost>,
    /// For each key that one stage is to compute, the other stages that wait for that: two of one run never meet at the lock.
    equals: HashMap<Digest, Vec<usize>>,
}

impl Queue {
    pub(crate) fn new(resources: Resources) -> Self {
        Self { resources, ready: BTreeMap::new(), equals: HashMap::new() }
    }

    /// A stage is ready, unless an equal one is to compute its result.
    pub(crate) fn line_up(&mut self, stage: usize, key: Digest, cost: Cost) {
        match self.equals.entry(key) {
            Entry::Occupied(mut equals) => equals.get_mut().push(stage),
            Entry::Vacant(equals) => {
                equals.insert(Vec::new());
                self.ready.insert(stage, cost);
            }
        }
    }

    /// No stage computes this key any more; gives those that waited for it.
    pub(crate) fn release(&mut self, key: &Digest) -> Vec<usize> {
        self.equals.remove(key).unwrap_or_default()
    }

    /// The next stage for which there is room. It is no longer ready, and has what it takes.
    pub(crate) fn next(&mut self) -> Option<usize> {
        if self.resources.are_used_up() {
            return None;
        }
        let resources = &mut self.resources;
        let (&stage, _) = self.ready.iter().find(|&(&stage, cost)| resources.take(stage, cost.clone()))?;
        self.ready.remove(&stage);
        Some(stage)
    }

    /// A stage gives back what it had.
    pub(crate) fn give_back(&mut self, stage: usize) {
        self.resources.release(stage);
    }
}
