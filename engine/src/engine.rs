//! One pipeline over one store: what everything from planning to execution works on.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use qapipe_cache::{Briefs, CacheError, Digest, Guard, Lease, Record, Remote, RemoteError, StatCache, Store};

use crate::away::{Away, Warning};
use crate::decide::Decider;
use crate::device::{Devices, Gpus};
use crate::graph::Graph;
use crate::history;
use crate::last::Last;
use crate::pipeline::Pipeline;
use crate::select::{Unknown, Where};
use crate::slurm::Cluster;
use crate::worker::WorkerCommand;

/// What the user chose for this run and what does not change results.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that stages share.
    pub jobs: usize,
    /// Where stages run that use tensors.
    pub devices: Devices,
    /// Whether stages may share a GPU where what they took of it last time fits together.
    pub share_gpus: bool,
    /// What knows the GPUs; nothing where nobody does.
    pub gpus: Option<Arc<dyn Gpus>>,
    /// Whether independent stages go on after a failure.
    pub keep_going: bool,
    /// Stages to run again although their result is there; they are targets too.
    pub force: Vec<String>,
    /// Stages to bring up to date, with what they need; empty means all.
    pub targets: Vec<String>,
    /// Conditions that targets and stages to run again have to meet.
    pub cells: Vec<Where>,
    /// Whether the targets are those that the last run of this pipeline left undone, of those that are targets otherwise.
    pub left_over: bool,
    /// Whether the network is off limits.
    pub offline: bool,
    /// Where results are looked for that are not in the store; not asked when `offline`.
    pub remote: Option<Arc<Remote>>,
    /// Whether what is computed is sent to the remote.
    pub push: bool,
    /// How to start a worker; none where there is none.
    pub worker: Option<WorkerCommand>,
    /// Whether `auto` means a GPU here, as far as that can be told without libtorch.
    pub gpu: bool,
    /// What numbers hang on besides the device: libtorch's version, the GPU's name. Part of the keys where `numerics = "strict"`.
    pub platform: Option<String>,
    /// The cluster whose nodes run what has to run; none where that is this machine.
    pub cluster: Option<Cluster>,
}

impl std::default::Default for Options {
    fn default() -> Self {
        Self {
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            devices: Devices::Auto,
            share_gpus: false,
            gpus: None,
            keep_going: false,
            force: Vec::new(),
            targets: Vec::new(),
            cells: Vec::new(),
            left_over: false,
            offline: false,
            remote: None,
            push: false,
            worker: None,
            gpu: gpu_is_there(),
            platform: None,
            cluster: None,
        }
    }
}

impl Options {
    /// The stages in question, by their numbers. To force a stage is to ask for it.
    ///
    /// # Errors
    /// When a target or a forced stage does not exist, also where all stages are asked for; when no cell meets a condition.
    pub fn selected(&self, graph: &Graph) -> Result<Vec<usize>, Unknown> {
        let forced = self.forced(graph)?;
        if self.targets.is_empty() && self.cells.is_empty() {
            return Ok(graph.order().to_vec());
        }
        let named = if self.targets.is_empty() { graph.order().to_vec() } else { graph.find(&self.targets)? };
        Ok(graph.with_ancestors(&[graph.among(named, &self.cells)?, forced].concat()))
    }

    /// The stages to run although their results are there. Conditions hold for cells alone: a stage that hangs on no axis was meant by its name.
    fn forced(&self, graph: &Graph) -> Result<Vec<usize>, Unknown> {
        let (mut plain, cells): (Vec<usize>, Vec<usize>) =
            graph.find(&self.force)?.into_iter().partition(|&stage| graph.cell(stage).is_empty());
        if !cells.is_empty() {
            plain.extend(graph.among(cells, &self.cells)?);
        }
        Ok(plain)
    }

    /// The same with the pipeline's own targets, where none are given.
    fn with_targets(mut self, pipeline: &Pipeline) -> Self {
        if self.targets.is_empty() {
            self.targets.clone_from(&pipeline.targets);
        }
        self
    }
}

/// Of some stages, those that the last run left undone, and all that these need.
fn left_over(stages: &[usize], store: &Store, pipeline: &Pipeline, graph: &Graph) -> Vec<usize> {
    let among: HashSet<usize> = stages.iter().copied().collect();
    let left = history::left_over(store.root(), &pipeline.name);
    let left: Vec<usize> = left.iter().filter_map(|stage| pipeline.index(stage)).filter(|stage| among.contains(stage)).collect();
    graph.with_ancestors(&left)
}

