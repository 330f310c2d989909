//! GPUs that do not exist: their worker is a shell that notes where it was sent, and goes on when it is told to.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use qapipe_engine::{Gpus, WorkerCommand};

use crate::project::{Project, wait_for, wait_until};

/// Leaves its device and its number in `at/STAGE`; goes on once `go/STAGE` or `go/all` is there.
const WORKER: &str = r#"#!/bin/sh
field() { printf '%s' "$request" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
while read -r request; do
    stage=$(field stage)
    echo "$(field device) $$" > at/.$stage && mv at/.$stage at/$stage
    while [ ! -e go/$stage ] && [ ! -e go/all ]; do sleep 0.01; done
    echo "$stage" > "$(field y)"
    mib=$(printf '%s' "$request" | sed 's/.*"peak":\([0-9]*\).*/\1/')
    echo "{\"say\":\"measure\",\"name\":\"gpu_peak_bytes\",\"value\":$((mib * 1048576))}"
    echo '{"say":"done"}'; printf '\004quiet\n' >&2
done
"#;

/// Puts the worker into a project.
pub fn worker(project: &Project) -> WorkerCommand {
    project.write("worker", WORKER);
    std::fs::set_permissions(project.path("worker"), PermissionsExt::from_mode(0o755)).unwrap();
    for folder in ["at", "go"] {
        std::fs::create_dir_all(project.path(folder)).unwrap();
    }
    WorkerCommand { path: project.path("worker"), args: Vec::new() }
}

/// Nothing has run, and nothing may go on.
pub fn forget(project: &Project) {
    for folder in ["at", "go"] {
        let _ = std::fs::remove_dir_all(project.path(folder));
        std::fs::create_dir(project.path(folder)).unwrap();
    }
}

/// Lets a stage go on, or `all`.
pub fn go(project: &Project, stage: &str) {
    project.write(&format!("go/{stage}"), "");
}

/// Waits until a stage runs; gives its device and the worker's number.
pub fn at(project: &Project, stage: &str) -> (String, String) {
    let name = format!("at/{stage}");
    wait_for(&project.path(&name));
    let text = project.read(&name);
    let (device, worker) = text.trim().split_once(' ').unwrap();
    (device.to_owned(), worker.to_owned())
}

/// Waits until so many stages have come to run; gives their names.
pub fn came(project: &Project, count: usize) -> Vec<String> {
    let names = || {
        let entries = std::fs::read_dir(project.path("at")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.filter(|name| !name.starts_with('.')).collect::<Vec<String>>()
    };
    wait_until(|| names().len() >= count, &format!("{count} stages never came"));
    names()
}

/// GPUs with so many GiB of memory.
#[derive(Debug)]
pub struct Toys {
    gibibytes: Vec<u64>,
    pub asked: AtomicUsize,
}

impl Toys {
    pub fn new(gibibytes: &[u64]) -> Self {
        Self { gibibytes: gibibytes.to_vec(), asked: AtomicUsize::new(0) }
    }
}

impl Gpus for Toys {
    fn memory(&self) -> Option<Vec<Option<u64>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Some(self.gibibytes.iter().map(|gibibytes| Some(gibibytes << 30)).collect())
    }
}
