//! `qapipe.toml`: what holds for a project and not for one pipeline. It lies in the pipeline's folder or above it.
//!
//! It holds no credentials. `QAPIPE_REMOTE` names another remote than the file does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qapipe_cache::{Depot, Folder, Remote};
use qapipe_engine::slurm::Wants;
use serde::Deserialize;

use crate::failure::Failure;

/// The project's file.
const FILE: &str = "qapipe.toml";
/// Names a remote: a folder or an address.
const REMOTE: &str = "QAPIPE_REMOTE";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    remote: RemoteSettings,
    /// What jobs of a cluster ask for.
    #[serde(default)]
    slurm: Wants,
}

/// Where results are besides the store.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoteSettings {
    /// A folder, from the folder of the file, or the address of a bucket.
    url: Option<String>,
    /// Where the bucket's service is, if not where its owner has it.
    endpoint: Option<String>,
    /// The bucket's region.
    region: Option<String>,
    /// Whether what is computed is sent there at once.
    #[serde(default)]
    push: bool,
}

/// What is behind the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind {
    pub(crate) remote: Option<Arc<Remote>>,
    pub(crate) push: bool,
}

/// The remote of a project, by the nearest project file at a folder or above it. Nothing is asked of it yet.
pub(crate) fn remote(folder: &Path) -> Result<Behind, Failure> {
    let file = nearest(folder);
    let settings = file.as_deref().map(read).transpose()?.unwrap_or_default().remote;
    let from_environment = std::env::var(REMOTE).ok().filter(|url| !url.is_empty());
    let base = if from_environment.is_some() { Path::new("") } else { file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")) };
    let Some(url) = from_environment.as_ref().or(settings.url.as_ref()) else { return Ok(Behind::default()) };
    Ok(Behind { remote: Some(Arc::new(Remote::new(depot(url, base, &settings)?))), push: settings.push })
}

/// The same for a command that needs one.
pub(crate) fn remote_of(folder: &Path) -> Result<Arc<Remote>, Failure> {
    remote(folder)?.remote.ok_or_else(|| {
        let help = format!("write `[remote]` and `url = \"/shared/results\"` (or s3://BUCKET/PREFIX) in {FILE}, or set {REMOTE}");
        Failure::usage("this project has no remote").help(help)
    })
}

/// What jobs of a project ask a cluster for, by the nearest project file.
pub(crate) fn slurm(folder: &Path) -> Result<Wants, Failure> {
    let Some(file) = nearest(folder) else { return Ok(Wants::default()) };
    let wants = read(&file)?.slurm;
    match wants.wrong() {
        None => Ok(wants),
        Some((key, wanted)) => Err(Failure::usage(format!("{}: `{key}` under [slurm] wants {wanted}", file.display()))),
    }
}

fn nearest(folder: &Path) -> Option<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = folder.canonicalize().ok()?;
    folder.ancestors().map(|folder| folder.join(FILE)).find(|file| file.is_file())
}

fn read(file: &Path) -> Result<Settings, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::io(file, &error))?;
    toml::from_str(&text).map_err(|error| Failure::usage(format!("{}: {}", file.display(), error.to_string().trim_end())))
}

fn depot(url: &str, base: &Path, settings: &RemoteSettings) -> Result<Box<dyn Depot>, Failure> {
    match url.split_once("://") {
        None => Ok(Box::new(Folder::new(&base.join(url)))),
        Some(("file", path)) => Ok(Box::new(Folder::new(Path::new(path)))),
        Some(_) => bucket(url, settings),
    }
}

#[cfg(feature = "cloud")]
fn bucket(url: &str, settings: &RemoteSettings) -> Result<Box<dyn Depot>, Failure> {
    let place = qapipe_remote::Place { endpoint: settings.endpoint.clone(), region: settings.region.clone() };
    qapipe_remote::open(url, &place).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(not(feature = "cloud"))]
fn bucket(url: &str, settings: &RemoteSettings) -> Result<Box<dyn Depot>, Failure> {
    let scheme = url.split(':').next().unwrap_or_default();
    let at = settings.endpoint.iter().chain(&settings.region).next().map(|at| format!(" at {at}")).unwrap_or_default();
    let failure = Failure::usage(format!("this qapipe was built without the feature `cloud`, and a remote of {scheme}{at} needs it"));
    Err(failure.help("build it with `cargo build --features cloud`, or name a folder"))
}
