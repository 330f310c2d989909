//! The result in a store that comes closest to one that is not there.

use qapipe_cache::Record;

use crate::fingerprint::Facets;

/// Of records of one kind, the one that differs in the fewest facets, in one at least and in fewer than `limit`; the newest of several. One that
/// differs in half of them or more is another thing altogether.
pub(crate) fn closest<'r>(records: impl Iterator<Item = &'r Record>, facets: &Facets, limit: usize) -> Option<&'r Record> {
    let limit = limit.min(facets.len().div_ceil(2));
    let counted = records.map(|record| (distance(&record.facets, facets), record)).filter(|(distance, _)| (1..limit).contains(distance));
    counted.min_by(|(a, one), (b, other)| a.cmp(b).then_with(|| other.run.cmp(&one.run))).map(|(_, record)| record)
}

/// In how many facets two results differ.
fn distance(before: &Facets, now: &Facets) -> usize {
    let gone = before.keys().filter(|name| !now.contains_key(*name)).count();
    gone + now.iter().filter(|(name, value)| before.get(*name) != Some(value)).count()
}
