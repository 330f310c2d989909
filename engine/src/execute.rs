//! Running a pipeline: settle what is there, run what is not, as far as the resources allow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::thread::Scope;
use std::time::Instant;

use qapipe_cache::{Brief, Digest, Outputs, SharedRecord};

use crate::attempt::{Attempt, Came, Ran};
use crate::decide::{Decider, Keyed, Verdict};
use crate::engine::{Engine, EngineError};
use crate::error::{ErrorClass, StageError};
use crate::event::{Event, Observer};
use crate::journal::Journal;
use crate::outcome::{Outcome, StageOutcome, StageState};
use crate::pipeline::Source;
use crate::placed::Written;
use crate::priority::urgency;
use crate::pusher::{self, Parcel};
use crate::queue::Queue;
use crate::resources::{Resources, Slot, Wanted, gpus, has_choice};
use crate::slurm::{self, Due};
use crate::worker::Workers;

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
        journal.note_stages(self.selected.iter().map(|&stage| self.pipeline.stages[stage].name.as_str()));
        self.store.sweep();
        journal.event(&Event::RunStarted { run: id.clone(), pipeline: self.pipeline.name.clone(), stages: self.selected.len() });
        let workers = Workers::default();
        let mut run = Run::new(self, &journal, cancel, &workers, &id);
        run.settle();
        run.go();
        run.bring_tables();
        run.tell_warnings();
        let outcome = run.outcome(started.elapsed().as_secs_f64());
        journal.end(&outcome.last_event());
        self.remember(&outcome);
        Ok(outcome)
    }

    /// Losing these files costs time and reasons, and until the next run what the first cites counts as garbage.
    fn remember(&self, outcome: &Outcome) {
        self.last
            .update(&self.store, outcome.stages.iter().filter_map(|stage| Some((stage.stage.as_str(), stage.brief.as_ref()?.fingerprint))));
        self.keep_looks(outcome.stages.iter().filter_map(|stage| stage.key));
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
    /// The remote has its result, and nothing here has needed it so far.
    Away(Arc<Keyed>),
    /// Its inputs are here and it has to run, or to wait for an equal stage that has to; or what it gave has to be fetched.
    Ready(Arc<Keyed>),
    /// It runs, or is fetched.
    Running(Arc<Keyed>),
    /// Its result is here.
    Done { brief: Arc<Brief>, how: StageState },
    /// It failed.
    Failed(StageError, Option<Digest>),
    /// It cannot run.
    Blocked,
}

struct Run<'a> {
    engine: &'a Engine,
    observer: &'a dyn Observer,
    cancel: &'a AtomicBool,
    /// The processes in which torch-backed stages run; they end with the run.
    workers: &'a Workers,
    id: &'a str,
    states: Vec<State>,
    /// For each stage, how many of those that it reads from have no result yet, or less: that of one which was in the remote and could not
    /// be had is missing again.
    missing: Vec<usize>,
    /// Stages of which the last upstream result has just come.
    decidable: Vec<usize>,
    /// Stages that are `Ready`.
    queue: Queue,
    /// After a failure no new stage starts, unless it was one of a matrix, or the user asked to keep going.
    stopping: bool,
    /// Where results go that are to be sent to the remote.
    parcels: Weak<mpsc::Sender<Parcel>>,
}

/// What became of a stage; nothing if what the remote had could not be had.
pub(crate) type Message = (usize, Result<Option<Ran>, StageError>);

impl<'a> Run<'a> {
    fn new(engine: &'a Engine, observer: &'a dyn Observer, cancel: &'a AtomicBool, workers: &'a Workers, id: &'a str) -> Self {
        let count = engine.pipeline.stages.len();
        let (mut states, mut missing) = (vec![State::Outside; count], vec![0; count]);
        for &stage in &engine.selected {
            states[stage] = State::Open;
            missing[stage] = engine.graph.dependencies(stage).len();
        }
        let (decidable, queue) = (Vec::new(), Queue::new(Resources::new(engine.options.jobs, engine.options.share_gpus)));
        Self { engine, observer, cancel, workers, id, states, missing, decidable, queue, stopping: false, parcels: Weak::new() }
    }

