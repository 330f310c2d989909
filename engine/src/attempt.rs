//! One execution of one stage: lock, run in scratch, check, keep, record.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use qapipe_cache::{Artifact, Brief, Damage, Lock, RECORD_FORMAT, Record, Scratch, SharedRecord};

use crate::context::{Input, Reporter, Request, StageCx};
use crate::decide::{Keyed, Verdict, cache_error};
use crate::device::cuda;
use crate::engine::Engine;
use crate::error::{ErrorClass, StageError};
use crate::event::{Event, Observer};
use crate::kind::Place;
use crate::meter::Meter;
use crate::panic_text::panic_text;
use crate::paths::absolute;
use crate::pipeline::{Source, StageSpec};
use crate::placed::Written;
use crate::reason::Reason;
use crate::resources::{GPU_SHARED, Slot, device, threads};
use crate::worker::Workers;

/// What an execution needs to know.
pub(crate) struct Attempt<'a> {
    pub engine: &'a Engine,
    pub observer: &'a dyn Observer,
    pub cancel: &'a AtomicBool,
    pub workers: &'a Workers,
    pub run: &'a str,
    pub spec: &'a StageSpec,
    pub keyed: &'a Keyed,
    /// What the stage has while it runs.
    pub slot: &'a Slot,
    /// The results of the stages that it reads from, by index.
    pub upstream: BTreeMap<usize, Arc<Brief>>,
}

/// What came of it.
pub(crate) struct Ran {
    /// The result.
    pub brief: Arc<Brief>,
    /// Where it comes from.
    pub came: Came,
    /// Outputs that were put into the pipeline's folder.
    pub placed: Vec<Written>,
}

/// Where a result comes from.
pub(crate) enum Came {
    /// Another process had computed it meanwhile.
    Meanwhile,
    /// From the remote.
    Fetched {
        /// Bytes that came.
        bytes: u64,
        /// Wall-clock seconds.
        seconds: f64,
    },
    /// It was computed.
    Computed(Fresh),
}

/// What there is to say of an execution.
pub(crate) struct Fresh {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Whether every output equals the one of the stage's previous result.
    pub unchanged: bool,
}

