//! Whether a stage's result is there, and if not, why it has to run.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use qapipe_cache::{Brief, CacheError, Digest, Outputs, Record, SharedRecord};
use rayon::prelude::*;

use crate::engine::Engine;
use crate::error::{ErrorClass, StageError};
use crate::fingerprint::{Facets, NEUTRAL_HINTS, facets, fingerprint_of};
use crate::kind::Place;
use crate::looks::look_at_each;
use crate::pipeline::{InputSpec, Source, StageSpec};
use crate::reason::Reason;
use crate::resources::{gpus, threads};

/// A stage whose inputs are known.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    /// What the result is made from.
    pub key: Digest,
    /// Digest of each input, by parameter.
    pub inputs: Vec<(String, Digest)>,
    /// Where it runs, if the result hangs on that.
    pub device: Option<String>,
    /// The result, or why there is none.
    pub verdict: Verdict,
}

/// What is to be done about a stage.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// Its result is there.
    Cached(Arc<Brief>),
    /// The remote has its result.
    Fetch(Arc<SharedRecord>),
    /// It has to run.
    Run(Reason),
}

impl Keyed {
    /// What the result is made from, by name.
    pub(crate) fn facets(&self, spec: &StageSpec) -> Facets {
        facets(spec, &self.inputs, self.device.as_deref())
    }

    /// The result, wherever it is.
    pub(crate) fn outputs(&self) -> Option<&Outputs> {
        match &self.verdict {
            Verdict::Cached(brief) => Some(brief.outputs()),
            Verdict::Fetch(shared) => Some(&shared.record.outputs),
            Verdict::Run(_) => None,
        }
    }

    /// Wall-clock seconds that it took, if they are known.
    pub(crate) fn wall_seconds(&self) -> Option<f64> {
        match &self.verdict {
            Verdict::Cached(brief) => brief.short.wall_seconds,
            Verdict::Fetch(shared) => shared.record.wall_seconds(),
            Verdict::Run(_) => None,
        }
    }

    /// The short of it.
    pub(crate) fn brief(&self) -> Option<Arc<Brief>> {
        match &self.verdict {
            Verdict::Cached(brief) => Some(Arc::clone(brief)),
            Verdict::Fetch(shared) => Some(Arc::new(Brief::from(shared.record.clone()))),
            Verdict::Run(_) => None,
        }
    }

    /// Whether it runs although its result may be there.
    pub(crate) fn is_forced(&self) -> bool {
        matches!(self.verdict, Verdict::Run(Reason::Forced))
    }

    /// Whether it is worth asking the remote. Who forces a stage wants it computed.
    fn may_be_away(&self) -> bool {
        matches!(self.verdict, Verdict::Run(_)) && !self.is_forced()
    }
}

/// By stage, what was decided; none where nobody can know yet.
pub(crate) type Settled = [Option<Result<Keyed, StageError>>];

/// Decides stages whose upstream results are known.
pub(crate) struct Decider<'a> {
    engine: &'a Engine,
    /// Digests of the user's files that were taken together; others are taken when they are needed.
    files: HashMap<File<'a>, Result<Digest, StageError>>,
}

/// A path as written, and the part of it that is read.
type File<'a> = (&'a Path, &'static [&'static str]);

impl<'a> Decider<'a> {
    pub(crate) fn new(engine: &'a Engine) -> Self {
        Self { engine, files: HashMap::new() }
    }

    /// Follows the graph from its roots as far as results are there. Stages of one depth are looked up side by side.
    /// A stage after one that has to run stays `None`: nobody can know yet.
    pub(crate) fn settle(mut self) -> Vec<Option<Result<Keyed, StageError>>> {
        self.files = self.hash_files();
        let mut decided: Vec<Option<Result<Keyed, StageError>>> = vec![None; self.engine.pipeline.stages.len()];
        for level in self.levels() {
            let found: Vec<_> = {
                let decided = &decided;
                let outputs = |stage: usize| decided[stage].as_ref()?.as_ref().ok()?.outputs();
                let is_known =
                    |stage: &usize| self.engine.graph.dependencies(*stage).into_iter().all(|upstream| outputs(upstream).is_some());
                let known: Vec<usize> = level.into_iter().filter(is_known).collect();
                let found = self.decide_all(&known, &outputs);
                known.into_iter().zip(found).collect()
            };
            for (stage, verdict) in found {
                decided[stage] = Some(verdict);
            }
        }
        decided
    }

