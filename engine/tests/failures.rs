//! What goes wrong in a stage, and what stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/plain.rs"]
mod plain;
#[path = "common/project.rs"]
mod project;

use std::sync::atomic::{AtomicBool, Ordering};

use plain::{Plain, plain};
use project::{Heard, Project, wait_for};
use qapipe_engine::{Accepts, Command, ErrorClass, Kinds, Options, Param, StageError, StageKind, StageState, Ty};

const KINDS: &[&dyn StageKind] = &[&Command];

fn stage(name: &str, script: &str, inputs: &str) -> String {
    format!("[stages.{name}]\nkind = \"command\"\nrun = [\"sh\", \"-c\", '''{script}''']\ninputs = {{ {inputs} }}\noutputs = [\"y\"]\n\n")
}

fn project(stages: &[String]) -> Project {
    Project::new(Kinds::new(KINDS), &stages.concat())
}

#[test]
fn a_failure_stops_new_stages_and_keeps_what_is_finished() {
    let stages = [
        stage("good", "echo 1 > {out.y}", ""),
        stage("bad", "cat {in.x}; echo this went wrong >&2; exit 3", "x = \"@good\""),
        stage("after", "cp {in.x} {out.y}", "x = \"@bad\""),
        stage("other", "cp {in.x} {out.y}", "x = \"@good\", z = \"@good2\""),
        stage("good2", "sleep 0.5; echo 2 > {out.y}", ""),
    ];
    let project = project(&stages);
    let run = project.run();
    let (name, error) = run.outcome.failures().next().unwrap();
    assert_eq!(name, "bad");
    assert!(error.message.starts_with("`sh` failed: exit code 3"), "{error}");
    assert!(error.message.contains("this went wrong"));
    assert!(run.has("blocked after by bad"), "{:?}", run.events);
    assert!(run.has("finished good2"), "what runs is let finish: {:?}", run.events);
    assert!(run.has("blocked other by "), "{:?}", run.events);
    let run = project.run_with(Options { keep_going: true, ..Options::default() });
    assert_eq!(run.ran(), ["bad", "other"]);
    assert!(run.has("finished other"));
}

#[test]
fn an_output_that_was_not_written_is_an_error() {
    let run = project(&[stage("a", "true", "")]).run();
    assert!(run.has("failed a: it ended well but wrote no output `y`"), "{:?}", run.events);
}

#[test]
fn a_program_that_does_not_exist_is_an_error() {
    let pipeline = "[stages.a]\nkind = \"command\"\nrun = [\"no-such-program\", \"{out.y}\"]\noutputs = [\"y\"]\n";
    let run = Project::new(Kinds::new(KINDS), pipeline).run();
    assert!(run.events.iter().any(|event| event.starts_with("failed a: cannot start `no-such-program`")), "{:?}", run.events);
}

#[test]
fn an_input_edited_under_a_stage_is_not_recorded() {
    let stages = [
        stage("a", "touch started; sleep 0.7; cat {in.x} > {out.y}", "x = \"in.txt\""),
        stage("b", "cp {in.x} {out.y}", "x = \"@a\""),
        stage("c", "sleep 0.7; echo 1 > {out.y}", ""),
        stage("d", "cp {in.x} {out.y}", "x = \"@c\""),
    ];
    let project = project(&stages);
    project.write("in.txt", "one\n");
    std::thread::scope(|scope| {
        let run = scope.spawn(|| project.run());
        wait_for(&project.path("started"));
        project.write("in.txt", "one and a half\n");
        let run = run.join().unwrap();
        assert!(run.has("failed a: in.txt changed while the stage was running; nothing was recorded"), "{:?}", run.events);
        assert!(run.has("blocked b by a"));
        assert!(run.has("finished d"), "what does not depend on it goes on: {:?}", run.events);
        assert_eq!(run.outcome.failures().next().unwrap().1.class, ErrorClass::Stale);
    });
    assert_eq!(project.run().ran(), ["a", "b"]);
}

