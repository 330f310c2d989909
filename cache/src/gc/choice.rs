//! Which results go: nothing cites them, nobody has used them for long, and the store is larger than it may be.

use std::collections::{HashMap, HashSet};

use super::Policy;
use super::census::{Census, Known};
use crate::digest::Digest;

/// The numbers of the results that go, in the order in which they were chosen.
pub(super) fn choose(census: &Census, policy: &Policy, roots: &HashSet<Digest>) -> Vec<usize> {
    let may_go = |known: &Known| {
        known.record.is_some()
            && !roots.contains(&known.fingerprint)
            && !census.leased.contains(&known.fingerprint)
            && policy.unused_for.is_none_or(|age| known.unused_for >= age)
    };
    let (candidates, staying): (Vec<usize>, Vec<usize>) = (0..census.results.len()).partition(|&at| may_go(&census.results[at]));
    match policy.max_bytes {
        Some(max_bytes) => down_to(max_bytes, census, candidates, &staying),
        None => candidates,
    }
}

/// The cheapest for their size, until the rest is small enough.
fn down_to(max_bytes: u64, census: &Census, candidates: Vec<usize>, staying: &[usize]) -> Vec<usize> {
    let blobs = |at: usize| census.results[at].blobs.iter();
    let size = |blob: &Digest| census.objects.get(blob).copied().unwrap_or(0);
    let stays: HashSet<&Digest> = staying.iter().flat_map(|&at| blobs(at)).chain(&census.leased).collect();
    let own = |at: usize| blobs(at).filter(|blob| !stays.contains(blob)).map(size).sum::<u64>();
    let mut valued: Vec<(f64, usize)> = candidates
        .into_iter()
        .map(|at| (at, own(at)))
        .filter(|(_, own)| *own > 0)
        .map(|(at, own)| (value(&census.results[at], own), at))
        .collect();
    valued.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut citing: HashMap<&Digest, usize> = HashMap::new();
    valued.iter().flat_map(|&(_, at)| blobs(at)).for_each(|blob| *citing.entry(blob).or_default() += 1);
    let mut left = stays.iter().copied().chain(citing.keys().copied().filter(|blob| !stays.contains(blob))).map(size).sum::<u64>();
    let mut chosen = Vec::new();
    for (_, at) in valued {
        if left <= max_bytes {
            break;
        }
        chosen.push(at);
        for blob in blobs(at) {
            let citing = citing.entry(blob).or_default();
            *citing = citing.saturating_sub(1);
            if *citing == 0 && !stays.contains(blob) {
                left -= size(blob);
            }
        }
    }
    chosen
}

/// Seconds that it takes to compute a result again, by byte; one that does not say was quick.
fn value(known: &Known, bytes: u64) -> f64 {
    let seconds = known.record.as_ref().and_then(|record| record.cost.get("wall_seconds")).copied().unwrap_or(0.0);
    seconds / bytes as f64
}
