//! The side of the worker protocol that asks, against workers made of shell.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use project::{Project, Run};
use qapipe_engine::{
    ArtifactType, ErrorClass, Kinds, Options, OutputSpec, Param, Place, StageCx, StageError, StageKind, StageState, Values,
};

struct Heavy;

impl StageKind for Heavy {
    fn name(&self) -> &'static str {
        "heavy"
    }
    fn version(&self) -> u32 {
        1
    }
    fn doc(&self) -> &'static str {
        "Runs elsewhere."
    }
    fn params(&self) -> &'static [Param] {
        &[]
    }
    fn outputs(&self, _: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("y", ArtifactType::FILE)]
    }
    fn place(&self) -> Place {
        Place::Worker
    }
    fn run(&self, _: &StageCx<'_>) -> Result<(), StageError> {
        panic!("a worker kind never runs here")
    }
}

const KINDS: &[&dyn StageKind] = &[&Heavy];

/// Takes the path of output `y` out of the request, as any JSON reader would.
const READ: &str = "read -r request; y=$(printf '%s' \"$request\" | sed 's/.*\"outputs\":{\"y\":\"\\([^\"]*\\)\".*/\\1/')\n";

fn run(script: &str) -> (Project, Run) {
    let project = Project::new(Kinds::new(KINDS), "[stages.h]\nkind = \"heavy\"\n");
    project.write("worker", &format!("#!/bin/sh\n{READ}{script}"));
    let worker: PathBuf = project.path("worker");
    std::fs::set_permissions(&worker, PermissionsExt::from_mode(0o755)).unwrap();
    let run = project.run_with(Options { worker: Some(worker), ..Options::default() });
    (project, run)
}

#[test]
fn a_worker_that_is_done_gives_its_outputs_and_figures() {
    let script = "echo log >&2; echo '{\"say\":\"progress\",\"done\":1,\"total\":2,\"unit\":\"steps\",\"note\":\"\"}'\n\
                  echo '{\"say\":\"measure\",\"name\":\"train_seconds\",\"value\":1.5}'; echo 5 > \"$y\"; echo '{\"say\":\"done\"}'";
    let (_project, run) = run(script);
    assert_eq!(run.outcome.stages[0].state, StageState::Ran, "{:?}", run.events);
    assert_eq!(run.outcome.stages[0].record.as_ref().unwrap().cost["train_seconds"], 1.5);
}

#[test]
fn a_worker_error_comes_through() {
    let (_project, run) =
        run("echo '{\"say\":\"error\",\"error\":{\"class\":\"out-of-memory\",\"message\":\"no room\",\"help\":null}}'; exit 1");
    let (_, error) = run.outcome.failures().next().unwrap();
    assert_eq!((error.class, error.message.as_str()), (ErrorClass::OutOfMemory, "no room"));
}

#[test]
fn a_worker_that_dies_tells_how() {
    let (_project, run) = run("echo terminate called >&2; sleep 0.1; kill -ABRT $$");
    let (_, error) = run.outcome.failures().next().unwrap();
    assert!(error.message.starts_with("the worker died: killed by signal 6"), "{error}");
    assert!(error.message.contains("terminate called"), "{error}");
}

#[test]
fn no_worker_is_the_machines_lack() {
    let project = Project::new(Kinds::new(KINDS), "[stages.h]\nkind = \"heavy\"\n");
    let run = project.run();
    assert_eq!(run.outcome.failures().next().unwrap().1.class, ErrorClass::Environment);
}
