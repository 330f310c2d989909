//! Ten things that other engines get wrong: two chains of three commands, as `gen.py` of the comparison writes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/process.rs"]
mod process;
#[path = "common/project.rs"]
mod project;

use std::fmt::Write as _;
use std::time::Duration;

use project::{Project, wait_for};
use qapipe_engine::{Command, Kinds, StageKind};
use rustix::process::{Pid, Signal, kill_process};

const KINDS: &[&dyn StageKind] = &[&Command];

/// Says that it has started, writes something partial, waits while there is a file `slow`, writes the result, and leaves a line in `run.log`.
const STEP: &str = "#!/bin/sh\nread -r x < \"$1\"; echo $$ > started; echo PARTIAL > \"$2\"\n\
                    while [ -e slow ]; do sleep 0.05; done\necho \"$x ${3%%~*}\" > \"$2\"; echo \"$2\" >> run.log\n";

const GOOD: &str = "input 0 v1 k k\n";

/// Not a test: the other process.
#[test]
#[ignore = "started by other tests"]
fn other_process() {
    process::serve(KINDS);
}

fn project() -> Project {
    let mut text = "name = \"bench\"\n\n[vars]\nc0 = \"v1\"\nc1 = \"v1\"\n".to_owned();
    for (chain, depth) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        let x = if depth == 0 { format!("in/{chain}.txt") } else { format!("@s{chain}_{}.y", depth - 1) };
        let last = if depth == 0 { format!("${{vars.c{chain}}}") } else { "k".to_owned() };
        let run = format!("run = [\"sh\", \"{{in.code}}\", \"{{in.x}}\", \"{{out.y}}\", \"{last}\"]");
        let places = format!("inputs = {{ code = \"step.sh\", x = \"{x}\" }}\noutputs = {{ y = \"out/{chain}_{depth}.txt\" }}");
        writeln!(text, "[stages.s{chain}_{depth}]\nkind = \"command\"\n{run}\n{places}\n").unwrap();
    }
    let project = Project::new(Kinds::new(KINDS), &text);
    project.write("step.sh", STEP);
    project.write("in/0.txt", "input 0\n");
    project.write("in/1.txt", "input 1\n");
    project
}

fn ran_once() -> Project {
    let project = project();
    assert_eq!(run(&project), 6);
    assert_eq!(project.read("out/0_2.txt"), GOOD);
    project
}

/// Runs the pipeline; gives how many programs ran.
fn run(project: &Project) -> usize {
    let _ = std::fs::remove_file(project.path("run.log"));
    project.run();
    programs(project)
}

fn programs(project: &Project) -> usize {
    std::fs::read_to_string(project.path("run.log")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_parameter_put_back() {
    let project = ran_once();
    project.edit("c0 = \"v1\"", "c0 = \"v2\"");
    assert_eq!(run(&project), 3);
    project.edit("c0 = \"v2\"", "c0 = \"v1\"");
    assert_eq!((run(&project), project.read("out/0_2.txt")), (0, GOOD.into()));
}

#[test]
fn outputs_deleted() {
    let project = ran_once();
    std::fs::remove_file(project.path("out/0_1.txt")).unwrap();
    std::fs::remove_file(project.path("out/0_2.txt")).unwrap();
    assert_eq!((run(&project), project.read("out/0_2.txt")), (0, GOOD.into()));
}

#[test]
fn an_output_overwritten_by_hand() {
    let project = ran_once();
    project.write("out/0_2.txt", "garbage\n");
    assert_eq!((run(&project), project.read("out/0_2.txt")), (0, GOOD.into()));
}

#[test]
fn an_input_touched() {
    let project = ran_once();
    let file = std::fs::File::options().write(true).open(project.path("in/0.txt")).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
    assert_eq!((run(&project), project.read("out/0_2.txt")), (0, GOOD.into()));
}

#[test]
fn an_input_edited() {
    let project = ran_once();
    project.write("in/0.txt", "INPUT 0\n");
    assert_eq!((run(&project), project.read("out/0_2.txt")), (3, "INPUT 0 v1 k k\n".into()));
}

#[test]
fn an_input_edited_with_its_time_put_back() {
    let project = ran_once();
    let modified = std::fs::metadata(project.path("in/0.txt")).unwrap().modified().unwrap();
    project.write("in/0.txt", "INPUT 0\n");
    std::fs::File::options().write(true).open(project.path("in/0.txt")).unwrap().set_modified(modified).unwrap();
    assert_eq!((run(&project), project.read("out/0_2.txt")), (3, "INPUT 0 v1 k k\n".into()));
}

#[test]
fn a_script_edited() {
    let project = ran_once();
    project.write("step.sh", &STEP.replace("${3%%~*}", "C"));
    assert_eq!((run(&project), project.read("out/0_2.txt")), (6, "input 0 C C C\n".into()));
}

#[test]
fn an_input_edited_while_its_stage_runs() {
    let project = project();
    project.write("slow", "");
    let mut other = process::start(project.folder.path());
    wait_for(&project.path("started"));
    std::thread::sleep(Duration::from_millis(100));
    project.write("in/0.txt", "INPUT 0 longer\n");
    std::fs::remove_file(project.path("slow")).unwrap();
    assert_eq!(other.wait().unwrap().code(), Some(1));
    assert_eq!((run(&project), project.read("out/0_2.txt")), (3, "INPUT 0 longer v1 k k\n".into()));
}

#[test]
fn a_kill_leaves_nothing() {
    let project = project();
    project.write("slow", "");
    let mut other = process::start(project.folder.path());
    wait_for(&project.path("started"));
    std::thread::sleep(Duration::from_millis(100));
    let program = project.read("started");
    assert!(project::is_alive(&program));
    kill_process(Pid::from_child(&other), Signal::KILL).unwrap();
    other.wait().unwrap();
    project::wait_until(|| !project::is_alive(&program), "the program outlives its engine");
    assert!(!project.path("out/0_0.txt").exists(), "a partial output in the folder");
    assert_eq!(project.store().usage().records, 0);
    std::fs::remove_file(project.path("slow")).unwrap();
    assert_eq!((run(&project), project.read("out/0_2.txt")), (6, GOOD.into()));
    assert_eq!(project.store().usage().scratch_bytes, 0, "what the dead left is swept");
}

#[test]
fn two_runs_at_once() {
    let project = project();
    project.write("slow", "");
    let mut first = process::start(project.folder.path());
    wait_for(&project.path("started"));
    let mut second = process::start(project.folder.path());
    std::thread::sleep(Duration::from_millis(500));
    std::fs::remove_file(project.path("slow")).unwrap();
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    assert_eq!((programs(&project), project.read("out/0_2.txt")), (6, GOOD.into()));
}
