//! What the commands share: where to print, which store, how to come by an engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qapipe_cache::Store;
use qapipe_engine::{Engine, EngineError, Gpus, Graph, Options, Override, Parsed, Pipeline, WorkerCommand};

use crate::failure::Failure;
use crate::kinds::kinds;
use crate::printer::Printer;
use crate::project;
use crate::settings::{self, Behind};
use crate::torch::{self, Torch};

/// The surroundings of one command.
pub(crate) struct Session {
    pub(crate) printer: Printer,
    /// `--store`, or else `QAPIPE_STORE`.
    store: Option<PathBuf>,
}

impl Session {
    pub(crate) fn new(printer: Printer, store: Option<PathBuf>) -> Self {
        let from_environment = || std::env::var_os("QAPIPE_STORE").filter(|store| !store.is_empty()).map(PathBuf::from);
        Self { printer, store: store.or_else(from_environment) }
    }

    /// A pipeline over its store. All that the stages read which are to be brought up to date is there.
    pub(crate) fn engine(&self, file: &Path, set: &[Override], options: Options) -> Result<Engine, Failure> {
        self.engine_before(
            file,
            set,
            options,
            |options, folder| if options.offline { Ok(Behind::default()) } else { settings::remote(folder) },
        )
    }

    /// The same for a job of a cluster: whether the remote has something was the driver's to ask.
    pub(crate) fn engine_of_job(&self, file: &Path, set: &[Override], options: Options) -> Result<Engine, Failure> {
        self.engine_before(file, set, options, |_, _| Ok(Behind::default()))
    }

    /// `behind` says what is behind the store, by the pipeline's folder.
    fn engine_before(
        &self,
        file: &Path,
        set: &[Override],
        options: Options,
        behind: impl FnOnce(&Options, &Path) -> Result<Behind, Failure>,
    ) -> Result<Engine, Failure> {
        let folder = project::store_beside(&Pipeline::folder_of(file), self.store.as_deref());
        // What is the matter with a store is told once the pipeline is known to be sound, and one is made only then.
        let store = Store::open_existing(&folder);
        let parsed = store.iter().flatten().map(Parsed::of).next().unwrap_or_default();
        let pipeline = Pipeline::load_again(file, &kinds(), set, &parsed)?;
        pipeline.check_files_of(options.selected(&Graph::of(&pipeline)).map_err(EngineError::from)?)?;
        let store = store?.map_or_else(|| Store::open(&folder), Ok)?;
        let behind = behind(&options, &pipeline.folder)?;
        let worker = project::worker();
        let gpus = worker.clone().map(|worker| Arc::new(Torch(worker)) as Arc<dyn Gpus>);
        let options = Options { worker: worker.map(worker_command), gpus, remote: behind.remote, push: behind.push, ..options };
        let options = with_cluster(options, &pipeline.folder)?;
        let options = if pipeline.strict { torch::pin(options)? } else { options };
        Ok(Engine::new(store, pipeline, options)?)
    }

    /// Tells what is the matter with the remote.
    pub(crate) fn tell_warnings(&self, engine: &Engine) {
        engine.warnings().iter().for_each(|warning| self.printer.warning(&warning.message, warning.help.as_deref()));
    }

    /// The store, where no pipeline says which.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        project::find_store(self.store.as_deref())
    }

    /// The same for a command that makes one where there is none.
    pub(crate) fn store_or_new(&self) -> Result<Store, Failure> {
        project::find_or_make_store(self.store.as_deref())
    }

    /// The store beside a pipeline file if one is named, else the nearest.
    #[cfg(feature = "report")]
    pub(crate) fn store_of(&self, pipeline: Option<&Pipeline>) -> Result<Store, Failure> {
        match pipeline {
            Some(pipeline) => project::find_store(Some(&project::store_beside(&pipeline.folder, self.store.as_deref()))),
            None => self.store(),
        }
    }
}

/// Fills in what the project says of the cluster, if there is one: its CPUs are the threads of a job where the user does not say how many.
fn with_cluster(mut options: Options, folder: &Path) -> Result<Options, Failure> {
    if let Some(cluster) = &mut options.cluster {
        cluster.wants = settings::slurm(folder)?;
        let cpus = cluster.wants.cpus.and_then(|cpus| usize::try_from(cpus).ok()).filter(|_| !cluster.fixed_jobs);
        options.jobs = cpus.unwrap_or(options.jobs);
    }
    Ok(options)
}

/// Starts a worker that serves this build of qapipe, and no other: a stale one would give results of old code under new keys.
fn worker_command(path: PathBuf) -> WorkerCommand {
    WorkerCommand { path, args: ["serve", "--build", env!("QAPIPE_BUILD")].map(str::to_owned).to_vec() }
}
