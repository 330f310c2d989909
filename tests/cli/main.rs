//! The command as its users meet it: exit codes, what is printed where, and what runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "cloud")]
mod azure;
mod check;
mod cluster;
mod devices;
mod drivers;
mod gc;
#[cfg(feature = "cloud")]
mod google;
mod include;
mod info;
mod matrix;
#[cfg(feature = "cloud")]
mod moto;
mod pipelines;
mod plan;
mod probes;
mod remote;
mod run;
#[cfg(feature = "cloud")]
mod s3;
mod signals;
mod slurm;
mod store;
mod support;
mod training;
