//! A Slurm cluster of this machine, which `scripts/slurm` starts: each test has its own, as folders and ports are cheap and queues are not shared.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Answer, Project, wait_for_up_to};

/// Where it has to be had: then it is installed, and that it cannot is an error.
const NEEDED: &str = "QAPIPE_NEED_SLURM";

/// A running cluster, which ends with this, or with the process.
pub(crate) struct Cluster {
    holder: Child,
    home: tempfile::TempDir,
}

impl Cluster {
    /// Starts one; none where it cannot be had, which is told.
    pub(crate) fn start() -> Option<Self> {
        let is_needed = std::env::var_os(NEEDED).is_some();
        if !is_needed && !is_installed("slurmctld") {
            eprintln!("skipped: Slurm is not installed (`{NEEDED}=1` installs it)");
            return None;
        }
        Self::hold(is_needed, &[])
    }

    /// The same with a database of ended jobs, and with an eye on memory; none where what that takes is not installed.
    pub(crate) fn start_with_accounting() -> Option<Self> {
        if let Some(missing) = ["slurmctld", "slurmdbd", "mariadbd"].into_iter().find(|program| !is_installed(program)) {
            eprintln!("skipped: {missing} is not installed (`scripts/slurm start DIR accounting` installs it)");
            return None;
        }
        Self::hold(false, &["accounting"])
    }

    fn hold(is_needed: bool, how: &[&str]) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/slurm");
        let mut command = Command::new(script);
        command.arg("hold").arg(home.path()).args(how).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.trim() == "ready" {
            return Some(Self { holder, home });
        }
        let _ = holder.wait();
        assert!(!is_needed, "Slurm could not be started, and {NEEDED} is set");
        eprintln!("skipped: `scripts/slurm` could not start Slurm");
        None
    }

    /// The command in a project, as one that submits to this cluster.
    pub(crate) fn command(&self, project: &Project, args: &[&str]) -> Command {
        let mut command = project.command(args);
        command.env("SLURM_CONF", self.configuration());
        for name in std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("SBATCH_")) {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, project: &Project, args: &[&str]) -> Answer {
        project.answer(&mut self.command(project, &[&["run", "--executor", "slurm"], args].concat()))
    }

    /// Starts a run whose streams go to files of the project.
    pub(crate) fn start_run(&self, project: &Project, args: &[&str]) -> Child {
        let mut command = self.command(project, &[&["run", "--executor", "slurm"], args].concat());
        let out = std::fs::File::create(project.path("driver.out")).unwrap();
        let err = std::fs::File::create(project.path("driver.err")).unwrap();
        command.stdout(out).stderr(err).spawn().unwrap()
    }

    /// What a program of Slurm's says.
    pub(crate) fn ask(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program).args(args).env("SLURM_CONF", self.configuration()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The jobs of which there is still something to come.
    pub(crate) fn jobs(&self) -> Vec<String> {
        self.ask("squeue", &["-h", "--array", "-o", "%i"]).split_whitespace().map(str::to_owned).collect()
    }

    /// How many jobs and tasks of arrays were ever submitted.
    pub(crate) fn submitted(&self) -> usize {
        self.ask("squeue", &["-h", "--array", "--states=all", "-o", "%i"]).split_whitespace().count()
    }

    /// Waits until no job waits or runs.
    pub(crate) fn wait_until_idle(&self) {
        patiently("the jobs to end", || self.jobs().is_empty());
    }

    fn configuration(&self) -> PathBuf {
        self.home.path().join("slurm.conf")
    }
}

/// Waits until something holds that Slurm has to do, which takes its time on a busy machine.
pub(crate) fn patiently(what: &str, holds: impl Fn() -> bool) {
    wait_for_up_to(Duration::from_secs(90), what, holds);
}

/// Its input ends: it stops the cluster.
impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Whether there is a program that only administrators may have on their path.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder: PathBuf| Path::new(&folder).join(program).is_file())
}
