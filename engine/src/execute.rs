//! Running a pipeline: settle what is there, run what is not, as far as the resources allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use qapipe_cache::{Digest, Record};

use crate::attempt::{Attempt, Ran};
use crate::decide::{Decider, Keyed, Verdict};
use crate::engine::{Engine, EngineError};
use crate::error::{ErrorClass, StageError};
use crate::event::{Event, Observer};
use crate::journal::Journal;
use crate::resources::{Cost, Resources};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Run id.
    pub run: String,
    /// The stages in question, in topological order.
    pub stages: Vec<StageOutcome>,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

/// What came of one stage.
#[derive(Clone, Debug)]
pub struct StageOutcome {
    /// Stage name.
    pub stage: String,
    /// Its fingerprint, where it became known.
    pub key: Option<Digest>,
    /// Its result, if there is one.
    pub record: Option<Arc<Record>>,
    /// How it got there.
    pub state: StageState,
}

/// How a stage ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageState {
    /// Its result was there.
    Cached,
    /// It ran.
    Ran,
    /// It failed.
    Failed(StageError),
    /// It could not run.
    Blocked,
}

impl Outcome {
    /// Number of stages that ended so.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(&StageState) -> bool) -> usize {
        self.stages.iter().filter(|stage| wanted(&stage.state)).count()
    }

    /// The failures.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &StageError)> {
        self.stages.iter().filter_map(|stage| match &stage.state {
            StageState::Failed(error) => Some((stage.stage.as_str(), error)),
            _ => None,
        })
    }
}

impl Engine {
    /// Brings the selected stages up to date. Stages that fail are in the outcome; what is finished stays finished.
    ///
    /// # Errors
    /// When the store cannot be worked with at all.
    pub fn run(&self, observer: &dyn Observer, cancel: &AtomicBool) -> Result<Outcome, EngineError> {
        let id = run_id();
        let started = Instant::now();
        let journal = Journal::create(&self.store, &id, observer);
        self.store.sweep();
        journal.event(&Event::RunStarted { run: id.clone(), pipeline: self.pipeline.name.clone(), stages: self.selected.len() });
        let mut run = Run::new(self, &journal, cancel, &id);
        run.settle();
        run.go();
        let outcome = run.outcome(started.elapsed().as_secs_f64());
        journal.event(&outcome.last_event());
        self.remember(&outcome);
        Ok(outcome)
    }

    /// Losing these two files costs time and reasons, never results.
    fn remember(&self, outcome: &Outcome) {
        self.last.update(outcome.stages.iter().filter_map(|stage| Some((stage.stage.as_str(), stage.record.as_ref()?.fingerprint))));
        let _ = self.stats.save();
    }
}

impl Outcome {
    fn last_event(&self) -> Event {
        Event::RunFinished {
            ran: self.count(|state| *state == StageState::Ran),
            cached: self.count(|state| *state == StageState::Cached),
            failed: self.count(|state| matches!(state, StageState::Failed(_))),
            blocked: self.count(|state| *state == StageState::Blocked),
            seconds: self.seconds,
        }
    }
}

/// `20261123-134502-7f3a`: sorts by time, in UTC.
fn run_id() -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let salt = Digest::of_bytes(format!("{} {now:?}", std::process::id()).as_bytes());
    format!("{}-{}", now.strftime("%Y%m%d-%H%M%S%3f"), &salt.short()[..4])
}

/// Where a stage stands.
#[derive(Clone, Debug)]
enum State {
    /// Nothing is decided yet.
    Open,
    /// Its inputs are known and it has to run.
    Ready(Arc<Keyed>),
    /// It runs.
    Running(Arc<Keyed>),
    /// Its result is there.
    Done { record: Arc<Record>, ran: bool },
    /// It failed.
    Failed(StageError, Option<Digest>),
    /// It cannot run.
    Blocked,
}

struct Run<'a> {
    engine: &'a Engine,
    observer: &'a dyn Observer,
    cancel: &'a AtomicBool,
    id: &'a str,
    states: Vec<State>,
    /// After a failure no new stage starts, unless the user asked to keep going.
    stopping: bool,
}

