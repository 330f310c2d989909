//! What a run is to bring up to date, where, and by what.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use qapipe_cache::Digest;
use qapipe_engine::{Devices, Job, Options, Override, Where};

/// A pipeline and what to replace in it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Changes {
    /// Replace a value: vars.NAME=…, seed=…, matrix.AXIS=[…], stages.STAGE.PARAMETER=… (may be repeated)
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<Override>,
    /// Try several values, as an axis of the matrix: stages.STAGE.PARAMETER=V1,V2,… (repeated: all combinations)
    #[arg(long = "sweep", value_name = "PATH=VALUES", value_parser = Override::sweep)]
    sweep: Vec<Override>,
}

impl Changes {
    /// All of them.
    pub(crate) fn overrides(&self) -> Vec<Override> {
        [self.set.as_slice(), &self.sweep].concat()
    }

    /// The same as arguments of another command.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let option = |change: &Override| [if change.sweep { "--sweep" } else { "--set" }.to_owned(), change.to_string()];
        self.overrides().iter().flat_map(option).collect()
    }
}

/// Where stages run; part of no result unless a pipeline says `numerics = "strict"`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Machine {
    /// Where stages run that use tensors: auto, cpu, cuda, or GPUs such as cuda:0,cuda:1, of which each stage gets one
    #[arg(long, value_name = "DEVICES", default_value = "auto")]
    device: Devices,
    /// Threads that stages share [default: one for each core]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

impl Machine {
    /// Whether the user said how many threads there are.
    pub(crate) fn fixes_jobs(&self) -> bool {
        self.jobs.is_some()
    }

    /// Whether the user named several GPUs.
    pub(crate) fn names_several(&self) -> bool {
        matches!(&self.device, Devices::Cuda(gpus) if gpus.len() > 1)
    }

    /// What that means for the engine.
    pub(crate) fn options(self) -> Options {
        let usual = Options::default();
        Options { devices: self.device, jobs: self.jobs.map_or(usual.jobs, NonZeroUsize::get), ..usual }
    }
}

/// What a run brings up to date and a plan looks at.
#[derive(Debug, Args)]
pub(crate) struct Work {
    /// Pipeline file, or a folder with a pipeline.toml [default: pipeline.toml]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) pipeline: Option<PathBuf>,
    /// Only these stages, with what they need; of a matrix all cells, or lora[rank=8] [default: the pipeline's targets, or all]
    #[arg(value_name = "STAGE")]
    pub(crate) stages: Vec<String>,
    /// Of these stages only the cells with such a value, with what they need (repeated: all conditions hold)
    #[arg(long = "where", value_name = "AXIS=VALUE,…")]
    pub(crate) cells: Vec<Where>,
    #[command(flatten)]
    pub(crate) changes: Changes,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Run this stage although its result is there (may be repeated)
    #[arg(short, long, value_name = "STAGE")]
    pub(crate) force: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) work: Work,
    /// After a failure, go on with stages that do not need what failed; cells of a matrix always do
    #[arg(short, long)]
    pub(crate) keep_going: bool,
    /// Let stages share a GPU where what they held of it last time fits together; what they take in time and energy is then not known
    #[arg(long)]
    pub(crate) share_gpus: bool,
    /// Only stages that failed, were stopped or could not run in the last run of the pipeline, with what they need
    #[arg(long)]
    pub(crate) failed: bool,
    /// Use no network and no remote; what the hub gave before is found in its cache
    #[arg(long)]
    pub(crate) offline: bool,
    /// Exit with 5 instead of waiting where another run is computing the same result
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// What runs the stages: this machine, or jobs of a Slurm cluster
    #[arg(long, value_name = "WHERE", default_value = "local")]
    pub(crate) executor: Executor,
    /// With --executor slurm: print the scripts of the jobs that would be submitted now, and submit nothing
    #[arg(long)]
    pub(crate) dry: bool,
    #[command(flatten)]
    pub(crate) job: JobArgs,
}

/// What runs the stages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Executor {
    Local,
    Slurm,
}

/// What the script of a job says, and nobody else.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The key that the one stage is to come out with
    #[arg(long, hide = true, value_name = "KEY", requires_all = ["run_id", "events", "stages"])]
    expect: Option<Digest>,
    /// The run that submitted it
    #[arg(long, hide = true, value_name = "RUN")]
    run_id: Option<String>,
    /// Where its events go
    #[arg(long, hide = true, value_name = "FILE")]
    events: Option<PathBuf>,
}

impl JobArgs {
    /// The job that this run is, if it is one.
    pub(crate) fn job(self) -> Option<Job> {
        Some(Job { expect: self.expect?, run: self.run_id?, events: self.events? })
    }
}