impl Attempt<'_> {
    /// Runs the stage, or fetches what it gave; nothing if that could not be had. A panic is an error of this stage, never of the run.
    pub(crate) fn execute(&self) -> Result<Option<Ran>, StageError> {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.try_execute()))
            .unwrap_or_else(|panic| Err(StageError::bug(format!("the stage panicked: {}", panic_text(panic.as_ref())))))
    }

    fn try_execute(&self) -> Result<Option<Ran>, StageError> {
        let _lock = self.lock()?;
        let (brief, came) = match (self.computed_meanwhile()?, &self.keyed.verdict) {
            (Some(brief), _) => (brief, Came::Meanwhile),
            (None, Verdict::Fetch(shared)) => match self.fetch(shared)? {
                Some(came) => (shared.record.clone().into(), came),
                None => return Ok(None),
            },
            (None, _) => {
                self.engine.look_for_room(self.spec)?;
                let (record, fresh) = self.compute()?;
                (record.into(), Came::Computed(fresh))
            }
        };
        let placed = self.engine.place(self.spec, brief.outputs())?;
        Ok(Some(Ran { brief: Arc::new(brief), came, placed }))
    }

    /// Brings what the remote has; nothing if that cannot be had.
    fn fetch(&self, shared: &SharedRecord) -> Result<Option<Came>, StageError> {
        let (stage, key, started) = (self.spec.name.clone(), self.keyed.key.to_string(), Instant::now());
        let bytes = shared.record.outputs.values().map(|output| output.bytes).sum();
        self.observer.event(&Event::Fetching { stage, key, bytes });
        let reporter = StageReporter { stage: &self.spec.name, observer: self.observer, told: Mutex::default() };
        let tell = |done, total| reporter.progress(done, total, "MiB", "");
        let watch = Meter::new(self.cancel, &tell);
        let store = &self.engine.store;
        let fetched = self.engine.away.fetch(store, shared, |remote| remote.fetch(store, shared, &watch))?;
        Ok(fetched.map(|traffic| Came::Fetched { bytes: traffic.bytes, seconds: started.elapsed().as_secs_f64() }))
    }

    /// Scratch, run, check, keep, record.
    fn compute(&self) -> Result<(Record, Fresh), StageError> {
        self.announce();
        let (begun, started) = (jiff::Timestamp::now(), Instant::now());
        let scratch = self.engine.store.scratch().map_err(|error| cache_error(&error))?;
        let request = self.request(&scratch)?;
        let told = self.run_stage(&request)?;
        self.check_outputs(&request)?;
        self.check_inputs()?;
        let guard = self.engine.store.hold();
        let outputs = self.publish(&request)?;
        let seconds = started.elapsed().as_secs_f64();
        let record = self.record(outputs, told, begun, seconds);
        // Looked up first: a forced stage's previous record has the same fingerprint, and the new one replaces it.
        let unchanged = self.engine.last_record(&self.spec.name).is_some_and(|last| last.outputs == record.outputs);
        self.engine.store.put_record(&record).map_err(|error| cache_error(&error))?;
        self.engine.go_on_using(guard, &[record.fingerprint]);
        Ok((record, Fresh { seconds, unchanged }))
    }

    /// One process at a time computes a fingerprint; the others wait, and stay stoppable.
    fn lock(&self) -> Result<Lock, StageError> {
        let mut told = false;
        loop {
            if let Some(lock) = self.engine.store.try_lock(&self.keyed.key).map_err(|error| cache_error(&error))? {
                return Ok(lock);
            }
            if !std::mem::replace(&mut told, true) {
                self.observer.event(&Event::Waiting { stage: self.spec.name.clone(), key: self.keyed.key.to_string() });
            }
            if self.cancel.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(StageError::interrupted());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The result, if another process has computed or mended it since the stage was decided. What is damaged still is set aside, under the
    /// lock: no other process mends it at the same time.
    fn computed_meanwhile(&self) -> Result<Option<Brief>, StageError> {
        if self.keyed.is_forced() {
            return Ok(None);
        }
        let guard = self.engine.store.hold();
        let brief = self.engine.store.use_record(&self.keyed.key).map_err(|error| cache_error(&error))?;
        let Some(brief) = brief else { return Ok(None) };
        let damages: Vec<Damage> = brief.outputs().values().filter_map(|artifact| self.engine.store.check(artifact).err()).collect();
        damages.iter().for_each(|damage| self.set_aside(damage));
        self.engine.go_on_using(guard, &[brief.fingerprint]);
        Ok(damages.is_empty().then_some(brief))
    }

    fn set_aside(&self, damage: &Damage) {
        self.observer.event(&Event::Damaged { stage: self.spec.name.clone(), what: damage.to_string() });
        // If it stays, the new result still replaces it.
        let _ = self.engine.store.set_aside(&damage.artifact);
    }

    fn reason(&self) -> Option<&Reason> {
        match &self.keyed.verdict {
            Verdict::Run(reason) => Some(reason),
            Verdict::Cached(_) | Verdict::Fetch(..) => None,
        }
    }

    fn announce(&self) {
        self.observer.event(&Event::Started {
            stage: self.spec.name.clone(),
            kind: self.spec.kind.name().to_owned(),
            key: self.keyed.key.to_string(),
            because: self.reason().map(ToString::to_string).unwrap_or_default(),
            expected_seconds: self.engine.expected_seconds(&self.spec.name),
            gpu: self.slot.gpu.map(cuda),
        });
    }

    fn request(&self, scratch: &Scratch) -> Result<Request, StageError> {
        let engine = self.engine;
        Ok(Request {
            pipeline: engine.pipeline.name.clone(),
            stage: self.spec.name.clone(),
            kind: self.spec.kind.name().to_owned(),
            values: self.spec.values.clone(),
            inputs: self.inputs()?,
            outputs: self.spec.outputs.iter().map(|output| (output.name.clone(), scratch.path().join(&output.name))).collect(),
            folder: self.spec.folder.clone(),
            scratch: scratch.path().join(".own"),
            seed: self.spec.seed,
            device: device(engine, self.spec, self.slot),
            threads: threads(engine, self.spec),
            offline: engine.options.offline,
            strict: engine.pipeline.strict,
            rows: absolute(&engine.store.rows()),
            trainings: absolute(&engine.store.trainings()),
            anew: self.keyed.is_forced(),
        })
    }

    fn inputs(&self) -> Result<BTreeMap<String, Input>, StageError> {
        let inputs = self.spec.inputs.iter().zip(&self.keyed.inputs);
        inputs
            .map(|(input, (param, digest))| {
                let (path, from) = match &input.source {
                    Source::Path(path) => (self.engine.pipeline.resolve(path), None),
                    Source::Stage { index, output } => {
                        let artifact = self.upstream.get(index).and_then(|brief| brief.outputs().get(output));
                        let artifact = artifact.ok_or_else(|| StageError::bug(format!("no result for input {param}")))?;
                        (absolute(&self.engine.store.path(artifact)), Some(self.engine.pipeline.stages[*index].name.clone()))
                    }
                };
                Ok((param.clone(), Input { path, digest: *digest, from }))
            })
            .collect()
    }

    fn run_stage(&self, request: &Request) -> Result<Told, StageError> {
        // Its program may run in another folder than this process.
        let request = Request {
            scratch: absolute(&request.scratch),
            outputs: request.outputs.iter().map(|(name, path)| (name.clone(), absolute(path))).collect(),
            ..request.clone()
        };
        let reporter = StageReporter { stage: &self.spec.name, observer: self.observer, told: Mutex::default() };
        let cx = StageCx { request: &request, reporter: &reporter, cancel: self.cancel };
        match self.spec.kind.place_of(&self.spec.values) {
            Place::Worker => self.workers.run(self.engine.options.worker.as_ref(), self.slot.gpu, &cx)?,
            Place::Here => self.spec.kind.run(&cx)?,
        }
        Ok(reporter.told.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn check_outputs(&self, request: &Request) -> Result<(), StageError> {
        match request.outputs.iter().find(|(_, path)| !path.exists()) {
            None => Ok(()),
            Some((name, _)) => Err(StageError::failed(format!("it ended well but wrote no output `{name}`"))
                .help(format!("it has to write a file or folder to the path that {{out.{name}}} stands for"))),
        }
    }

    /// Files of the user's must still be what the fingerprint says.
    fn check_inputs(&self) -> Result<(), StageError> {
        for (input, (_, digest)) in self.spec.inputs.iter().zip(&self.keyed.inputs) {
            let Source::Path(path) = &input.source else { continue };
            let now = self.engine.stats.part(&self.engine.pipeline.resolve(path), input.part);
            if now.as_ref().ok() != Some(digest) {
                let message = format!("{} changed while the stage was running; nothing was recorded", path.display());
                return Err(StageError::new(ErrorClass::Stale, message).help("run again to use the file as it is now"));
            }
        }
        Ok(())
    }

    fn publish(&self, request: &Request) -> Result<BTreeMap<String, Artifact>, StageError> {
        let publish = |(name, path): (&String, &PathBuf)| Ok((name.clone(), self.engine.store.publish(path)?));
        request.outputs.iter().map(publish).collect::<Result<_, _>>().map_err(|error| cache_error(&error))
    }

    fn record(&self, outputs: BTreeMap<String, Artifact>, told: Told, begun: jiff::Timestamp, seconds: f64) -> Record {
        let (mut cost, mut provenance) = (told.figures, self.provenance(begun));
        cost.insert("wall_seconds".into(), seconds);
        if self.slot.was_shared() {
            cost.insert(GPU_SHARED.into(), 1.0);
        }
        provenance.extend(told.facts);
        Record {
            format: RECORD_FORMAT,
            fingerprint: self.keyed.key,
            kind: self.spec.kind.name().to_owned(),
            stage: self.spec.name.clone(),
            pipeline: self.engine.pipeline.name.clone(),
            run: self.run.to_owned(),
            outputs,
            facets: self.keyed.facets(self.spec),
            cost,
            provenance,
        }
    }

    /// Where and when it ran, as far as the engine knows. A worker says what its device is called.
    fn provenance(&self, begun: jiff::Timestamp) -> BTreeMap<String, String> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let facts = [
            ("host", host),
            ("device", device(self.engine, self.spec, self.slot)),
            ("qapipe", env!("CARGO_PKG_VERSION").to_owned()),
            ("started", begun.to_string()),
            ("finished", jiff::Timestamp::now().to_string()),
        ];
        let gpu = self.slot.gpu.map(|gpu| ("gpu", cuda(gpu)));
        facts.into_iter().chain(gpu).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

struct StageReporter<'a> {
    stage: &'a str,
    observer: &'a dyn Observer,
    told: Mutex<Told>,
}

/// What a stage tells about its execution.
#[derive(Default)]
struct Told {
    figures: BTreeMap<String, f64>,
    facts: BTreeMap<String, String>,
}

impl Reporter for StageReporter<'_> {
    fn progress(&self, done: u64, total: u64, unit: &str, note: &str) {
        self.observer.event(&Event::Progress { stage: self.stage.to_owned(), done, total, unit: unit.to_owned(), note: note.to_owned() });
    }

    fn log(&self, line: &str) {
        self.observer.event(&Event::Log { stage: self.stage.to_owned(), line: line.to_owned() });
    }

    /// What is no number was not measured, and JSON has no word for it: a record must stay readable.
    fn measure(&self, name: &str, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).figures.insert(name.to_owned(), value);
    }

    fn fact(&self, name: &str, value: &str) {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).facts.insert(name.to_owned(), value.to_owned());
    }
}
