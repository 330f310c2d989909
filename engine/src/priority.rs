//! Which stages come first: those with the longest way to the end of the run before them.

use std::collections::HashMap;

use crate::engine::Engine;
use crate::kind::Place;
use crate::looks::look_at_each;
use crate::pipeline::StageSpec;

/// Seconds that a stage is taken to need in this process, and in a worker, where no stage of its kind has run yet.
const GUESSES: (f64, f64) = (1.0, 60.0);

/// For each stage of the pipeline, microseconds of the longest way from its start to the end of the run. `due` are those that may have to run, in
/// topological order; `seconds` says what a stage took last time, and `done` what others took.
pub(crate) fn urgency(engine: &Engine, due: &[usize], seconds: &(dyn Fn(usize) -> Option<f64> + Sync), done: &[(usize, f64)]) -> Vec<u64> {
    let own: Vec<Option<f64>> = look_at_each(due, |&stage| seconds(stage));
    let known = due.iter().copied().zip(&own).filter_map(|(stage, seconds)| Some((stage, (*seconds)?)));
    let usual = Usual::of(engine, known.chain(done.iter().copied()));
    let mut ways = vec![0u64; engine.pipeline.stages.len()];
    for (&stage, seconds) in due.iter().zip(&own).rev() {
        let rest = engine.graph.dependents(stage).into_iter().map(|next| ways[next]).max().unwrap_or_default();
        let seconds = seconds.unwrap_or_else(|| usual.seconds(&engine.pipeline.stages[stage]));
        ways[stage] = rest.saturating_add(microseconds(seconds));
    }
    ways
}

/// A time as a number that has an order.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn microseconds(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

/// What stages of each kind usually take: the median of what is known.
struct Usual(HashMap<&'static str, f64>);

impl Usual {
    fn of(engine: &Engine, known: impl Iterator<Item = (usize, f64)>) -> Self {
        let mut times: HashMap<&'static str, Vec<f64>> = HashMap::new();
        for (stage, seconds) in known {
            times.entry(engine.pipeline.stages[stage].kind.name()).or_default().push(seconds);
        }
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        Self(times.into_iter().map(|(kind, times)| (kind, median(times))).collect())
    }

    fn seconds(&self, spec: &StageSpec) -> f64 {
        let (here, worker) = GUESSES;
        let guess = if spec.kind.place_of(&spec.values) == Place::Here { here } else { worker };
        self.0.get(spec.kind.name()).copied().unwrap_or(guess)
    }
}