type Message = (usize, Result<Ran, StageError>, f64);

impl<'a> Run<'a> {
    fn new(engine: &'a Engine, observer: &'a dyn Observer, cancel: &'a AtomicBool, id: &'a str) -> Self {
        Self { engine, observer, cancel, id, states: vec![State::Open; engine.pipeline.stages.len()], stopping: false }
    }

    /// Takes everything that is there already.
    fn settle(&mut self) {
        let mut settled = Decider::new(self.engine).settle();
        for &stage in &self.engine.selected {
            if let Some(decided) = settled[stage].take() {
                self.take(stage, decided);
            }
        }
    }

    /// Runs what is left, side by side as far as the resources allow.
    fn go(&mut self) {
        let (sender, receiver) = mpsc::channel::<Message>();
        let mut resources = Resources::new(self.engine.options.jobs);
        std::thread::scope(|scope| {
            let mut running = 0;
            loop {
                self.decide_open();
                for (stage, keyed) in self.startable(&mut resources) {
                    self.start(scope, stage, &keyed, &sender);
                    running += 1;
                }
                if running == 0 {
                    break;
                }
                let Some((stage, result, seconds)) = self.next(&receiver) else { break };
                running -= 1;
                resources.release(stage);
                self.finish(stage, result, seconds);
            }
        });
        self.block_rest();
    }