    /// Takes everything that is there already.
    fn settle(&mut self) {
        let mut settled = Decider::new(self.engine).settle();
        let mut placed = self.engine.place_all(&settled);
        for &stage in &self.engine.selected {
            match (settled[stage].take(), placed[stage].take()) {
                (Some(Ok(Keyed { verdict: Verdict::Cached(brief), .. })), Some(placed)) => self.cached(stage, brief, placed),
                (Some(decided), _) => self.take(stage, decided),
                (None, _) => {}
            }
        }
        self.tell_warnings();
    }

    /// Runs what is left, side by side as far as the resources allow.
    fn go(&mut self) {
        let (sender, receiver) = mpsc::channel::<Message>();
        self.prepare();
        std::thread::scope(|scope| {
            let _parcels = self.start_pusher(scope);
            let cluster = slurm::start(scope, self.engine, (self.observer, self.cancel), self.id, &sender);
            let mut running = 0;
            loop {
                self.decide_open();
                running += self.hand_over(cluster.as_ref());
                running += self.start_ready(scope, &sender);
                // What was to be fetched may have been decided anew, and have to run.
                running += self.hand_over(cluster.as_ref());
                if running > 0 {
                    let Ok((stage, result)) = receiver.recv() else { break };
                    running -= 1;
                    self.queue.give_back(stage);
                    self.finish(stage, result);
                } else if self.decidable.is_empty() {
                    break;
                }
            }
        });
        self.block_rest();
    }

    /// Before the first stage starts: which come first, and which GPUs there are. Where nothing is to be done, nobody asks.
    fn prepare(&mut self) {
        if self.in_state(|state| matches!(state, State::Open | State::Ready(_))).next().is_none() {
            return;
        }
        let due: Vec<usize> = self.in_state(|state| matches!(state, State::Open | State::Ready(_) | State::Away(_))).collect();
        let known = |stage: usize| self.wall_seconds(stage);
        let seconds = |stage: usize| known(stage).or_else(|| self.engine.expected_seconds(&self.engine.pipeline.stages[stage].name));
        let done = self.in_state(|state| matches!(state, State::Done { .. })).filter_map(|stage| Some((stage, known(stage)?)));
        let urgency = urgency(self.engine, &due, &seconds, &done.collect::<Vec<_>>());
        self.queue.rank(urgency);
        self.look_at_gpus();
    }

    fn in_state(&self, wanted: fn(&State) -> bool) -> impl Iterator<Item = usize> {
        self.engine.selected.iter().copied().filter(move |&stage| wanted(&self.states[stage]))
    }

    /// Learns which GPUs there are, where a stage may get one of several or share one. Those that were named have to be there.
    fn look_at_gpus(&mut self) {
        let Some(first) = self.first_with_a_choice() else { return };
        let Some(memory) = self.engine.options.gpus.as_ref().and_then(|gpus| gpus.memory()) else { return };
        if let Some(error) = self.engine.options.devices.lacking(memory.len()) {
            let key = match &self.states[first] {
                State::Ready(keyed) => Some(keyed.key),
                _ => None,
            };
            self.fail(first, error, key);
            if let Some(key) = key {
                self.release(key, None);
            }
        }
        self.queue.learn(memory);
    }

    /// The first stage that may run and for which it hangs on the GPUs, on which one and when.
    fn first_with_a_choice(&self) -> Option<usize> {
        let mut may_run = self.in_state(|state| match state {
            State::Open => true,
            State::Ready(keyed) => matches!(keyed.verdict, Verdict::Run(_)),
            _ => false,
        });
        may_run.find(|&stage| has_choice(self.engine, &gpus(self.engine, &self.engine.pipeline.stages[stage])))
    }

    fn is_stopping(&self) -> bool {
        self.stopping || self.cancel.load(Ordering::Relaxed)
    }

