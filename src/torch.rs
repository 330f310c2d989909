//! What libtorch is here, as the worker says: this executable does not link it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use qapipe_engine::{Devices, Gpus, Options};
use serde_json::Value;

use crate::failure::{Exit, Failure};

/// libtorch, by the worker that links it.
#[derive(Debug)]
pub(crate) struct Torch(pub(crate) PathBuf);

impl Gpus for Torch {
    fn memory(&self) -> Option<Vec<Option<u64>>> {
        let said = ask(&self.0).ok()?;
        Some(gpus(&said).iter().map(|gpu| gpu["memory"].as_u64()).collect())
    }
}

/// The device that `auto` stands for, and what numbers hang on besides: for pipelines whose results must repeat bit for bit.
pub(crate) fn pin(options: Options) -> Result<Options, Failure> {
    let Some(worker) = &options.worker else { return Ok(options) };
    let said = ask(&worker.path).map_err(|problem| {
        let failure = Failure::new(Exit::Environment, format!("what `numerics = \"strict\"` hangs on is not known: {problem}"));
        failure.help("`qapipe env` shows what there is")
    })?;
    if gpus(&said).is_empty() {
        check_cluster(&options)?;
    }
    let devices = match options.devices {
        Devices::Auto if gpus(&said).is_empty() => Devices::Cpu,
        Devices::Auto => Devices::Cuda(vec![0]),
        named => named,
    };
    let gpu = name(&devices, gpus(&said))?.map(|name| format!(", {name}")).unwrap_or_default();
    let platform = format!("libtorch {}{gpu}", said["torch"]["libtorch"].as_str().unwrap_or("unknown"));
    Ok(Options { devices, platform: Some(platform), ..options })
}

/// What GPUs are called of which any may be used: all of them the same, or else results would hang on which one it was.
fn name<'a>(devices: &Devices, gpus: &'a [Value]) -> Result<Option<&'a str>, Failure> {
    if let Some(error) = devices.lacking(gpus.len()) {
        return Err(error.into());
    }
    let Devices::Cuda(numbers) = devices else { return Ok(None) };
    let names: Vec<Option<&str>> = numbers.iter().map(|&number| gpus[usize::from(number)]["name"].as_str()).collect();
    if names.iter().any(|name| *name != names[0]) {
        let list = numbers.iter().zip(&names).map(|(number, name)| format!("cuda:{number} is {}", name.unwrap_or("unknown")));
        let message = format!("`numerics = \"strict\"` wants GPUs that are alike: {}", list.collect::<Vec<_>>().join(", "));
        return Err(Failure::usage(message).help("name those with --device that have one name"));
    }
    Ok(names[0])
}

/// The CUDA devices of which a worker told.
fn gpus(said: &Value) -> &[Value] {
    said["torch"]["cuda"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether the nodes of a cluster have GPUs which this machine, that has none, cannot know by name.
fn check_cluster(options: &Options) -> Result<(), Failure> {
    let Some(cluster) = &options.cluster else { return Ok(()) };
    let wants_gpus = match options.devices {
        Devices::Auto => cluster.wants.gpus.is_some_and(|gpus| gpus > 0),
        Devices::Cpu => false,
        Devices::Cuda(_) => true,
    };
    if !wants_gpus {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn gpus_of_one_run_are_alike_where_numbers_hang_on_them() {
        let said = json!({ "torch": { "cuda": [{ "name": "H100" }, { "name": "H100" }, { "name": "A100" }] } });
        let name = |numbers: &[u16]| name(&Devices::Cuda(numbers.to_vec()), gpus(&said)).map_err(|failure| failure.exit);
        assert_eq!((name(&[0, 1]), name(&[2])), (Ok(Some("H100")), Ok(Some("A100"))));
        assert_eq!((name(&[1, 2]), name(&[0, 7])), (Err(Exit::Usage), Err(Exit::Environment)));
    }
}