/// Whether there is an NVIDIA GPU that CUDA may see.
fn gpu_is_there() -> bool {
    let hidden = std::env::var("CUDA_VISIBLE_DEVICES").is_ok_and(|visible| matches!(visible.trim(), "" | "-1"));
    let is_gpu = |name: &str| name.strip_prefix("nvidia").is_some_and(|number| number.parse::<u32>().is_ok());
    !hidden && std::fs::read_dir("/dev").is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_gpu)))
}

/// Why the engine could not begin or go on. What goes wrong inside a stage is an event instead.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed.
    #[error("store: {0}")]
    Cache(#[from] CacheError),
    /// A stage or an axis that the user named does not exist.
    #[error("{0}")]
    Unknown(#[from] Unknown),
    /// An input cannot be read while planning, or an output of a stage meets the store.
    #[error("{stage}: {error}")]
    Input {
        /// The stage whose it is.
        stage: String,
        /// Why not.
        error: crate::error::StageError,
    },
}

/// One pipeline over one store.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) pipeline: Pipeline,
    pub(crate) graph: Graph,
    pub(crate) options: Options,
    /// Stages in question, in topological order.
    pub(crate) selected: Vec<usize>,
    /// The names of those to run although their results are there.
    pub(crate) forced: HashSet<String>,
    pub(crate) stats: StatCache,
    pub(crate) briefs: Briefs,
    pub(crate) last: Last,
    pub(crate) away: Away,
    /// Results that this goes on using.
    pub(crate) lease: Lease,
}

impl Engine {
    /// Prepares a checked pipeline for planning and running.
    ///
    /// # Errors
    /// When a target or a forced stage does not exist, or an output would be put into the store.
    pub fn new(store: Store, pipeline: Pipeline, options: Options) -> Result<Self, EngineError> {
        crate::apart::check(&pipeline, &store)?;
        let graph = Graph::of(&pipeline);
        let options = options.with_targets(&pipeline);
        let mut selected = options.selected(&graph)?;
        if options.left_over {
            selected = left_over(&selected, &store, &pipeline, &graph);
        }
        let forced = options.forced(&graph)?.into_iter().map(|stage| pipeline.stages[stage].name.clone()).collect();
        let stats = StatCache::open(&store.root().join("stat.cache")).apart_from(store.root());
        let last = Last::load(&store, &pipeline.name);
        let briefs = last.briefs(&store);
        let away = Away::new(options.remote.clone().filter(|_| !options.offline));
        let lease = store.lease();
        Ok(Self { store, pipeline, graph, options, selected, forced, stats, briefs, last, away, lease })
    }

    /// Goes on using results that were found, or kept, under a guard: until this engine is dropped, they are no garbage.
    pub(crate) fn go_on_using(&self, guard: Guard, keys: &[Digest]) {
        self.lease.keep(guard, keys);
    }

    /// The pipeline.
    #[must_use]
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The graph of the pipeline.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Another pipeline file of the same name that has used this store last; what a name has now is then this one's. Asked once a run.
    #[must_use]
    pub fn namesake(&self) -> Option<PathBuf> {
        self.last.namesake(&self.pipeline.file)
    }

    /// The stages that were asked for by their names.
    #[must_use]
    pub fn targets(&self) -> &[String] {
        &self.options.targets
    }

    /// The cluster that runs the stages, if one does.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.options.cluster.as_ref()
    }

    /// The stages in question, in topological order.
    #[must_use]
    pub fn selected(&self) -> &[usize] {
        &self.selected
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Brings a result here that the remote has; none where it has not.
    ///
    /// # Errors
    /// When the remote does not answer as it should, or what it has is damaged.
    pub fn fetch(&self, key: &Digest) -> Result<Option<Record>, RemoteError> {
        let Some(remote) = self.away.remote() else { return Ok(None) };
        let Some(shared) = remote.record(key)? else { return Ok(None) };
        remote.fetch(&self.store, &shared, &())?;
        Ok(Some(shared.record))
    }

    /// What the user should know of the remote and has not been told yet.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        self.away.warnings()
    }

    /// Keeps what was learnt by looking at files and records, so that the next run need only look whether they are the same. What cannot be kept is
    /// learnt again. `keys` are those that stages have now.
    pub(crate) fn keep_looks(&self, keys: impl IntoIterator<Item = Digest>) {
        let _ = self.stats.save();
        let _ = self.briefs.save(self.last.keys().copied().chain(keys));
    }

    /// Ends the engine where the process ends with it: what other processes see is left in order, but memory is not given back piece by piece.
    pub fn leave(self) {
        let Self { pipeline, graph, last, stats, briefs, .. } = self;
        std::mem::forget((pipeline, graph, last, stats, briefs));
    }

    pub(crate) fn decider(&self) -> Decider<'_> {
        Decider::new(self)
    }
}
