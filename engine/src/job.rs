//! One stage as a job: run by itself, for a driver that waits elsewhere.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use qapipe_cache::{Brief, Digest};

use crate::attempt::{Attempt, Came, Ran};
use crate::decide::{Decider, Keyed, Verdict};
use crate::engine::Engine;
use crate::error::{ErrorClass, StageError};
use crate::event::{Event, Observer};
use crate::resources::Slot;
use crate::worker::Workers;

/// What a driver tells a job.
#[derive(Clone, Debug)]
pub struct Job {
    /// The key that the stage is to come out with.
    pub expect: Digest,
    /// The driver's run, which the result is said to be of.
    pub run: String,
    /// Where the events go.
    pub events: PathBuf,
}

impl Engine {
    /// Runs one stage for a driver. What it reads has to be in the store: the driver saw to that, and alone decides about other stages, the tables
    /// and what a stage gave last.
    ///
    /// # Errors
    /// Why the stage failed; the driver is told by an event as well.
    pub fn run_job(&self, stage: &str, job: &Job, observer: &dyn Observer, cancel: &AtomicBool) -> Result<(), StageError> {
        let diary = Diary::open(&job.events, observer);
        let failed = |error: &StageError| diary.event(&Event::Failed { stage: stage.to_owned(), error: error.clone() });
        let ran = self.attempt_job(stage, job, &diary, cancel).inspect_err(failed)?;
        ran.placed.iter().filter_map(|output| output.kept(stage)).for_each(|event| diary.event(&event));
        let key = ran.brief.fingerprint.to_string();
        diary.event(&match ran.came {
            Came::Computed(fresh) => Event::Finished {
                stage: stage.to_owned(),
                key,
                outputs: ran.brief.outputs().clone(),
                seconds: fresh.seconds,
                unchanged: fresh.unchanged,
            },
            Came::Meanwhile | Came::Fetched { .. } => Event::Cached { stage: stage.to_owned(), key },
        });
        let _ = self.stats.save();
        Ok(())
    }

    fn attempt_job(&self, stage: &str, job: &Job, observer: &dyn Observer, cancel: &AtomicBool) -> Result<Ran, StageError> {
        let index = self.pipeline.index(stage).ok_or_else(|| StageError::bug(format!("no stage `{stage}`")))?;
        let settled = Decider::new(self).settle();
        let keyed = settled[index].clone().ok_or_else(upstream_is_gone)??;
        self.expected(&keyed, job)?;
        let upstream = self.graph.dependencies(index).into_iter();
        let here = |index: usize| match &settled[index] {
            Some(Ok(Keyed { verdict: Verdict::Cached(brief), .. })) => Ok((index, Arc::<Brief>::clone(brief))),
            _ => Err(upstream_is_gone()),
        };
        let upstream = upstream.map(here).collect::<Result<_, _>>()?;
        let (workers, spec) = (Workers::default(), &self.pipeline.stages[index]);
        let slot = Slot::alone(self, spec);
        let attempt =
            Attempt { engine: self, observer, cancel, workers: &workers, run: &job.run, spec, keyed: &keyed, slot: &slot, upstream };
        attempt.execute()?.ok_or_else(|| StageError::bug("a job fetched its result"))
    }

    /// What was edited since the stage was submitted must not be computed under the name of what was submitted.
    fn expected(&self, keyed: &Keyed, job: &Job) -> Result<(), StageError> {
        if keyed.key == job.expect {
            return Ok(());
        }
        let (now, then) = (keyed.key.short(), job.expect.short());
        let error = StageError::new(ErrorClass::Stale, format!("the stage is no longer what was submitted (key {now}, then {then})"));
        let edited = "the pipeline or a file that it reads was edited since: run again";
        Err(match &keyed.device {
            None => error.help(edited),
            Some(device) => error.help(format!(
                "{edited}; or the node differs from what the driver took for granted: with `numerics = \"strict\"` the key hangs on it ({device}), \
                 so give --device and --jobs as they are there"
            )),
        })
    }
}

fn upstream_is_gone() -> StageError {
    StageError::new(ErrorClass::Stale, "what the stage reads is no longer in the store, or changed since it was submitted")
        .help("run again")
}

/// Writes events to a file as they come, and passes them on. What cannot be written is lost silently: the result is what counts.
struct Diary<'a> {
    file: Mutex<(Option<File>, Option<Instant>)>,
    next: &'a dyn Observer,
}

/// Progress is for people: it is written no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

impl<'a> Diary<'a> {
    /// Goes on in a file that is there: a job may be started again.
    fn open(path: &Path, next: &'a dyn Observer) -> Self {
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let file = folder.and_then(|()| OpenOptions::new().create(true).append(true).open(path)).ok();
        Self { file: Mutex::new((file, None)), next }
    }
}

impl Observer for Diary<'_> {
    fn event(&self, event: &Event) {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, progress) = &mut *guard;
        let is_progress = matches!(event, Event::Progress { .. });
        let is_due = !is_progress || progress.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY);
        if let Some(file) = file.as_mut().filter(|_| is_due) {
            let mut line = serde_json::to_vec(event).unwrap_or_default();
            line.push(b'\n');
            let _ = file.write_all(&line);
            if is_progress {
                *progress = Some(Instant::now());
            }
        }
        self.next.event(event);
    }
}
