//! Mending a store: results whose outputs are damaged or missing are fetched again, or forgotten, so that the next run computes them.

use std::fs;
use std::path::PathBuf;

use crate::error::CacheError;
use crate::publish;
use crate::record::{Foreign, Outputs, Record};
use crate::remote::{Remote, RemoteError, Watch};
use crate::store::Store;

/// A result that was not whole, and what became of it.
#[derive(Clone, Debug)]
pub struct Repair {
    /// Its record as it was.
    pub record: Record,
    /// What became of it.
    pub mended: Mended,
}

/// What became of a result that was not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// It came from the remote: so many bytes.
    Fetched(u64),
    /// Its record was removed. If the remote has it and it is damaged there too: what is the matter.
    Forgotten(Option<String>),
    /// Another process is computing it right now.
    Busy,
}

impl Store {
    /// Fetches results that are not whole from a remote, or forgets them. What is damaged has been set aside before.
    ///
    /// # Errors
    /// When the remote does not answer as it should, or the store cannot be written. What was mended stays so.
    pub fn repair(&self, remote: Option<&Remote>, watch: &dyn Watch) -> Result<Vec<Repair>, RemoteError> {
        let broken: Vec<Record> = self.records().filter(|record| !self.is_whole(&record.outputs)).collect();
        let mut repairs = Vec::new();
        for record in broken {
            repairs.extend(self.mend(&record, remote, watch)?.map(|mended| Repair { record, mended }));
        }
        Ok(repairs)
    }

    /// Sets records aside that no version of qapipe can read; gives where they were. Those of another version stay.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn set_unreadable_aside(&self) -> Result<Vec<PathBuf>, CacheError> {
        let is_nobodys = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| Foreign::parse(&bytes).is_none());
        let paths: Vec<PathBuf> = self.unreadable_records().filter(is_nobodys).collect();
        paths.iter().try_for_each(|path| publish::set_aside(&self.layout, path))?;
        Ok(paths)
    }

    /// Whether all that a result gave is here, in its size.
    #[must_use]
    pub fn is_whole(&self, outputs: &Outputs) -> bool {
        outputs.values().all(|artifact| self.check(artifact).is_ok())
    }

    /// Nothing where another process has mended it meanwhile.
    fn mend(&self, record: &Record, remote: Option<&Remote>, watch: &dyn Watch) -> Result<Option<Mended>, RemoteError> {
        let Some(_lock) = self.try_lock(&record.fingerprint)? else { return Ok(Some(Mended::Busy)) };
        if self.record(&record.fingerprint)?.is_none_or(|record| self.is_whole(&record.outputs)) {
            return Ok(None);
        }
        let why = match remote.map(|remote| self.fetch_again(record, remote, watch)) {
            Some(Ok(Some(bytes))) => return Ok(Some(Mended::Fetched(bytes))),
            Some(Err(error)) if error.is_local_to_one() => Some(error.to_string()),
            Some(Err(error)) => return Err(error),
            Some(Ok(None)) | None => None,
        };
        self.remove_record(&record.fingerprint)?;
        Ok(Some(Mended::Forgotten(why)))
    }

    /// How many bytes came; nothing where the remote does not have it.
    fn fetch_again(&self, record: &Record, remote: &Remote, watch: &dyn Watch) -> Result<Option<u64>, RemoteError> {
        let Some(shared) = remote.record(&record.fingerprint)? else { return Ok(None) };
        Ok(Some(remote.fetch(self, &shared, watch)?.bytes))
    }
}
