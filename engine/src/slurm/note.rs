//! What a store knows of a submission: enough for another driver to take its jobs up.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use qapipe_cache::{CacheError, Digest, Lock, Store, write_atomically};
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::queue::JobId;
use crate::journal;
use crate::paths::absolute;

/// One submission, in `slurm/RUN-NUMBER.json`. It is written before the job is submitted, and again with the job's number: of one without, the
/// queue is asked by the comment. It goes once all of its stages have come to an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The run that submitted it.
    pub(crate) run: String,
    /// Which of its submissions.
    pub(crate) number: usize,
    /// The cluster's name.
    pub(crate) cluster: String,
    /// When, in seconds since 1970.
    pub(crate) at: u64,
    /// The job; none if the driver died before it could be noted.
    pub(crate) job: Option<u64>,
    /// Its stages and their keys, in the order of the array.
    pub(crate) tasks: Vec<(String, Digest)>,
}

impl Note {
    pub(crate) fn new(run: &str, number: usize, cluster: &str, batch: &Batch) -> Self {
        let tasks = batch.tasks.iter().map(|task| (task.name.clone(), task.key)).collect();
        Self { run: run.to_owned(), number, cluster: cluster.to_owned(), at: now(), job: None, tasks }
    }

    /// What tells the submission from all others.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}", self.run, self.number)
    }

    /// Whether it is the same submission, whenever it was read.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id() == other.id()
    }

    /// By what its job is found in the queue.
    pub(crate) fn comment(&self) -> String {
        format!("qapipe:{}", self.id())
    }

    /// The job of one of its stages, once that is known.
    pub(crate) fn job_of(&self, task: usize) -> Option<JobId> {
        let number = (self.tasks.len() > 1).then(|| u32::try_from(task).ok()).flatten();
        Some(JobId { job: self.job?, task: number })
    }

    /// Where a stage with this key stands in it.
    pub(crate) fn find(&self, key: &Digest) -> Option<usize> {
        self.tasks.iter().position(|(_, own)| own == key)
    }

    /// Seconds since it was written first.
    pub(crate) fn age(&self) -> u64 {
        now().saturating_sub(self.at)
    }

    pub(crate) fn files(&self, root: &Path) -> Files {
        Files { folder: absolute(&journal::folder(root, &self.run)).join("slurm"), number: self.number }
    }

    pub(crate) fn write(&self, root: &Path) -> Result<(), CacheError> {
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_atomically(&self.path(root), &bytes)
    }

    /// Losing it late is harmless: what it says of jobs that ended is nothing to anybody.
    pub(crate) fn remove(&self, root: &Path) {
        let _ = std::fs::remove_file(self.path(root));
    }

    fn path(&self, root: &Path) -> PathBuf {
        folder(root).join(format!("{}.json", self.id()))
    }
}

/// All notes of a store, in the order of their submission. One that cannot be read is none: what its jobs compute is locked by key.
pub(crate) fn all(root: &Path) -> Vec<Note> {
    let entries = std::fs::read_dir(folder(root)).into_iter().flatten().flatten().map(|entry| entry.path());
    let paths = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut notes: Vec<Note> = paths.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect();
    notes.sort_by(|a, b| (&a.run, a.number).cmp(&(&b.run, b.number)));
    notes
}

/// Who submits holds this: two drivers of one store never submit the same at the same time.
pub(crate) fn lock(store: &Store) -> Result<Lock, CacheError> {
    store.lock(&Digest::of_bytes(b"qapipe slurm submissions"))
}

fn folder(root: &Path) -> PathBuf {
    root.join("slurm")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

/// The files of a submission, in the folder of its run.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    number: usize,
}

impl Files {
    pub(crate) fn script(&self) -> PathBuf {
        self.folder.join(format!("{}.sh", self.number))
    }

    /// What a task prints; `task` is its number, or what stands for it.
    pub(crate) fn output(&self, task: &str) -> PathBuf {
        self.folder.join(format!("{}-{task}.log", self.number))
    }

    /// The events of a task.
    pub(crate) fn events(&self, task: &str) -> PathBuf {
        self.folder.join(format!("{}-{task}.jsonl", self.number))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_knows_its_jobs() {
        let folder = tempfile::tempdir().unwrap();
        let keys = [1u8, 2].map(|byte| Digest::of_bytes(&[byte]));
        let tasks = vec![("a[r=1]".to_owned(), keys[0]), ("a[r=2]".to_owned(), keys[1])];
        let mut note = Note { run: "r".into(), number: 3, cluster: "lab".into(), at: now(), job: None, tasks };
        note.write(folder.path()).unwrap();
        assert_eq!(all(folder.path()), [note.clone()]);
        assert_eq!((note.job_of(1), note.comment().as_str()), (None, "qapipe:r-3"));
        note.job = Some(12);
        note.write(folder.path()).unwrap();
        assert_eq!(all(folder.path())[0].job_of(note.find(&keys[1]).unwrap()).unwrap().to_string(), "12_1");
        assert!(note.find(&Digest::of_bytes(b"x")).is_none() && note.age() < 60);
        note.remove(folder.path());
        assert!(all(folder.path()).is_empty());
    }
}
