//! A job that is not known to have ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Task;
use super::follow::Follow;
use super::note::Note;
use super::queue::{Account, JobId, Phase};
use crate::attempt::Fresh;
use crate::error::{ErrorClass, StageError};
use crate::event::{Event, Observer};

/// A stage that is a job now.
pub(crate) struct Open {
    pub(crate) task: Task,
    /// The submission, and which of its tasks this is.
    pub(crate) note: Arc<Note>,
    pub(crate) number: usize,
    pub(crate) job: JobId,
    pub(crate) phase: Phase,
    /// Since when Slurm says that it has ended, or knows it no more.
    ended: Option<Instant>,
    follow: Follow,
    said: Said,
}

/// What a job has said of its end.
#[derive(Debug, Default)]
struct Said {
    computed: Option<(f64, bool)>,
    found: bool,
    failed: Option<StageError>,
}

/// The file system of the nodes may show here what is there some seconds late. A job that says that all is well has more time.
const PATIENCE: Duration = Duration::from_secs(5);
const TRUST: Duration = Duration::from_secs(60);

impl Open {
    pub(crate) fn new(task: Task, note: &Arc<Note>, number: usize, job: JobId, root: &std::path::Path) -> Self {
        let follow = Follow::new(note.files(root).events(&number.to_string()));
        let said = Said::default();
        Self { task, note: Arc::clone(note), number, job, phase: Phase::Waiting, ended: None, follow, said }
    }

    /// Takes over what Slurm says; whether that is something new.
    pub(crate) fn stands(&mut self, phase: Option<&Phase>) -> bool {
        let has_ended = phase.is_none_or(Phase::has_ended);
        self.ended = if has_ended { self.ended.or_else(|| Some(Instant::now())) } else { None };
        let Some(phase) = phase else { return false };
        std::mem::replace(&mut self.phase, phase.clone()) != *phase
    }

    /// Passes on what the job has said since. How it ended is kept: the run tells that itself, once the result is seen here.
    pub(crate) fn listen(&mut self, observer: &dyn Observer) {
        if self.phase == Phase::Waiting && self.ended.is_none() {
            return;
        }
        for event in self.follow.news() {
            match event {
                Event::Finished { seconds, unchanged, .. } => self.said.computed = Some((seconds, unchanged)),
                Event::Cached { .. } => self.said.found = true,
                Event::Failed { error, .. } => self.said.failed = Some(error),
                other => {
                    if let Event::Started { .. } = other {
                        // What was requeued begins anew.
                        self.said = Said::default();
                    }
                    observer.event(&other);
                }
            }
        }
    }

    /// Why the stage failed, if it said so. That it was stopped says nothing: Slurm knows why, and may start it again.
    pub(crate) fn failure(&self) -> Option<&StageError> {
        self.said.failed.as_ref().filter(|error| error.class != ErrorClass::Interrupted)
    }

    /// Whether it is worth looking for its result.
    pub(crate) fn may_be_done(&self) -> bool {
        self.said.computed.is_some() || self.said.found || self.ended.is_some()
    }

    /// Whether it found its result computed already.
    pub(crate) fn found(&self) -> bool {
        self.said.found
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether what it gave, if it gave anything, would have been seen here by now.
    pub(crate) fn is_lost(&self) -> bool {
        let patience = if self.said.computed.is_some() || self.said.found { TRUST } else { PATIENCE };
        self.ended.is_some_and(|since| since.elapsed() > patience)
    }

    /// How Slurm said that it ended, as long as it knew.
    pub(crate) fn account(&self) -> Option<Account> {
        let Phase::Ended(ending) = &self.phase else { return None };
        Some(Account { ending: ending.clone(), code: 1, signal: 0 })
    }

    /// What it said of its execution; else what the record says.
    pub(crate) fn fresh(&self, wall_seconds: Option<f64>) -> Fresh {
        let (seconds, unchanged) = self.said.computed.unwrap_or((wall_seconds.unwrap_or_default(), false));
        Fresh { seconds, unchanged }
    }
}
