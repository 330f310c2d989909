//! The side of the worker protocol that asks, against workers made of shell.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/heavy.rs"]
mod heavy;
#[path = "common/project.rs"]
mod project;

use std::os::unix::fs::PermissionsExt;

use heavy::HEAVY;
use project::{Project, Run};
use qapipe_engine::{Devices, ErrorClass, Kinds, Options, StageKind, StageOutcome, StageState, WorkerCommand};

const KINDS: &[&dyn StageKind] = &[&HEAVY];

/// Takes the path of output `y` out of the request, as any JSON reader would.
const READ: &str = "read -r request; y=$(printf '%s' \"$request\" | sed 's/.*\"outputs\":{\"y\":\"\\([^\"]*\\)\".*/\\1/')\n";

fn project(script: &str) -> Project {
    let project = Project::new(Kinds::new(KINDS), "[stages.h]\nkind = \"heavy\"\n");
    project.write("worker", &format!("#!/bin/sh\n{READ}{script}"));
    std::fs::set_permissions(project.path("worker"), PermissionsExt::from_mode(0o755)).unwrap();
    project
}

fn options(project: &Project) -> Options {
    Options {
        worker: Some(WorkerCommand { path: project.path("worker"), args: Vec::new() }),
        ..<Options as std::default::Default>::default()
    }
}

fn run(script: &str) -> (Project, Run) {
    let project = project(script);
    let run = project.run_with(options(&project));
    (project, run)
}

#[test]
fn a_worker_that_is_done_gives_its_outputs_and_figures() {
    let script = "echo log >&2; echo '{\"say\":\"progress\",\"done\":1,\"total\":2,\"unit\":\"steps\",\"note\":\"\"}'\n\
                  echo '{\"say\":\"measure\",\"name\":\"train_seconds\",\"value\":1.5}'; echo 5 > \"$y\"; echo '{\"say\":\"done\"}'";
    let (_project, run) = run(script);
    assert_eq!(run.outcome.stages[0].state, StageState::Ran, "{:?}", run.events);
    assert_eq!(run.outcome.stages[0].brief.as_ref().unwrap().record().unwrap().cost["train_seconds"], 1.5);
}

#[test]
fn under_strict_numerics_keys_hang_on_hints_that_bits_hang_on() {
    let key = |numerics: &str, hints: &str| {
        let pipeline = format!("numerics = \"{numerics}\"\n[stages.h]\nkind = \"heavy\"\nhints = {{ {hints} }}\n");
        let project = Project::new(Kinds::new(KINDS), &pipeline);
        project.engine(options(&project)).plan().unwrap().stages[0].key
    };
    assert_eq!(key("default", "batch = 2"), key("default", "batch = 3"));
    assert_ne!(key("strict", "batch = 2"), key("strict", "batch = 3"));
    assert_eq!(key("strict", "batch = 2, checkpoint_seconds = 2"), key("strict", "batch = 2"));
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

#[test]
fn a_worker_that_says_nothing_at_its_end_has_died() {
    let (_project, run) = run("echo 5 > \"$y\"; exit 0");
    let (_, error) = run.outcome.failures().next().unwrap();
    assert!(error.message.starts_with("the worker died: exit code 0"), "{error}");
    assert!(error.help.is_some());
}

#[test]
fn what_a_worker_prints_is_in_the_log() {
    let (project, _run) = run("echo 'not json'; echo '{\"say\":\"log\",\"line\":\"hello\"}'; echo 5 > \"$y\"; echo '{\"say\":\"done\"}'");
    let path = qapipe_engine::log(&project.path(".qapipe"), "h", None).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "not json\nhello\n");
}

#[test]
fn what_escapes_from_a_worker_does_not_hold_the_run() {
    let started = std::time::Instant::now();
    let (project, run) = run("setsid sleep 25 & echo $! > child; sleep 0.3; echo 5 > \"$y\"; echo '{\"say\":\"done\"}'");
    assert!(started.elapsed().as_secs() < 12, "the run waited for the process that escaped");
    project::kill(&project.read("child"));
    assert_eq!(run.outcome.stages[0].state, StageState::Ran, "{:?}", run.events);
}

