//! Submitting what is due, once: what another driver has submitted is taken up instead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qapipe_cache::Digest;

use super::batch::{Batch, Task};
use super::client::{self, Trouble};
use super::driver::Driver;
use super::note::{self, Files, Note};
use super::open::Open;
use super::queue::{JobId, Site};
use super::script::Script;
use crate::attempt::{Came, Ran};
use crate::decide::cache_error;
use crate::error::StageError;
use crate::event::Event;

/// How long after its death a driver's `sbatch` may still bring a job into the queue.
const LATE: u64 = 30;
/// When what could not be submitted is tried again.
const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(10);

/// What is known of an earlier submission of a stage.
enum Earlier {
    /// It waits or runs as this job of that submission.
    Alive(Arc<Note>, usize, JobId),
    /// It may yet come into the queue.
    Unclear,
    /// There is none, or it came to nothing.
    None,
}

impl Driver<'_> {
    /// Submits what is due. Who submits is alone at it, so that two drivers never submit the same.
    pub(crate) fn submit(&mut self) {
        if self.due.is_empty() || self.not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        self.not_before = None;
        if let Err(error) = self.try_submit() {
            let due = std::mem::take(&mut self.due);
            self.refuse(due, &error);
        }
    }

    fn refuse(&self, tasks: Vec<Task>, error: &StageError) {
        tasks.into_iter().for_each(|task| self.give(task.stage, Err(error.clone())));
    }

    fn try_submit(&mut self) -> Result<(), StageError> {
        let Some(site) = self.known_site()? else { return Ok(()) };
        let _alone = note::lock(&self.engine.store).map_err(|error| cache_error(&error))?;
        let notes: Vec<Arc<Note>> = note::all(self.engine.store.root()).into_iter().map(Arc::new).collect();
        if !notes.is_empty() && !self.ask_now() {
            self.try_again(SOON);
            return Ok(());
        }
        let notes = self.forget_ended(notes, &site);
        let mut fresh = Vec::new();
        let by_key: HashMap<Digest, Arc<Note>> =
            notes.iter().flat_map(|note| note.tasks.iter().map(|(_, key)| (*key, Arc::clone(note)))).collect();
        for task in std::mem::take(&mut self.due) {
            match self.earlier(by_key.get(&task.key), &task) {
                Earlier::Alive(note, number, job) => self.take_up(task, &note, number, job),
                Earlier::Unclear => {
                    self.due.push(task);
                    self.try_again(SOON);
                }
                Earlier::None => fresh.extend(self.unless_done(task)),
            }
        }
        for batch in Batch::of(fresh, site.widest.min(self.narrow)) {
            self.submit_batch(batch, &site);
        }
        Ok(())
    }

    /// What the cluster is; none as long as it does not answer.
    fn known_site(&mut self) -> Result<Option<Site>, StageError> {
        if self.site.is_none() {
            match Site::ask() {
                Ok(site) => self.site = Some(site),
                Err(trouble) if trouble.is_silence() && !self.open.is_empty() => self.try_again(LATER),
                Err(missing @ Trouble::Missing(_)) => return Err(missing.into_error()),
                Err(trouble) => return Err(StageError::environment(format!("the cluster does not answer: {}", trouble.text()))),
            }
        }
        Ok(self.site.clone())
    }

    fn try_again(&mut self, pause: Duration) {
        self.not_before = Some(Instant::now() + pause);
    }

    /// Removes the notes of submissions of which nothing is left; gives the others of this cluster.
    fn forget_ended(&self, notes: Vec<Arc<Note>>, site: &Site) -> Vec<Arc<Note>> {
        let is_left = |note: &Arc<Note>| match note.job.or_else(|| self.queue.find(&note.comment())) {
            None => note.age() <= LATE,
            Some(job) => {
                let found = Note { job: Some(job), ..Note::clone(note) };
                let is_mine = self.open.iter().any(|open| open.note.is_same(note));
                is_mine || (0..note.tasks.len()).filter_map(|task| found.job_of(task)).any(|job| self.queue.is_alive(job))
            }
        };
        let here = notes.into_iter().filter(|note| note.cluster == site.cluster);
        let (left, ended): (Vec<_>, Vec<_>) = here.partition(is_left);
        ended.iter().for_each(|note| note.remove(self.engine.store.root()));
        left
    }

    fn earlier(&self, note: Option<&Arc<Note>>, task: &Task) -> Earlier {
        let Some((note, number)) = note.and_then(|note| Some((note, note.find(&task.key)?))) else { return Earlier::None };
        let Some(job) = note.job.or_else(|| self.queue.find(&note.comment())) else { return Earlier::Unclear };
        let known = Note { job: Some(job), ..Note::clone(note) };
        match known.job_of(number).filter(|job| self.queue.is_alive(*job)) {
            Some(job) => Earlier::Alive(Arc::new(known), number, job),
            None => Earlier::None,
        }
    }

    /// Waits for a job that an earlier driver submitted, or another one.
    fn take_up(&mut self, task: Task, note: &Arc<Note>, number: usize, job: JobId) {
        let by = (note.run != self.run).then(|| note.run.clone());
        self.open_job(task, note, number, job, by);
    }

    fn open_job(&mut self, task: Task, note: &Arc<Note>, number: usize, job: JobId, by: Option<String>) {
        self.observer.event(&Event::Queued { stage: task.name.clone(), key: task.key.to_string(), job: job.to_string(), by });
        self.opened(Open::new(task, note, number, job, self.engine.store.root()));
    }

    /// A job of a driver that died may have ended while this run was deciding.
    fn unless_done(&self, task: Task) -> Option<Task> {
        if task.anew {
            return Some(task);
        }
        let Some(brief) = self.found(&task, |_| true) else { return Some(task) };
        let placed = self.engine.place(&self.engine.pipeline.stages[task.stage], brief.outputs());
        self.give(task.stage, placed.map(|placed| Some(Ran { brief: brief.into(), came: Came::Meanwhile, placed })));
        None
    }

    /// Submits a batch. The note is there first: should this process die now, the next one finds the job by the comment.
    fn submit_batch(&mut self, batch: Batch, site: &Site) {
        let note = Note::new(self.run, self.number, &site.cluster, &batch);
        self.number += 1;
        let files = note.files(self.engine.store.root());
        let submitted = match self.write(&note, &batch, &files) {
            Ok(()) => client::ask("sbatch", &[std::ffi::OsStr::new("--parsable"), files.script().as_os_str()]),
            Err(error) => return self.refuse(batch.tasks, &error),
        };
        match submitted.and_then(|said| job_number(&said)) {
            Ok(job) => self.submitted(batch, Note { job: Some(job), ..note }),
            Err(trouble) if trouble.is_silence() => {
                // It may have been heard: the note stays, and decides when this is tried again.
                self.due.extend(batch.tasks);
                self.try_again(LATER);
            }
            Err(trouble) => {
                note.remove(self.engine.store.root());
                if trouble.is_limit() { self.too_many(batch, &trouble) } else { self.refuse(batch.tasks, &trouble.into_error()) }
            }
        }
    }

    fn write(&self, note: &Note, batch: &Batch, files: &Files) -> Result<(), StageError> {
        let path = files.script();
        let text = Script::new(self.engine, self.cluster, batch, files, self.run, &note.comment()).text();
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder.and_then(|()| std::fs::write(&path, text)).map_err(|error| StageError::io(&path, &error))?;
        note.write(self.engine.store.root()).map_err(|error| cache_error(&error))
    }

    fn submitted(&mut self, batch: Batch, note: Note) {
        // If the number cannot be noted, the comment still finds the job.
        let _ = note.write(self.engine.store.root());
        self.narrow = self.narrow.saturating_mul(2);
        let note = Arc::new(note);
        for (number, task) in batch.tasks.into_iter().enumerate() {
            if let Some(job) = note.job_of(number) {
                self.open_job(task, &note, number, job, None);
            }
        }
    }

    /// The cluster takes no more jobs of this user for now: fewer at once, and later.
    fn too_many(&mut self, batch: Batch, trouble: &Trouble) {
        let is_one = batch.tasks.len() == 1;
        self.narrow = batch.tasks.len().div_ceil(2);
        self.due.extend(batch.tasks);
        self.try_again(if is_one { LATER } else { Duration::ZERO });
        if is_one && !std::mem::replace(&mut self.told_limit, true) {
            self.warn(format!("the cluster takes no more jobs for now: {}; the rest is submitted as jobs end", trouble.text()), None);
        }
    }
}

/// The job's number, in what `sbatch --parsable` says: `12` or `12;cluster`.
fn job_number(said: &str) -> Result<u64, Trouble> {
    let number = said.trim().split(';').next().and_then(|number| number.parse().ok());
    number.ok_or_else(|| Trouble::Refused(format!("it did not say the number of the job: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbatch_says_a_number_and_perhaps_a_cluster() {
        assert_eq!((job_number("12\n"), job_number("12;lab\n")), (Ok(12), Ok(12)));
        assert!(job_number("Submitted batch job").is_err());
    }
}