#[test]
fn an_interrupt_ends_the_whole_process_group_and_records_nothing() {
    let stages = [stage("slow", "(sleep 30; touch survived) & echo $! > child; sleep 30; echo 1 > {out.y}", "")];
    let project = project(&stages);
    let cancel = AtomicBool::new(false);
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        let heard = Heard::default();
        let engine = project.engine(Options::default());
        let cancel = &cancel;
        let run = scope.spawn(move || engine.run(&heard, cancel).unwrap());
        wait_for(&project.path("child"));
        std::thread::sleep(std::time::Duration::from_millis(100));
        cancel.store(true, Ordering::Relaxed);
        let outcome = run.join().unwrap();
        assert!(outcome.interrupted);
        assert!(matches!(&outcome.stages[0].state, StageState::Failed(error) if error.class == ErrorClass::Interrupted));
    });
    assert!(started.elapsed().as_secs() < 20);
    assert!(!project::is_alive(&project.read("child")), "the background process still runs");
    assert_eq!(project.store().usage().records, 0);
    assert_eq!(project.store().usage().scratch_bytes, 0);
}

#[test]
fn independent_stages_run_side_by_side() {
    let meet = |me: &str, other: &str| {
        format!("touch {me}; n=0; while [ ! -e {other} ]; do sleep 0.02; n=$((n+1)); [ $n -lt 500 ] || exit 1; done; echo 1 > {{out.y}}")
    };
    let project = project(&[stage("a", &meet("a.here", "b.here"), ""), stage("b", &meet("b.here", "a.here"), "")]);
    let run = project.run_with(Options { jobs: 2, ..Options::default() });
    assert_eq!(run.outcome.count(|state| *state == StageState::Ran), 2, "{:?}", run.events);
}

#[test]
fn a_store_that_cannot_be_written_is_the_machines_fault() {
    use std::os::unix::fs::PermissionsExt;
    let project = project(&[stage("a", "echo 1 > {out.y}", "")]);
    let engine = project.engine(Options::default());
    let scratch = project.path(".qapipe/scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    std::fs::set_permissions(&scratch, PermissionsExt::from_mode(0o500)).unwrap();
    if std::fs::write(scratch.join("probe"), "").is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    let outcome = engine.run(&(), &AtomicBool::new(false)).unwrap();
    assert_eq!(outcome.failures().next().unwrap().1.class, ErrorClass::Environment);
}

#[test]
fn only_the_part_that_is_read_counts() {
    const TOKENIZER: Accepts = Accepts { types: &[], part: &["tokenizer.json"] };
    const TOKENIZE: Plain = plain("toy-tokenize", &[Param::required("model", Ty::RefOrPath(TOKENIZER), "A model.")], |cx| {
        let text = std::fs::read(cx.input("model")?.join("tokenizer.json")).unwrap();
        std::fs::write(cx.output("y")?, text).map_err(|error| StageError::failed(error.to_string()))
    });
    const BOTH: &[&dyn StageKind] = &[&Command, &TOKENIZE];
    let pipeline = "[vars]\nw = 1\n[stages.model]\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"mkdir {out.m}; echo ${vars.w} > {out.m}/weights; echo t > {out.m}/tokenizer.json\"]\noutputs = [\"m\"]\n\
                    [stages.a]\nkind = \"toy-tokenize\"\nmodel = \"@model\"\n[stages.b]\nkind = \"toy-tokenize\"\nmodel = \"folder\"\n";
    let project = Project::new(Kinds::new(BOTH), pipeline);
    project.write("folder/tokenizer.json", "x");
    project.write("folder/weights", "1");
    project.run();
    project.edit("w = 1", "w = 2");
    project.write("folder/weights", "2");
    assert_eq!(project.run().ran(), ["model"]);
    project.write("folder/tokenizer.json", "y");
    assert_eq!(project.run().ran(), ["b"]);
}

#[test]
fn a_panic_in_a_stage_fails_the_stage() {
    const PANICS: Plain = plain("panics", &[], |_| panic!("on purpose"));
    const ONE: &[&dyn StageKind] = &[&PANICS];
    let run = Project::new(Kinds::new(ONE), "[stages.p]\nkind = \"panics\"\n").run();
    let (_, error) = run.outcome.failures().next().unwrap();
    assert_eq!((error.class, error.message.as_str()), (ErrorClass::Bug, "the stage panicked: on purpose"));
}
