//! What libtorch is here, as the worker says: this executable does not link it.

use std::path::Path;
use std::process::{Command, Stdio};

use qapipe_engine::Options;
use serde_json::Value;

use crate::failure::{Exit, Failure};

/// The device that `auto` stands for, and what numbers hang on besides: for pipelines whose results must repeat bit for bit.
pub(crate) fn pin(options: Options) -> Result<Options, Failure> {
    let Some(worker) = &options.worker else { return Ok(options) };
    let said = ask(&worker.path).map_err(|problem| {
        let failure = Failure::new(Exit::Environment, format!("what `numerics = \"strict\"` hangs on is not known: {problem}"));
        failure.help("`qapipe env` shows what there is")
    })?;
    let torch = &said["torch"];
    let gpu = torch["cuda"].as_array().and_then(|gpus| gpus.first());
    let usual = if gpu.is_some() { "cuda:0" } else { "cpu" };
    let device = if options.device == "auto" { usual.to_owned() } else { options.device.clone() };
    if gpu.is_none() {
        check_cluster(&options, &device)?;
    }
    let gpu = gpu.filter(|_| device != "cpu").and_then(|gpu| gpu["name"].as_str()).map(|name| format!(", {name}"));
    let platform = format!("libtorch {}{}", torch["libtorch"].as_str().unwrap_or("unknown"), gpu.unwrap_or_default());
    Ok(Options { device, platform: Some(platform), ..options })
}

/// Whether the nodes of a cluster have GPUs which this machine, that has none, cannot know by name.
fn check_cluster(options: &Options, device: &str) -> Result<(), Failure> {
    let Some(cluster) = &options.cluster else { return Ok(()) };
    let wants_gpus = options.device == "auto" && cluster.wants.gpus.is_some_and(|gpus| gpus > 0);
    if !wants_gpus && !device.starts_with("cuda") {
        return Ok(());
    }
    let failure = Failure::usage("with `numerics = \"strict\"` results hang on the name of the GPU, and there is none here to ask");
    Err(failure.help("start the run on a node with one (in a job of its own, say), or give --device cpu"))
}

/// What a worker says of libtorch and CUDA, or why it says nothing.
pub(crate) fn ask(worker: &Path) -> Result<Value, String> {
    let asked = Command::new(worker).arg("env").stdin(Stdio::null()).output();
    let answer = asked.map_err(|error| format!("it cannot be started: {error}"))?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        return Err(format!("it failed ({}): {}", answer.status, said.lines().last().unwrap_or("it said nothing")));
    }
    serde_json::from_slice(&answer.stdout).map_err(|error| format!("what it says is no JSON: {error}"))
}
