//! `--device` and what a machine has.

use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;

use crate::support::{Answer, Project};

/// A stage that uses tensors.
const BASE: &str = "[stages.base]\nkind = \"checkpoint\"\nconfig = { model_type = \"bert\" }\ntokenizer = \"vocab.txt\"\n";

/// Says that there are two GPUs, and notes that it was asked; serves nothing.
const WORKER: &str = r#"#!/bin/sh
echo "$1" >> asked
[ "$1" = env ] || exit 1
echo '{"torch":{"libtorch":"2.11.0","cuda":[{"name":"A","memory":8589934592},{"name":"B","memory":8589934592}]}}'
"#;

/// Runs the command where a worker sees two GPUs.
fn with_gpus(project: &Project, args: &[&str]) -> Answer {
    project.write("worker", WORKER);
    std::fs::set_permissions(project.path("worker"), PermissionsExt::from_mode(0o755)).unwrap();
    project.answer(project.command(args).env("QAPIPE_WORKER", project.path("worker")))
}

fn project(head: &str) -> Project {
    let project = Project::of(&format!("{head}{BASE}"));
    project.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n");
    project
}

#[test]
fn what_is_no_list_of_devices_is_exit_2() {
    let project = Project::toy();
    let said = |device: &str| project.qapipe(&["run", "--device", device]).code(2).err.lines().next().unwrap_or_default().to_owned();
    assert_snapshot!(said("cuda:0,cpu"), @"error: invalid value 'cuda:0,cpu' for '--device <DEVICES>': `cpu` stands alone: only GPUs make a list");
    assert_snapshot!(said("cuda,cuda:0"), @"error: invalid value 'cuda,cuda:0' for '--device <DEVICES>': cuda:0 is named twice");
    assert_snapshot!(said("cuda:0;cuda:1"), @"error: invalid value 'cuda:0;cuda:1' for '--device <DEVICES>': `cuda:0;cuda:1` is none of auto, cpu, cuda, cuda:N; several GPUs are written cuda:0,cuda:1");
    assert!(project.ran().is_empty());
    project.qapipe(&["plan", "--device", "cuda:0,cuda:1"]).code(0);
}

#[test]
fn a_stage_runs_on_one_device() {
    let project = project("");
    project.edit("vocab.txt\"", "vocab.txt\"\nhints = { device = \"cuda:0,cuda:1\" }");
    let said = project.qapipe(&["check"]).code(2).err;
    assert!(said.contains("`hints.device` wants auto, cpu, cuda, or cuda:N") && said.contains("a stage runs on one device"), "{said}");
}

#[test]
fn a_gpu_that_is_not_there_is_exit_4_before_anything_runs() {
    let project = project("");
    let answer = with_gpus(&project, &["run", "--device", "cuda:1,cuda:7"]).code(4);
    assert!(answer.err.contains("cuda:7 was asked for, but libtorch sees 2 CUDA devices"), "{}", answer.err);
    assert_eq!(project.read("asked"), "env\n");
}

#[test]
fn one_gpu_is_asked_of_nobody() {
    let project = project("");
    with_gpus(&project, &["run", "-q", "--device", "cuda:1"]).code(1);
    assert_eq!(project.read("asked"), "serve\n");
}

#[test]
fn strict_numerics_want_gpus_that_are_alike_and_there() {
    let project = project("numerics = \"strict\"\n");
    let said = |device: &str, code: i32| with_gpus(&project, &["plan", "--device", device]).code(code).err;
    assert_snapshot!(said("cuda:0,cuda:1", 2), @r#"
    error: `numerics = "strict"` wants GPUs that are alike: cuda:0 is A, cuda:1 is B
      help: name those with --device that have one name
    "#);
    assert_snapshot!(said("cuda:7", 4), @r"
    error: cuda:7 was asked for, but libtorch sees 2 CUDA devices
      help: `qapipe env` shows what there is; --device cpu works everywhere
    ");
    let key = |device: &str| {
        let plan = with_gpus(&project, &["plan", "--json", "--device", device]).code(0).json();
        plan["stages"][0]["key"].as_str().unwrap().to_owned()
    };
    assert_ne!(key("cuda:0"), key("cuda:1"), "they are not alike");
    assert_eq!(key("auto"), key("auto"));
}
