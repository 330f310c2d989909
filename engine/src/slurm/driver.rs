//! The one thread that submits, asks the queue, and gives back what became of each job.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use qapipe_cache::{Brief, Digest};

use super::Cluster;
use super::batch::Task;
use super::open::Open;
use super::queue::{Account, Queue, Site};
use super::wants::Wants;
use super::{aftermath, client};
use crate::attempt::{Came, Ran};
use crate::engine::Engine;
use crate::error::{ErrorClass, StageError};
use crate::event::{Event, Observer};
use crate::execute::Message;

/// A stage that has to run, and whether although its result is there.
pub(crate) struct Due {
    pub(crate) stage: usize,
    pub(crate) key: Digest,
    pub(crate) anew: bool,
}

/// How often running jobs are listened to.
const TICK: Duration = Duration::from_millis(500);
/// Cells become ready one after the other: so long after the last one they are submitted together, but no later than so long after the first.
const QUIET: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(2);
/// How often the queue is asked: at first, and at least.
const EAGER: Duration = Duration::from_secs(1);
const CALM: Duration = Duration::from_secs(10);
/// A job that was told to end has this long. Slurm gives it half a minute before it kills.
const CANCELLED: Duration = Duration::from_secs(90);

/// What the thread works with.
pub(crate) struct Driver<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) cluster: &'a Cluster,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) cancel: &'a AtomicBool,
    pub(crate) run: &'a str,
    pub(crate) results: Sender<Message>,
    /// Stages that are not submitted yet.
    pub(crate) due: Vec<Task>,
    /// Not before then.
    pub(crate) not_before: Option<Instant>,
    pub(crate) open: Vec<Open>,
    pub(crate) queue: Queue,
    asked: Option<Instant>,
    pause: Duration,
    /// Times in a row that the queue could not be asked.
    silent: usize,
    pub(crate) site: Option<Site>,
    /// Submissions so far.
    pub(crate) number: usize,
    /// Most tasks in an array for now: less than the cluster allows, where the user may not have so many jobs.
    pub(crate) narrow: usize,
    pub(crate) told_limit: bool,
    /// Submissions of which it was told that they wait in vain.
    told_stuck: HashSet<String>,
    cancelled: Option<Instant>,
}

/// Serves a run on a thread of its own, if a cluster is to run its stages. The thread ends once what this gives is dropped.
pub(crate) fn start<'scope, 'a: 'scope>(
    scope: &'scope Scope<'scope, '_>,
    engine: &'a Engine,
    (observer, cancel): (&'a dyn Observer, &'a AtomicBool),
    run: &'a str,
    results: &Sender<Message>,
) -> Option<Sender<Vec<Due>>> {
    let cluster = engine.options.cluster.as_ref()?;
    let (sender, inbox) = channel();
    let driver = Driver {
        engine,
        cluster,
        observer,
        cancel,
        run,
        results: results.clone(),
        due: Vec::new(),
        not_before: None,
        open: Vec::new(),
        queue: Queue::default(),
        asked: None,
        pause: EAGER,
        silent: 0,
        site: None,
        number: 0,
        narrow: usize::MAX,
        told_limit: false,
        told_stuck: HashSet::new(),
        cancelled: None,
    };
    scope.spawn(move || driver.serve(&inbox));
    Some(sender)
}

