//! Running a pipeline: settle what is there, run what is not, as far as the resources allow.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::Scope;
use std::time::Instant;

use qapipe_cache::{Digest, Record};

use crate::attempt::{Attempt, Ran};
use crate::decide::{Decider, Keyed, Verdict};
use crate::engine::{Engine, EngineError};
use crate::error::{ErrorClass, StageError};
use crate::event::{Event, Observer};
use crate::journal::Journal;
use crate::outcome::{Outcome, StageOutcome, StageState};
use crate::pipeline::Source;
use crate::placed::Written;
use crate::resources::{Cost, Resources};

impl Engine {
    /// Brings the selected stages up to date. Stages that fail are in the outcome; what is finished stays finished.
    ///
    /// # Errors
    /// When the store cannot be worked with at all.
    pub fn run(&self, observer: &dyn Observer, cancel: &AtomicBool) -> Result<Outcome, EngineError> {
        let id = run_id();
        let started = Instant::now();
        let journal = Journal::create(&self.store, &id, observer);
        journal.note_aliases(&self.pipeline);
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

/// `20261123-134502123-7f3a`: sorts by time, in UTC.
fn run_id() -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let salt = Digest::of_bytes(format!("{} {now:?}", std::process::id()).as_bytes());
    format!("{}-{}", now.strftime("%Y%m%d-%H%M%S%3f"), &salt.short()[..4])
}

/// Where a stage stands.
#[derive(Clone, Debug)]
enum State {
    /// Not asked for.
    Outside,
    /// Nothing is decided yet.
    Open,
    /// Its inputs are known and it has to run, or to wait for an equal stage that has to.
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
    /// For each stage, how many of those that it reads from have no result yet.
    missing: Vec<usize>,
    /// Stages of which the last upstream result has just come.
    decidable: Vec<usize>,
    /// Stages that are `Ready`, in the order of the file.
    ready: BTreeSet<usize>,
    /// For each key that one stage is to compute, the other stages that wait for that: two of one run never meet at the lock.
    equals: HashMap<Digest, Vec<usize>>,
    /// After a failure no new stage starts, unless it was one of a matrix, or the user asked to keep going.
    stopping: bool,
}

type Message = (usize, Result<Ran, StageError>);

impl<'a> Run<'a> {
    fn new(engine: &'a Engine, observer: &'a dyn Observer, cancel: &'a AtomicBool, id: &'a str) -> Self {
        let count = engine.pipeline.stages.len();
        let (mut states, mut missing) = (vec![State::Outside; count], vec![0; count]);
        for &stage in &engine.selected {
            states[stage] = State::Open;
            missing[stage] = engine.graph.dependencies(stage).len();
        }
        let (decidable, ready, equals) = (Vec::new(), BTreeSet::new(), HashMap::new());
        Self { engine, observer, cancel, id, states, missing, decidable, ready, equals, stopping: false }
    }

    /// Takes everything that is there already.
    fn settle(&mut self) {
        let mut settled = Decider::new(self.engine).settle();
        let mut placed = self.engine.place_all(&settled);
        for &stage in &self.engine.selected {
            match (settled[stage].take(), placed[stage].take()) {
                (Some(Ok(Keyed { verdict: Verdict::Cached(record), .. })), Some(placed)) => self.cached(stage, record, placed),
                (Some(decided), _) => self.take(stage, decided),
                (None, _) => {}
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
                running += self.start_ready(scope, &mut resources, &sender);
                if running > 0 {
                    let Ok((stage, result)) = receiver.recv() else { break };
                    running -= 1;
                    resources.release(stage);
                    self.finish(stage, result);
                } else if self.decidable.is_empty() {
                    break;
                }
            }
        });
        self.block_rest();
    }

    fn is_stopping(&self) -> bool {
        self.stopping || self.cancel.load(Ordering::Relaxed)
    }

    /// Decides every open stage whose upstream results have come.
    fn decide_open(&mut self) {
        while let Some(stage) = self.decidable.pop() {
            if matches!(self.states[stage], State::Open) {
                let decided = self.decide(stage);
                self.take(stage, decided);
            }
        }
    }