#[test]
fn an_interrupt_is_a_line_to_the_worker() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let project = project("touch started; read -r line; [ \"$line\" = cancel ] && touch cancelled; exit 1");
    let cancel = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let engine = project.engine(options(&project));
        let cancel = &cancel;
        let run = scope.spawn(move || engine.run(&(), cancel).unwrap());
        project::wait_for(&project.path("started"));
        cancel.store(true, Ordering::Relaxed);
        let outcome = run.join().unwrap();
        assert_eq!(outcome.failures().next().unwrap().1.class, ErrorClass::Interrupted);
    });
    assert!(project.path("cancelled").exists());
    assert_eq!(project.store().usage().records, 0);
}

#[test]
fn on_the_cpu_it_is_alone_unless_it_was_given_threads() {
    let both = |hints: &str| {
        let project = project("echo x >> in; sleep 0.6; wc -l < in >> most; sed -i 1d in; echo 5 > \"$y\"; echo '{\"say\":\"done\"}'");
        project
            .write("pipeline.toml", &format!("[stages.a]\nkind = \"heavy\"\n{hints}\n[stages.b]\nkind = \"heavy\"\nseed = 1\n{hints}\n"));
        project.run_with(Options { jobs: 2, devices: Devices::Cpu, ..options(&project) });
        project.read("most").split_whitespace().map(|count| count.parse::<u32>().unwrap()).max().unwrap()
    };
    assert_eq!((both(""), both("hints = { threads = 1 }")), (1, 2));
}

/// A worker that goes on to its next stage, and leaves its number in the output; it fails where `fail` is there.
const WAITS: &str = "while read -r request; do y=$(printf '%s' \"$request\" | sed 's/.*\"outputs\":{\"y\":\"\\([^\"]*\\)\".*/\\1/')\n\
    echo late >&2; echo $$ > \"$y\"\n\
    [ -e fail ] && { rm fail; echo '{\"say\":\"error\",\"error\":{\"class\":\"failed\",\"message\":\"no\",\"help\":null}}'; exit 1; }\n\
    echo '{\"say\":\"done\"}'; printf '\\004quiet\\n' >&2; done; touch ended";

/// Runs stages one after the other; gives the run, and the workers that they ran in.
fn one_after_the_other(project: &Project, stages: u32, keep_going: bool) -> (Run, Vec<String>) {
    let text = (0..stages).map(|stage| format!("[stages.h{stage}]\nkind = \"heavy\"\nseed = {stage}\n"));
    project.write("pipeline.toml", &text.collect::<String>());
    project.write("worker", &format!("#!/bin/sh\n{WAITS}"));
    let run = project.run_with(Options { jobs: 1, devices: Devices::Cpu, keep_going, ..options(project) });
    let text = |stage: &StageOutcome| {
        let brief = stage.brief.as_ref()?;
        std::fs::read_to_string(project.store().path(&brief.outputs()["y"])).ok()
    };
    let workers = run.outcome.stages.iter().filter_map(text).collect();
    (run, workers)
}

#[test]
fn a_worker_whose_stage_is_done_takes_the_next_one() {
    let project = project("");
    let (run, workers) = one_after_the_other(&project, 3, false);
    assert!(run.outcome.stages.iter().all(|stage| stage.state == StageState::Ran), "{:?}", run.events);
    assert!(workers.len() == 3 && workers.iter().all(|worker| *worker == workers[0]), "{workers:?}");
    for stage in ["h0", "h1", "h2"] {
        let path = qapipe_engine::log(&project.path(".qapipe"), stage, None).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "late\n", "what a stage prints is in its own log");
    }
}

#[test]
fn after_a_failure_a_new_worker_is_started() {
    let project = project("");
    project.write("fail", "");
    let (run, workers) = one_after_the_other(&project, 3, true);
    let failed: Vec<&str> = run.outcome.failures().map(|(stage, _)| stage).collect();
    assert_eq!((failed, workers.len()), (vec!["h0"], 2), "{:?}", run.events);
    assert_eq!(workers[0], workers[1]);
}