    /// Sends what is computed to the remote, on a thread of its own that ends once what this gives is dropped; nothing unless the user wants
    /// that.
    fn start_pusher<'scope>(&mut self, scope: &'scope Scope<'scope, '_>) -> Option<Arc<mpsc::Sender<Parcel>>>
    where
        'a: 'scope,
    {
        let (engine, observer, cancel) = (self.engine, self.observer, self.cancel);
        if !engine.options.push || engine.away.remote().is_none() {
            return None;
        }
        let (sender, parcels) = mpsc::channel();
        let sender = Arc::new(sender);
        self.parcels = Arc::downgrade(&sender);
        scope.spawn(move || pusher::serve(engine, &parcels, observer, cancel));
        Some(sender)
    }

    /// Hands all that has to run to the cluster, where nothing here limits it; gives how many stages. What only has to be fetched is not its.
    fn hand_over(&mut self, cluster: Option<&mpsc::Sender<Vec<Due>>>) -> usize {
        let Some(cluster) = cluster else { return 0 };
        let mut due = Vec::new();
        while !self.is_stopping()
            && let Some(stage) = self.queue.next_elsewhere()
        {
            if let Some(keyed) = self.as_of_now(stage) {
                due.push(Due { stage, key: keyed.key, anew: keyed.is_forced() });
                self.states[stage] = State::Running(keyed);
            }
        }
        let count = due.len();
        let is_heard = count == 0 || cluster.send(due).is_ok();
        if is_heard { count } else { 0 }
    }

    /// Decides every open stage whose upstream results are known.
    fn decide_open(&mut self) {
        while !self.decidable.is_empty() {
            let mut stages = std::mem::take(&mut self.decidable);
            stages.sort_unstable();
            stages.dedup();
            stages.retain(|&stage| matches!(self.states[stage], State::Open) && self.knows_upstream(stage));
            let decided = Decider::new(self.engine).decide_all(&stages, &|upstream| self.outputs(upstream));
            for (stage, decided) in stages.into_iter().zip(decided) {
                self.take(stage, decided);
            }
            self.tell_warnings();
        }
    }

    fn knows_upstream(&self, stage: usize) -> bool {
        self.engine.graph.dependencies(stage).into_iter().all(|upstream| self.outputs(upstream).is_some())
    }

    fn decide(&self, stage: usize) -> Result<Keyed, StageError> {
        let bug = || Err(StageError::bug("a stage was not decided"));
        Decider::new(self.engine).decide_all(&[stage], &|upstream| self.outputs(upstream)).pop().unwrap_or_else(bug)
    }

    /// A stage's result, here or in the remote.
    fn outputs(&self, stage: usize) -> Option<&Outputs> {
        match &self.states[stage] {
            State::Done { brief, .. } => Some(brief.outputs()),
            State::Away(keyed) | State::Ready(keyed) | State::Running(keyed) => keyed.outputs(),
            _ => None,
        }
    }

    /// Wall-clock seconds that a stage's result took, if there is one and they are known.
    fn wall_seconds(&self, stage: usize) -> Option<f64> {
        match &self.states[stage] {
            State::Done { brief, .. } => brief.short.wall_seconds,
            State::Away(keyed) | State::Ready(keyed) | State::Running(keyed) => keyed.wall_seconds(),
            _ => None,
        }
    }

    fn name(&self, stage: usize) -> String {
        self.engine.pipeline.stages[stage].name.clone()
    }

    fn take(&mut self, stage: usize, decided: Result<Keyed, StageError>) {
        match decided {
            Err(error) => self.fail(stage, error, None),
            Ok(Keyed { verdict: Verdict::Cached(brief), .. }) => {
                let placed = self.engine.place(&self.engine.pipeline.stages[stage], brief.outputs());
                self.cached(stage, brief, placed);
            }
            Ok(keyed @ Keyed { verdict: Verdict::Fetch(..), .. }) => self.away(stage, Arc::new(keyed)),
            Ok(keyed) if self.bring_upstream(stage) => self.line_up(stage, Arc::new(keyed)),
            Ok(_) => {}
        }
    }

    /// The remote has a result. It is fetched when something needs it; what is put into the pipeline's folder is needed.
    fn away(&mut self, stage: usize, keyed: Arc<Keyed>) {
        if self.engine.pipeline.stages[stage].outputs.iter().any(|output| output.place.is_some()) {
            self.line_up(stage, keyed);
        } else {
            self.states[stage] = State::Away(keyed);
        }
        self.tell_dependents(stage, false);
    }

    /// Whether all that a stage reads is here. If not, it is sent for, and the stage is decided anew when it has come.
    fn bring_upstream(&mut self, stage: usize) -> bool {
        let is_here = |upstream: &usize| matches!(self.states[*upstream], State::Done { .. });
        let waiting: Vec<usize> = self.engine.graph.dependencies(stage).into_iter().filter(|upstream| !is_here(upstream)).collect();
        if waiting.is_empty() {
            return true;
        }
        self.states[stage] = State::Open;
        self.missing[stage] = waiting.len();
        for upstream in waiting {
            if let State::Away(keyed) = &self.states[upstream] {
                self.line_up(upstream, Arc::clone(keyed));
            }
        }
        false
    }

    /// Makes a stage ready, unless an equal one is to compute its result.
    fn line_up(&mut self, stage: usize, keyed: Arc<Keyed>) {
        let wanted = match keyed.verdict {
            Verdict::Fetch(..) => Some(Wanted::FETCH),
            _ if self.engine.options.cluster.is_some() => None,
            _ => Some(Wanted::of(self.engine, &self.engine.pipeline.stages[stage])),
        };
        self.queue.line_up(stage, keyed.key, wanted);
        self.states[stage] = State::Ready(keyed);
    }

    /// No stage computes this key any more. Those that waited for it take the result if this run computed it, even where they are forced:
    /// it is new. Otherwise they are decided anew.
    fn release(&mut self, key: Digest, computed: Option<&Arc<Brief>>) {
        for stage in self.queue.release(&key) {
            let mut decided = self.decide(stage);
            if let (Ok(keyed), Some(brief)) = (&mut decided, computed)
                && keyed.key == key
            {
                keyed.verdict = Verdict::Cached(Arc::clone(brief));
            }
            self.take(stage, decided);
        }
    }

    fn cached(&mut self, stage: usize, brief: Arc<Brief>, placed: Result<Vec<Written>, StageError>) {
        let key = brief.fingerprint;
        self.observer.event(&Event::Cached { stage: self.name(stage), key: key.to_string() });
        match placed {
            Ok(written) => {
                let name = self.name(stage);
                written.iter().for_each(|output| self.observer.event(&output.restored(&name)));
                self.tell_kept(&name, &written);
                self.done(stage, brief, StageState::Cached);
            }
            Err(error) => self.fail(stage, error, Some(key)),
        }
    }

    fn tell_kept(&self, stage: &str, written: &[Written]) {
        written.iter().filter_map(|output| output.kept(stage)).for_each(|event| self.observer.event(&event));
    }

    fn done(&mut self, stage: usize, brief: Arc<Brief>, how: StageState) {
        let anew = how == StageState::Ran;
        self.states[stage] = State::Done { brief, how };
        self.tell_dependents(stage, anew);
    }

    /// A result is known. What was decided by another that the remote had is decided `anew`.
    fn tell_dependents(&mut self, stage: usize, anew: bool) {
        for next in self.engine.graph.dependents(stage) {
            self.missing[next] = self.missing[next].saturating_sub(1);
            if anew && matches!(self.states[next], State::Away(_)) {
                self.states[next] = State::Open;
                self.decidable.push(next);
            } else if self.missing[next] == 0 && matches!(self.states[next], State::Open) {
                self.decidable.push(next);
            }
        }
    }

    /// Starts ready stages for which there is room now; gives how many.
    fn start_ready<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, sender: &mpsc::Sender<Message>) -> usize
    where
        'a: 'scope,
    {
        let mut started = 0;
        while !self.is_stopping()
            && let Some((stage, slot)) = self.queue.next()
        {
            match self.as_of_now(stage) {
                Some(keyed) => {
                    self.start(scope, stage, keyed, slot, sender.clone());
                    started += 1;
                }
                None => self.queue.give_back(stage),
            }
        }
        started
    }

    /// A stage may have waited long for its turn. If files that it reads were edited meanwhile, it is decided anew.
    fn as_of_now(&mut self, stage: usize) -> Option<Arc<Keyed>> {
        let State::Ready(keyed) = &self.states[stage] else { return None };
        let keyed = Arc::clone(keyed);
        let reads_files = self.engine.pipeline.stages[stage].inputs.iter().any(|input| matches!(input.source, Source::Path(_)));
        if !reads_files {
            return Some(keyed);
        }
        match Decider::new(self.engine).decide_here(stage, &|upstream| self.outputs(upstream)) {
            Ok(now) if now.key == keyed.key => Some(keyed),
            _ => {
                let decided = self.decide(stage);
                self.take(stage, decided);
                self.release(keyed.key, None);
                None
            }
        }
    }

    fn start<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        stage: usize,
        keyed: Arc<Keyed>,
        slot: Slot,
        sender: mpsc::Sender<Message>,
    ) where
        'a: 'scope,
    {
        self.states[stage] = State::Running(Arc::clone(&keyed));
        let upstream = self.engine.graph.dependencies(stage).into_iter();
        let here = |index: usize| match &self.states[index] {
            State::Done { brief, .. } => Some((index, Arc::clone(brief))),
            _ => None,
        };
        let upstream = upstream.filter_map(here).collect();
        let (engine, observer, cancel, workers, run) = (self.engine, self.observer, self.cancel, self.workers, self.id);
        scope.spawn(move || {
            let attempt = Attempt {
                engine,
                observer,
                cancel,
                workers,
                run,
                spec: &engine.pipeline.stages[stage],
                keyed: &keyed,
                slot: &slot,
                upstream,
            };
            // The run has ended if nobody listens.
            let _ = sender.send((stage, attempt.execute()));
        });
    }

    fn finish(&mut self, stage: usize, result: Result<Option<Ran>, StageError>) {
        let key = match &self.states[stage] {
            State::Running(keyed) => Some(keyed.key),
            _ => None,
        };
        let computed = match &result {
            Ok(Some(Ran { brief, came: Came::Computed(_), .. })) => Some(Arc::clone(brief)),
            _ => None,
        };
        match result.transpose() {
            Some(result) => self.note(stage, result, key),
            None => self.not_fetched(stage),
        }
        if let Some(key) = key {
            self.release(key, computed.as_ref());
        }
    }

    fn note(&mut self, stage: usize, result: Result<Ran, StageError>, key: Option<Digest>) {
        match result {
            Ok(Ran { brief, came: Came::Meanwhile, placed }) => self.cached(stage, brief, Ok(placed)),
            Ok(Ran { brief, came: Came::Fetched { bytes, seconds }, placed }) => {
                self.tell_kept(&self.name(stage), &placed);
                self.observer.event(&Event::Fetched { stage: self.name(stage), key: brief.fingerprint.to_string(), bytes, seconds });
                self.done(stage, brief, StageState::Fetched);
            }
            Ok(Ran { brief, came: Came::Computed(fresh), placed }) => {
                self.tell_kept(&self.name(stage), &placed);
                self.observer.event(&Event::Finished {
                    stage: self.name(stage),
                    key: brief.fingerprint.to_string(),
                    outputs: brief.outputs().clone(),
                    seconds: fresh.seconds,
                    unchanged: fresh.unchanged,
                });
                if let Some(parcels) = self.parcels.upgrade()
                    && let Some(record) = brief.record()
                {
                    let _ = parcels.send((self.name(stage), Arc::clone(record)));
                }
                self.done(stage, brief, StageState::Ran);
            }
            Err(error) => self.fail(stage, error, key),
        }
    }

    /// What the remote had could not be had: the stage is decided anew, without it.
    fn not_fetched(&mut self, stage: usize) {
        self.states[stage] = State::Open;
        self.decidable.push(stage);
        self.tell_warnings();
    }

    fn tell_warnings(&self) {
        for warning in self.engine.away.warnings() {
            self.observer.event(&Event::Warning { message: warning.message, help: warning.help });
        }
    }

    /// Small tables are wanted here for reports, also of stages whose other outputs nothing needs.
    fn bring_tables(&self) {
        for &stage in &self.engine.selected {
            let State::Away(keyed) = &self.states[stage] else { continue };
            let Verdict::Fetch(shared) = &keyed.verdict else { continue };
            self.observer.event(&Event::InRemote { stage: self.name(stage), key: keyed.key.to_string() });
            let tables = self.engine.pipeline.stages[stage].outputs.iter().filter(|output| output.artifact.is_table());
            for output in tables {
                // What cannot be had is told, and missing in the tables.
                let _ = self.bring(shared, &output.name);
            }
        }
    }

    fn bring(&self, shared: &SharedRecord, output: &str) -> Result<(), StageError> {
        let store = &self.engine.store;
        self.engine.away.fetch(store, shared, |remote| remote.fetch_output(store, shared, output, &())).map(drop)
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
            let (key, brief, state) = match &self.states[stage] {
                State::Done { brief, how } => (Some(brief.fingerprint), Some(Arc::clone(brief)), how.clone()),
                State::Away(keyed) => (Some(keyed.key), keyed.brief(), StageState::InRemote),
                State::Failed(error, key) => (*key, None, StageState::Failed(error.clone())),
                _ => (None, None, StageState::Blocked),
            };
            StageOutcome { stage: self.name(stage), key, brief, state }
        });
        Outcome { run: self.id.to_owned(), stages: stages.collect(), seconds, interrupted: self.cancel.load(Ordering::Relaxed) }
    }
}