    /// Looks at every file that is read once, however many stages read it; what has to be read or walked is, side by side.
    fn hash_files(&self) -> HashMap<File<'a>, Result<Digest, StageError>> {
        let stages = self.engine.selected.iter().flat_map(|&stage| &self.engine.pipeline.stages[stage].inputs);
        let files: HashSet<File<'a>> = stages
            .filter_map(|input| match &input.source {
                Source::Path(path) => Some((path.as_path(), input.part)),
                Source::Stage { .. } => None,
            })
            .collect();
        let files = Vec::from_iter(files);
        let known = look_at_each(&files, |(path, _)| self.engine.stats.known(&self.engine.pipeline.resolve(path)));
        let (known, others): (Vec<_>, Vec<_>) = files.into_iter().zip(known).partition(|(_, known)| known.is_some());
        let hashed = others.into_par_iter().map(|(file, _)| (file, self.hash(file)));
        let mut all: HashMap<File<'a>, Result<Digest, StageError>> = hashed.collect();
        all.extend(known.into_iter().filter_map(|(file, known)| Some((file, Ok(known?)))));
        all
    }

    fn hash(&self, (path, part): File<'_>) -> Result<Digest, StageError> {
        self.engine.stats.part(&self.engine.pipeline.resolve(path), part).map_err(|error| cache_error(&error))
    }

    /// The selected stages by depth.
    fn levels(&self) -> Vec<Vec<usize>> {
        let mut depth = vec![0; self.engine.pipeline.stages.len()];
        let mut levels: Vec<Vec<usize>> = Vec::new();
        for &stage in &self.engine.selected {
            depth[stage] = self.engine.graph.dependencies(stage).into_iter().map(|upstream| depth[upstream] + 1).max().unwrap_or(0);
            if levels.len() <= depth[stage] {
                levels.resize_with(depth[stage] + 1, Vec::new);
            }
            levels[depth[stage]].push(stage);
        }
        levels
    }

    /// Decides stages, whose upstream results `outputs` gives, side by side. What is not here is looked for in the remote.
    pub(crate) fn decide_all<'r>(
        &self,
        stages: &[usize],
        outputs: &(dyn Fn(usize) -> Option<&'r Outputs> + Sync + '_),
    ) -> Vec<Result<Keyed, StageError>> {
        let guard = self.engine.store.hold();
        let mut decided: Vec<_> = look_at_each(stages, |&stage| self.decide_here(stage, outputs));
        let found: Vec<Digest> = decided.iter().flatten().filter(|keyed| keyed.outputs().is_some()).map(|keyed| keyed.key).collect();
        self.engine.go_on_using(guard, &found);
        let mut wanted: Vec<&mut Keyed> = decided.iter_mut().flatten().filter(|keyed| keyed.may_be_away()).collect();
        let keys: Vec<Digest> = wanted.iter().map(|keyed| keyed.key).collect();
        for (keyed, found) in wanted.iter_mut().zip(self.engine.away.records(&self.engine.store, &self.engine.lease, &keys)) {
            if let Some(shared) = found {
                keyed.verdict = Verdict::Fetch(shared);
            }
        }
        decided
    }

    /// Decides one stage by what is in the store.
    pub(crate) fn decide_here<'r>(
        &self,
        stage: usize,
        outputs: &(dyn Fn(usize) -> Option<&'r Outputs> + Sync + '_),
    ) -> Result<Keyed, StageError> {
        let spec = &self.engine.pipeline.stages[stage];
        let inputs = spec.inputs.iter().map(|input| self.digest(input, outputs)).collect::<Result<Vec<_>, _>>()?;
        let device = self.keyed_device(spec);
        let key = fingerprint_of(spec, &inputs, device.as_deref());
        let verdict = self.look_up(spec, &key, || facets(spec, &inputs, device.as_deref()))?;
        Ok(Keyed { key, inputs, device, verdict })
    }

    /// The device, the platform and the hints are part of the key only where results must repeat bit for bit; on the CPU that takes the
    /// same number of threads, and everywhere the same micro-batches. Which of several equal GPUs it is matters nowhere.
    fn keyed_device(&self, spec: &StageSpec) -> Option<String> {
        if !self.engine.pipeline.strict || spec.kind.place_of(&spec.values) == Place::Here {
            return None;
        }
        let on_gpu = !gpus(self.engine, spec).is_empty();
        let device = if on_gpu { "cuda".to_owned() } else { format!("cpu, threads {}", threads(self.engine, spec)) };
        let platform = self.engine.options.platform.as_ref().map(|platform| format!(", {platform}")).unwrap_or_default();
        let hints = spec.values.get("hints").and_then(serde_json::Value::as_object).into_iter().flatten();
        let hints = hints.filter(|(name, _)| !NEUTRAL_HINTS.contains(&name.as_str())).map(|(name, value)| format!(", {name} {value}"));
        Some(format!("{device}{platform}{}", hints.collect::<String>()))
    }

    fn digest<'r>(
        &self,
        input: &InputSpec,
        outputs: &(dyn Fn(usize) -> Option<&'r Outputs> + Sync + '_),
    ) -> Result<(String, Digest), StageError> {
        let digest = match &input.source {
            Source::Stage { index, output } => {
                let artifact = outputs(*index).and_then(|outputs| outputs.get(output));
                let artifact = artifact.ok_or_else(|| StageError::bug(format!("no result for input {}", input.param)))?;
                self.engine.store.part(artifact, input.part).map_err(|error| cache_error(&error))?
            }
            Source::Path(path) => {
                let file = (path.as_path(), input.part);
                self.files.get(&file).cloned().unwrap_or_else(|| self.hash(file))?
            }
        };
        Ok((input.param.clone(), digest))
    }

    fn look_up(&self, spec: &StageSpec, key: &Digest, facets: impl FnOnce() -> Facets) -> Result<Verdict, StageError> {
        if self.engine.forced.contains(&spec.name) {
            return Ok(Verdict::Run(Reason::Forced));
        }
        let found = self.engine.briefs.find(&self.engine.store, key).map_err(|error| cache_error(&error))?;
        let Some(brief) = found else {
            return Ok(Verdict::Run(self.reason(spec, key, &facets())));
        };
        // What is damaged stays where it is for now: by the time of the attempt another process may have mended it.
        Ok(if self.engine.store.is_whole(brief.outputs()) { Verdict::Cached(Arc::new(brief)) } else { Verdict::Run(Reason::Damaged) })
    }

    fn reason(&self, spec: &StageSpec, key: &Digest, facets: &Facets) -> Reason {
        match self.engine.last_record(&spec.name) {
            None if self.engine.last.key(&spec.name) == Some(key) => Reason::Missing,
            None => Reason::New,
            Some(record) => Reason::between(&record.facets, facets, spec),
        }
    }
}

impl Engine {
    /// The record of what a stage gave last.
    pub(crate) fn last_record(&self, stage: &str) -> Option<Record> {
        let key = self.last.key(stage)?;
        self.store.record(key).ok().flatten().or_else(|| self.away.noted(&self.store, key))
    }
}

/// A store's error as a stage's.
pub(crate) fn cache_error(cause: &CacheError) -> StageError {
    let class = if cause.is_environment() { ErrorClass::Environment } else { ErrorClass::Failed };
    let error = StageError::new(class, cause.to_string());
    match cause {
        _ if class == ErrorClass::Environment => {
            error.help("free space or mend the permissions of the store, or choose another with --store")
        }
        CacheError::HoldsStore { .. } => error.help("name what the stage reads in that folder, or put the store elsewhere with --store"),
        _ => error,
    }
}