impl Driver<'_> {
    /// Serves until no more stages come and all have come to an end.
    fn serve(mut self, inbox: &Receiver<Vec<Due>>) {
        while self.collect(inbox) {
            self.obey();
            self.submit();
            self.ask_queue();
            self.listen();
            self.settle();
        }
    }

    /// Waits for stages, or for the time to look at the jobs again; whether there is anything to do.
    fn collect(&mut self, inbox: &Receiver<Vec<Due>>) -> bool {
        let is_idle = self.due.is_empty() && self.open.is_empty();
        let first = if is_idle { inbox.recv().map_err(|_| RecvTimeoutError::Disconnected) } else { inbox.recv_timeout(TICK) };
        let started = Instant::now();
        match first {
            Ok(due) => self.take(due),
            Err(RecvTimeoutError::Disconnected) if is_idle => return false,
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
            Err(RecvTimeoutError::Timeout) => return true,
        }
        while started.elapsed() < LATEST
            && let Ok(due) = inbox.recv_timeout(QUIET)
        {
            self.take(due);
        }
        true
    }

    fn take(&mut self, due: Vec<Due>) {
        let task = |Due { stage, key, anew }: Due| {
            let spec = &self.engine.pipeline.stages[stage];
            Task { stage, name: spec.name.clone(), key, anew, wants: Wants::of(self.engine, spec, self.cluster) }
        };
        self.due.extend(due.into_iter().map(task));
        self.due.sort_by_key(|task| task.stage);
    }

    pub(crate) fn give(&self, stage: usize, result: Result<Option<Ran>, StageError>) {
        // The run has ended if nobody listens.
        let _ = self.results.send((stage, result));
    }

    pub(crate) fn warn(&self, message: String, help: Option<String>) {
        self.observer.event(&Event::Warning { message, help });
    }

    /// Does what the user wants to become of the jobs.
    fn obey(&mut self) {
        if self.cancel.load(Ordering::Relaxed) {
            for task in std::mem::take(&mut self.due) {
                self.give(task.stage, Err(StageError::interrupted()));
            }
        }
        if self.cluster.orders.is_leave() {
            for open in std::mem::take(&mut self.open) {
                let message = format!("job {} goes on in the cluster; the same command waits for it again", open.job);
                self.give(open.task.stage, Err(StageError::new(ErrorClass::Interrupted, message)));
            }
        } else if self.cluster.orders.is_cancel() && self.cancelled.is_none() && !self.open.is_empty() {
            self.cancelled = Some(Instant::now());
            self.cancel_jobs();
        }
    }

    fn cancel_jobs(&mut self) {
        const AT_ONCE: usize = 500;
        let jobs: Vec<String> = self.open.iter().map(|open| open.job.to_string()).collect();
        for some in jobs.chunks(AT_ONCE) {
            if let Err(trouble) = client::ask("scancel", some) {
                self.warn(format!("scancel: {}", trouble.text()), None);
            }
        }
        (self.asked, self.pause) = (None, EAGER);
    }

    /// Asks the queue if it is time to, more rarely while nothing changes.
    fn ask_queue(&mut self) {
        if self.open.is_empty() || self.asked.is_some_and(|asked| asked.elapsed() < self.pause) {
            return;
        }
        self.asked = Some(Instant::now());
        if !self.ask_now() {
            return;
        }
        self.tell_stuck();
        let queue = &self.queue;
        let changes = self.open.iter_mut().filter_map(|open| open.stands(queue.phase(open.job)).then_some(())).count();
        self.pause = if changes > 0 { EAGER } else { (self.pause * 3 / 2).min(CALM) };
    }

    /// Tells, once of each submission, that it waits in vain.
    fn tell_stuck(&mut self) {
        for open in &self.open {
            let Some(reason) = self.queue.stuck(open.job) else { continue };
            if self.told_stuck.insert(open.note.id()) {
                let message = format!("job {} of {} will not start by itself: {reason}", open.job, open.task.name);
                self.warn(message, Some(format!("`scontrol show job {}` says more; Ctrl-C twice cancels it", open.job)));
            }
        }
    }

    /// Asks the queue now; whether it answered. Jobs go on while it does not.
    pub(crate) fn ask_now(&mut self) -> bool {
        const BEFORE_TOLD: usize = 3;
        match Queue::ask() {
            Ok(queue) => (self.queue, self.silent) = (queue, 0),
            Err(trouble) => {
                self.silent += 1;
                if self.silent == BEFORE_TOLD {
                    self.warn(format!("squeue does not answer: {}; jobs go on meanwhile", trouble.text()), None);
                }
            }
        }
        self.silent == 0
    }

    /// What is new is looked at soon.
    pub(crate) fn opened(&mut self, open: Open) {
        self.open.push(open);
        self.pause = EAGER;
    }

    fn listen(&mut self) {
        let observer = self.observer;
        self.open.iter_mut().for_each(|open| open.listen(observer));
    }

    /// Gives back what has come to an end.
    fn settle(&mut self) {
        let mut ended = Vec::new();
        for open in std::mem::take(&mut self.open) {
            match self.verdict(&open) {
                None => self.open.push(open),
                Some(result) => {
                    self.give(open.task.stage, result);
                    ended.push(open);
                }
            }
        }
        ended.iter().for_each(|open| self.retire(open));
    }

    /// What became of a job, once that is known.
    fn verdict(&self, open: &Open) -> Option<Result<Option<Ran>, StageError>> {
        if let Some(error) = open.failure() {
            return Some(Err(error.clone()));
        }
        if let Some(result) = open.may_be_done().then(|| self.result(open)).flatten() {
            return Some(result.map(Some));
        }
        if let Some(since) = self.cancelled
            && (open.has_ended() || since.elapsed() > CANCELLED)
        {
            return Some(Err(StageError::new(ErrorClass::Interrupted, format!("job {} was cancelled", open.job))));
        }
        open.is_lost().then(|| Err(self.loss(open)))
    }

    /// The result, if it is here. Of a stage that was to run anew, the one of its own run.
    fn result(&self, open: &Open) -> Option<Result<Ran, StageError>> {
        let brief = self.found(&open.task, |brief| !open.task.anew || brief.record().is_some_and(|record| record.run == open.note.run))?;
        let came = if open.found() { Came::Meanwhile } else { Came::Computed(open.fresh(brief.short.wall_seconds)) };
        let placed = self.engine.place(&self.engine.pipeline.stages[open.task.stage], brief.outputs());
        Some(placed.map(|placed| Ran { brief: brief.into(), came, placed }))
    }

    /// A stage's result that is meant, if all of it is here. It is used from now on.
    pub(crate) fn found(&self, task: &Task, is_meant: impl Fn(&Brief) -> bool) -> Option<Brief> {
        let store = &self.engine.store;
        let guard = store.hold();
        let brief = store.use_record(&task.key).ok().flatten().filter(|brief| is_meant(brief) && store.is_whole(brief.outputs()))?;
        self.engine.go_on_using(guard, &[brief.fingerprint]);
        Some(brief)
    }

    /// Why there is no result.
    fn loss(&self, open: &Open) -> StageError {
        let has_accounting = self.site.as_ref().is_some_and(|site| site.has_accounting);
        let account = Account::ask(open.job, has_accounting).or_else(|| open.account());
        aftermath::error(
            &open.job.to_string(),
            account.as_ref(),
            &open.note.files(self.engine.store.root()).output(&open.number.to_string()),
        )
    }

    /// The note of a submission goes with the last of its jobs. Jobs of it that are nothing to this run keep it.
    fn retire(&self, last: &Open) {
        let mine = self.open.iter().any(|open| open.note.is_same(&last.note));
        let others = (0..last.note.tasks.len())
            .any(|task| task != last.number && last.note.job_of(task).is_some_and(|job| self.queue.is_alive(job)));
        if !mine && !others {
            last.note.remove(self.engine.store.root());
        }
    }
}
