//! Everything that goes, by its path, in the order in which it goes.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::census::{Census, files_of, sharded};
use super::leftover::{self, Item};
use super::trash::Trash;
use super::{Amount, Garbage, Gone, Policy, choice};
use crate::atomic::sync_folder;
use crate::digest::Digest;
use crate::error::CacheError;
use crate::store::Store;

/// What goes.
pub(super) struct Condemned {
    pub(super) garbage: Garbage,
    records: Vec<PathBuf>,
    /// Folders, and then their listings.
    trees: Vec<PathBuf>,
    objects: Vec<PathBuf>,
    leftovers: Vec<Item>,
}

impl Condemned {
    pub(super) fn of(store: &Store, policy: &Policy, roots: &HashSet<Digest>) -> Result<Self, CacheError> {
        let mut census = Census::of(store, policy)?;
        let chosen = choice::choose(&census, policy, roots);
        let cited = cited(store, &census, &chosen)?;
        let mut garbage = Garbage { bytes: census.objects.values().sum(), unreadable: census.unreadable.len(), ..Garbage::default() };
        garbage.kept = census.results.len() - chosen.len();
        let mut records = std::mem::take(&mut census.unreadable);
        for at in chosen {
            let known = &mut census.results[at];
            records.push(known.path.clone());
            garbage.results.extend(known.record.take().map(|record| Gone { record, unused_for: known.unused_for }));
        }
        let trees = trees_but(&cited, store)?;
        garbage.trees = trees.iter().filter(|path| path.extension().is_none()).count();
        let gone = census.objects.iter().filter(|(digest, _)| !cited.contains(digest));
        let objects: Vec<PathBuf> = gone.clone().map(|(digest, _)| store.layout.object(digest)).collect();
        garbage.objects = Amount { count: objects.len() as u64, bytes: gone.map(|(_, bytes)| bytes).sum() };
        let leftovers = leftover::find(store, policy);
        for item in &leftovers {
            let amount = garbage.leftovers.entry(item.what).or_default();
            (amount.count, amount.bytes) = (amount.count + 1, amount.bytes + item.bytes);
        }
        Ok(Self { garbage, records, trees, objects, leftovers })
    }

    /// Moves everything out of the store; it is deleted when what this gives is dropped.
    pub(super) fn remove(&self, store: &Store) -> Result<Trash, CacheError> {
        let mut trash = Trash::open(store)?;
        self.records.iter().try_for_each(|path| trash.take(path))?;
        // Also after a power cut no record may be there that cites what is not.
        let shards: BTreeSet<&Path> = self.records.iter().filter_map(|path| path.parent()).collect();
        shards.into_iter().try_for_each(sync_folder)?;
        self.trees.iter().chain(&self.objects).try_for_each(|path| trash.take(path))?;
        self.leftovers.iter().try_for_each(|item| item.remove(&mut trash))?;
        Ok(trash)
    }
}

/// Folders and files that something cites which stays.
fn cited(store: &Store, census: &Census, chosen: &[usize]) -> Result<HashSet<Digest>, CacheError> {
    let chosen: HashSet<usize> = chosen.iter().copied().collect();
    let mut cited = census.leased.clone();
    for leased in &census.leased {
        cited.extend(files_of(store, leased)?);
    }
    let staying = census.results.iter().enumerate().filter(|(at, _)| !chosen.contains(at));
    staying.for_each(|(_, known)| cited.extend(known.trees.iter().chain(&known.blobs)));
    Ok(cited)
}

/// Paths of all folders and listings but those of `cited`. A folder comes before its listing: without one it would look damaged.
fn trees_but(cited: &HashSet<Digest>, store: &Store) -> Result<Vec<PathBuf>, CacheError> {
    let is_cited = |path: &PathBuf| path.file_stem().and_then(|name| name.to_str()?.parse().ok()).is_some_and(|tree| cited.contains(&tree));
    let mut paths = sharded(&store.layout.trees())?;
    paths.retain(|path| !is_cited(path));
    paths.sort_by_key(|path| path.extension().is_some());
    Ok(paths)
}
