//! How long a run would take: the queue and the resources of a run, and a clock that goes from one stage's end to the next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::engine::Engine;
use crate::priority::{microseconds, urgency};
use crate::queue::Queue;
use crate::resources::{Need, Resources, Wanted};

/// Seconds until stages are done that take so many seconds each, given in topological order. Nobody asks for the memory of GPUs: each stage has one
/// for itself.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn forecast(engine: &Engine, due: &[(usize, f64)]) -> f64 {
    let times: HashMap<usize, f64> = due.iter().copied().collect();
    let stages: Vec<usize> = due.iter().map(|(stage, _)| *stage).collect();
    let mut queue = Queue::new(Resources::new(engine.options.jobs, false));
    queue.rank(urgency(engine, &stages, &|stage| times.get(&stage).copied(), &[]));
    let upstream = |stage: usize| engine.graph.dependencies(stage).into_iter().filter(|upstream| times.contains_key(upstream)).count();
    let mut missing: HashMap<usize, usize> = stages.iter().map(|&stage| (stage, upstream(stage))).collect();
    let wanted = |stage: usize| Wanted { need: Need::of(engine, &engine.pipeline.stages[stage]), room: None };
    stages.iter().filter(|stage| missing[*stage] == 0).for_each(|&stage| queue.add(stage, wanted(stage)));
    let (mut now, mut ends) = (0, BinaryHeap::new());
    loop {
        while let Some((stage, _)) = queue.next() {
            ends.push(Reverse((now + microseconds(times[&stage]), stage)));
        }
        let Some(Reverse((end, stage))) = ends.pop() else { return now as f64 / 1e6 };
        now = end;
        queue.give_back(stage);
        for next in engine.graph.dependents(stage) {
            let Some(count) = missing.get_mut(&next) else { continue };
            *count -= 1;
            if *count == 0 {
                queue.add(next, wanted(next));
            }
        }
    }
}
