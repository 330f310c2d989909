//! What a process goes on using: garbage collection leaves it alone as long as the process lives. If it was killed, it leaves it alone for some
//! days more, since no pipeline cites yet what a run had computed until then.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::claim::{Claim, is_lock, lock_of};
use crate::digest::Digest;
use crate::error::CacheError;
use crate::guard::Guard;
use crate::lock;
use crate::store::Store;
use crate::used::unused_for;

/// A list of digests in the store, of fingerprints, folders and files, with a lock beside it that tells that its owner lives.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    list: Option<(Claim, File)>,
    /// Where the list cannot be written, nothing at all is collected meanwhile.
    guard: Option<Guard>,
}

impl Store {
    /// A list that is still empty.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease { store: self.clone(), kept: Mutex::default() }
    }

    /// All that processes go on using, those included that were killed less than `broken_off` ago. Asked by who is alone.
    pub(crate) fn leased(&self, broken_off: Duration) -> Result<HashSet<Digest>, CacheError> {
        let (mut leased, folder, now) = (HashSet::new(), self.layout.leases(), SystemTime::now());
        let is_fresh = |path: &Path| fs::metadata(path).is_ok_and(|metadata| unused_for(&metadata, now) < broken_off);
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.map_err(CacheError::io(&folder))?.path();
            if !is_lock(&path) && (lock::is_held(&lock_of(&path)) || is_fresh(&path)) {
                read(&path, &mut leased)?;
            }
        }
        Ok(leased)
    }
}

fn read(list: &Path, into: &mut HashSet<Digest>) -> Result<(), CacheError> {
    let file = match File::open(list) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(CacheError::io(list))?,
    };
    for line in BufReader::new(file).lines() {
        into.extend(line.map_err(CacheError::io(list))?.parse::<Digest>());
    }
    Ok(())
}

impl Lease {
    /// Adds to the list what was found or kept under a guard, or is looked for only now. A record stands for all that it cites, a folder for its files.
    pub fn keep<'a>(&self, guard: Guard, digests: impl IntoIterator<Item = &'a Digest>) {
        let text: String = digests.into_iter().flat_map(|digest| [digest.to_string(), "\n".to_owned()]).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !text.is_empty() && kept.guard.is_none() && self.write(&mut kept, &text).is_err() {
            kept.guard = Some(guard);
        }
    }

    fn write(&self, kept: &mut Kept, text: &str) -> Result<(), CacheError> {
        if kept.list.is_none() {
            let claim = Claim::stake(&self.store.layout.leases())?;
            let file = File::create_new(claim.path()).map_err(CacheError::io(claim.path()))?;
            kept.list = Some((claim, file));
        }
        let Some((claim, file)) = &mut kept.list else { return Ok(()) };
        file.write_all(text.as_bytes()).map_err(CacheError::io(claim.path()))
    }
}