    fn next(&self, receiver: &mpsc::Receiver<Message>) -> Option<Message> {
        loop {
            match receiver.recv_timeout(Duration::from_millis(200)) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Decides every open stage whose upstream results are there.
    fn decide_open(&mut self) {
        for &stage in &self.engine.selected {
            if !matches!(self.states[stage], State::Open) {
                continue;
            }
            let upstream = self.engine.graph.dependencies(stage);
            if upstream.iter().all(|&upstream| self.record(upstream).is_some()) {
                let decided = Decider::new(self.engine).decide(stage, &|upstream| self.record(upstream).map(AsRef::as_ref));
                self.take(stage, decided);
            }
        }
    }

    fn record(&self, stage: usize) -> Option<&Arc<Record>> {
        match &self.states[stage] {
            State::Done { record, .. } => Some(record),
            _ => None,
        }
    }

    fn name(&self, stage: usize) -> String {
        self.engine.pipeline.stages[stage].name.clone()
    }

    fn take(&mut self, stage: usize, decided: Result<Keyed, StageError>) {
        match decided {
            Err(error) => self.fail(stage, error, None),
            Ok(Keyed { key, verdict: Verdict::Cached(record), .. }) => {
                self.observer.event(&Event::Cached { stage: self.name(stage), key: key.to_string() });
                self.settled(stage, record, false);
            }
            Ok(keyed) => {
                if let Verdict::Run { damage: Some(damage), .. } = &keyed.verdict {
                    self.observer.event(&Event::Damaged { stage: self.name(stage), what: damage.to_string() });
                    let _ = self.engine.store.set_aside(&damage.artifact);
                }
                self.states[stage] = State::Ready(Arc::new(keyed));
            }
        }
    }

    fn settled(&mut self, stage: usize, record: Arc<Record>, ran: bool) {
        match self.engine.place(&self.engine.pipeline.stages[stage], &record) {
            Ok(restored) => {
                for path in restored.into_iter().filter(|_| !ran) {
                    self.observer.event(&Event::Restored { stage: self.name(stage), path });
                }
                self.states[stage] = State::Done { record, ran };
            }
            Err(error) => {
                let key = record.fingerprint;
                self.fail(stage, error, Some(key));
            }
        }
    }

    /// Ready stages, in the order of the pipeline, for which there is room now.
    fn startable(&self, resources: &mut Resources) -> Vec<(usize, Arc<Keyed>)> {
        if self.stopping || self.cancel.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let ready = self.engine.selected.iter().filter_map(|&stage| match &self.states[stage] {
            State::Ready(keyed) => Some((stage, Arc::clone(keyed))),
            _ => None,
        });
        ready
            .filter_map(|(stage, keyed)| {
                let cost = Cost::of(self.engine, &self.engine.pipeline.stages[stage]);
                resources.take(stage, cost).then_some((stage, keyed))
            })
            .collect()
    }

    fn start<'scope>(
        &mut self,
        scope: &'scope std::thread::Scope<'scope, '_>,
        stage: usize,
        keyed: &Arc<Keyed>,
        sender: &mpsc::Sender<Message>,
    ) where
        'a: 'scope,
    {
        self.states[stage] = State::Running(Arc::clone(keyed));
        let upstream = self.engine.graph.dependencies(stage).into_iter();
        let upstream = upstream.filter_map(|index| Some((index, Arc::clone(self.record(index)?)))).collect();
        let (keyed, sender) = (Arc::clone(keyed), sender.clone());
        let (engine, observer, cancel, run) = (self.engine, self.observer, self.cancel, self.id);
        scope.spawn(move || {
            let spec = &engine.pipeline.stages[stage];
            let because = match &keyed.verdict {
                Verdict::Run { reason, .. } => reason.to_string(),
                Verdict::Cached(_) => String::new(),
            };
            let forced = engine.options.force.contains(&spec.name);
            let started = Instant::now();
            let result = Attempt { engine, observer, cancel, run, spec, keyed: &keyed, upstream, because, forced }.execute();
            // The run has ended if nobody listens.
            let _ = sender.send((stage, result, started.elapsed().as_secs_f64()));
        });
    }

    fn finish(&mut self, stage: usize, result: Result<Ran, StageError>, seconds: f64) {
        match result {
            Ok(Ran::Elsewhere(record)) => {
                self.observer.event(&Event::Cached { stage: self.name(stage), key: record.fingerprint.to_string() });
                self.settled(stage, Arc::new(record), false);
            }
            Ok(Ran::Fresh(record)) => {
                let unchanged = self.engine.last_record(&self.name(stage)).is_some_and(|last| last.outputs == record.outputs);
                self.observer.event(&Event::Finished {
                    stage: self.name(stage),
                    key: record.fingerprint.to_string(),
                    outputs: record.outputs.clone(),
                    seconds,
                    unchanged,
                });
                self.settled(stage, Arc::new(record), true);
            }
            Err(error) => {
                let key = match &self.states[stage] {
                    State::Running(keyed) => Some(keyed.key),
                    _ => None,
                };
                self.fail(stage, error, key);
            }
        }
    }

    /// A changed input is the user at work, not a failure of the experiment: what does not depend on it goes on.
    fn fail(&mut self, stage: usize, error: StageError, key: Option<Digest>) {
        self.stopping |= error.class != ErrorClass::Stale && !self.engine.options.keep_going;
        self.observer.event(&Event::Failed { stage: self.name(stage), error: error.clone() });
        self.states[stage] = State::Failed(error, key);
    }

    fn block_rest(&mut self) {
        for &stage in &self.engine.selected {
            if matches!(self.states[stage], State::Open | State::Ready(_) | State::Running(_)) {
                let guilty = |upstream: &usize| matches!(self.states[*upstream], State::Failed(..) | State::Blocked);
                let by = self.engine.graph.dependencies(stage).into_iter().find(guilty).map(|upstream| self.name(upstream));
                self.observer.event(&Event::Blocked { stage: self.name(stage), by: by.unwrap_or_default() });
                self.states[stage] = State::Blocked;
            }
        }
    }

    fn outcome(&self, seconds: f64) -> Outcome {
        let stages = self.engine.selected.iter().map(|&stage| {
            let (key, record, state) = match &self.states[stage] {
                State::Done { record, ran } => {
                    (Some(record.fingerprint), Some(Arc::clone(record)), if *ran { StageState::Ran } else { StageState::Cached })
                }
                State::Failed(error, key) => (*key, None, StageState::Failed(error.clone())),
                _ => (None, None, StageState::Blocked),
            };
            StageOutcome { stage: self.name(stage), key, record, state }
        });
        Outcome { run: self.id.to_owned(), stages: stages.collect(), seconds, interrupted: self.cancel.load(Ordering::Relaxed) }
    }
}
