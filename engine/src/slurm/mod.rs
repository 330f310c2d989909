//! Stages as jobs of a Slurm cluster, over a store that all of its nodes see.
//!
//! The run that the user started is the driver: it decides as ever, and hands every stage that has to run to one thread, `driver`, as soon as
//! its inputs are known. That thread submits what comes together as one job (stages of a family as an array), asks the queue for all jobs at once,
//! and gives back what became of each. A job is this same program with the one stage and the key that it is to come out with (`crate::job`);
//! locks, records and all that is kept for later are those of a run on one machine. What the driver knows of its jobs is in the store
//! (`note`), so that after its death another one takes them up.

mod aftermath;
mod batch;
mod client;
mod driver;
mod dry;
mod follow;
mod note;
mod open;
mod orders;
mod queue;
mod script;
mod submit;
mod wants;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use driver::{Due, start};
pub use dry::{DryRun, Later};
pub use orders::Orders;
pub use wants::{PARAMS, Wants};

/// How a run hands its stages to the cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What all jobs ask for, unless their stages say otherwise.
    pub wants: Wants,
    /// This program, where the nodes find it.
    pub program: PathBuf,
    /// The folder in which jobs start: the one in which the user did.
    pub folder: PathBuf,
    /// What a job is told of the pipeline besides its file: overrides.
    pub arguments: Vec<String>,
    /// Whether the user said how many threads there are.
    pub fixed_jobs: bool,
    /// What the user wants to become of the jobs.
    pub orders: Arc<Orders>,
}