    fn decide(&self, stage: usize) -> Result<Keyed, StageError> {
        Decider::new(self.engine).decide(stage, &|upstream| self.record(upstream).map(AsRef::as_ref))
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
            Ok(Keyed { verdict: Verdict::Cached(record), .. }) => {
                let placed = self.engine.place(&self.engine.pipeline.stages[stage], &record);
                self.cached(stage, record, placed);
            }
            Ok(keyed) => self.line_up(stage, keyed),
        }
    }

    /// Makes a stage ready, unless an equal one is to compute its result.
    fn line_up(&mut self, stage: usize, keyed: Keyed) {
        match self.equals.entry(keyed.key) {
            Entry::Occupied(mut equals) => equals.get_mut().push(stage),
            Entry::Vacant(equals) => {
                equals.insert(Vec::new());
                self.ready.insert(stage);
            }
        }
        self.states[stage] = State::Ready(Arc::new(keyed));
    }

    /// No stage computes this key any more. Those that waited for it take the result if this run computed it, even where they are forced:
    /// it is new. Otherwise they are decided anew.
    fn release(&mut self, key: Digest, computed: Option<&Arc<Record>>) {
        for stage in self.equals.remove(&key).unwrap_or_default() {
            let mut decided = self.decide(stage);
            if let (Ok(keyed), Some(record)) = (&mut decided, computed)
                && keyed.key == key
            {
                keyed.verdict = Verdict::Cached(Arc::clone(record));
            }
            self.take(stage, decided);
        }
    }

    fn cached(&mut self, stage: usize, record: Arc<Record>, placed: Result<Vec<Written>, StageError>) {
        let key = record.fingerprint;
        self.observer.event(&Event::Cached { stage: self.name(stage), key: key.to_string() });
        match placed {
            Ok(written) => {
                let name = self.name(stage);
                written.iter().for_each(|output| self.observer.event(&output.restored(&name)));
                self.tell_kept(&name, &written);
                self.done(stage, record, false);
            }
            Err(error) => self.fail(stage, error, Some(key)),
        }
    }

    fn tell_kept(&self, stage: &str, written: &[Written]) {
        written.iter().filter_map(|output| output.kept(stage)).for_each(|event| self.observer.event(&event));
    }

    fn done(&mut self, stage: usize, record: Arc<Record>, ran: bool) {
        self.states[stage] = State::Done { record, ran };
        for next in self.engine.graph.dependents(stage) {
            self.missing[next] = self.missing[next].saturating_sub(1);
            if self.missing[next] == 0 && matches!(self.states[next], State::Open) {
                self.decidable.push(next);
            }
        }
    }

    /// Starts ready stages for which there is room now; gives how many.
    fn start_ready<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, resources: &mut Resources, sender: &mpsc::Sender<Message>) -> usize
    where
        'a: 'scope,
    {
        let mut started = 0;
        while let Some(stage) = self.next_with_room(resources) {
            self.ready.remove(&stage);
            match self.as_of_now(stage) {
                Some(keyed) => {
                    self.start(scope, stage, keyed, sender.clone());
                    started += 1;
                }
                None => resources.release(stage),
            }
        }
        started
    }

    fn next_with_room(&self, resources: &mut Resources) -> Option<usize> {
        if self.is_stopping() || resources.are_used_up() {
            return None;
        }
        let spec = |stage: usize| &self.engine.pipeline.stages[stage];
        self.ready.iter().copied().find(|&stage| resources.take(stage, Cost::of(self.engine, spec(stage))))
    }

    /// A stage may have waited long for its turn. If files that it reads were edited meanwhile, it is decided anew.
    fn as_of_now(&mut self, stage: usize) -> Option<Arc<Keyed>> {
        let State::Ready(keyed) = &self.states[stage] else { return None };
        let keyed = Arc::clone(keyed);
        let reads_files = self.engine.pipeline.stages[stage].inputs.iter().any(|input| matches!(input.source, Source::Path(_)));
        if !reads_files {
            return Some(keyed);
        }
        match self.decide(stage) {
            Ok(now) if now.key == keyed.key => Some(keyed),
            decided => {
                self.take(stage, decided);
                self.release(keyed.key, None);
                None
            }
        }
    }

    fn start<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, stage: usize, keyed: Arc<Keyed>, sender: mpsc::Sender<Message>)
    where
        'a: 'scope,
    {
        self.states[stage] = State::Running(Arc::clone(&keyed));
        let upstream = self.engine.graph.dependencies(stage).into_iter();
        let upstream = upstream.filter_map(|index| Some((index, Arc::clone(self.record(index)?)))).collect();
        let (engine, observer, cancel, run) = (self.engine, self.observer, self.cancel, self.id);
        scope.spawn(move || {
            let attempt = Attempt { engine, observer, cancel, run, spec: &engine.pipeline.stages[stage], keyed: &keyed, upstream };
            // The run has ended if nobody listens.
            let _ = sender.send((stage, attempt.execute()));
        });
    }

    fn finish(&mut self, stage: usize, result: Result<Ran, StageError>) {
        let key = match &self.states[stage] {
            State::Running(keyed) => Some(keyed.key),
            _ => None,
        };
        let computed = result.as_ref().ok().filter(|ran| ran.fresh.is_some()).map(|ran| Arc::clone(&ran.record));
        self.note(stage, result, key);
        if let Some(key) = key {
            self.release(key, computed.as_ref());
        }
    }

    fn note(&mut self, stage: usize, result: Result<Ran, StageError>, key: Option<Digest>) {
        match result {
            Ok(Ran { record, fresh: None, placed }) => self.cached(stage, record, Ok(placed)),
            Ok(Ran { record, fresh: Some(fresh), placed }) => {
                self.tell_kept(&self.name(stage), &placed);
                self.observer.event(&Event::Finished {
                    stage: self.name(stage),
                    key: record.fingerprint.to_string(),
                    outputs: record.outputs.clone(),
                    seconds: fresh.seconds,
                    unchanged: fresh.unchanged,
                });
                self.done(stage, record, true);
            }
            Err(error) => self.fail(stage, error, key),
        }
    }

    fn fail(&mut self, stage: usize, error: StageError, key: Option<Digest>) {
        self.stopping |= !self.engine.options.keep_going && !self.stays_alone(stage, error.class);
        self.observer.event(&Event::Failed { stage: self.name(stage), error: error.clone() });
        self.states[stage] = State::Failed(error, key);
    }

    /// Whether a failure is no reason to stop: a changed input is the user at work, not a failure of the experiment; and that one cell of a
    /// matrix comes to nothing says little about the others.
    fn stays_alone(&self, stage: usize, class: ErrorClass) -> bool {
        let is_cell = !self.engine.pipeline.stages[stage].cell.is_empty();
        class == ErrorClass::Stale || (is_cell && matches!(class, ErrorClass::Failed | ErrorClass::OutOfMemory))
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
