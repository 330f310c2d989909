//! The `command` kind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;

use project::Project;
use qapipe_engine::{Command, ErrorClass, Kinds, Pipeline, StageError, StageKind, log};

const KINDS: &[&dyn StageKind] = &[&Command];

fn project(stages: &str) -> Project {
    Project::new(Kinds::new(KINDS), stages)
}

/// One stage `a`; `rest` are lines of its table.
fn one(run: &str, rest: &str) -> Project {
    project(&format!("[stages.a]\nkind = \"command\"\nrun = {run}\n{rest}\n"))
}

fn failure(project: &Project) -> StageError {
    project.run().outcome.failures().next().expect("a failure").1.clone()
}

fn output(project: &Project, name: &str) -> String {
    let run = project.run();
    let brief = run.outcome.stages[0].brief.clone().unwrap_or_else(|| panic!("{:?}", run.events));
    std::fs::read_to_string(project.store().path(&brief.outputs()[name])).unwrap()
}

#[test]
fn a_path_is_what_the_user_wrote() {
    let project = one(
        "[\"sh\", \"-c\", \"echo {in.code} {in.deep} > {out.y}\"]",
        "inputs = { code = \"step.sh\", deep = \"in/../in/x\" }\noutputs = [\"y\"]",
    );
    project.write("step.sh", "");
    project.write("in/x", "");
    assert_eq!(output(&project, "y"), "step.sh in/../in/x\n");
}

#[test]
fn it_runs_in_the_folder_with_nothing_to_read_and_the_given_environment() {
    let project =
        one("[\"sh\", \"-c\", \"pwd > {out.y}; cat >> {out.y}; echo $WORD >> {out.y}\"]", "env = { WORD = \"hello\" }\noutputs = [\"y\"]");
    let folder = project.folder.path().canonicalize().unwrap();
    assert_eq!(output(&project, "y"), format!("{}\nhello\n", folder.display()));
}

#[test]
fn python_leaves_the_folders_that_it_imports_from_alone() {
    if std::process::Command::new("python3").arg("-V").output().is_err() {
        return eprintln!("skipped: no python3");
    }
    let run = "[\"python3\", \"-c\", \"import sys; sys.path[0] = sys.argv[1]; import m; open(sys.argv[2], 'w').write(m.X)\", \"{in.code}\", \"{out.y}\"]";
    let rest = "inputs = { code = \"code\" }\noutputs = [\"y\"]";
    let project = one(run, rest);
    project.write("code/m.py", "X = 'x'\n");
    assert_eq!(output(&project, "y"), "x");
    assert!(!project.path("code/__pycache__").exists());
    // Who sets it gets it.
    let project = one(run, &format!("{rest}\nenv = {{ PYTHONDONTWRITEBYTECODE = \"\" }}"));
    project.write("code/m.py", "X = 'x'\n");
    assert!(failure(&project).message.starts_with("code changed while the stage was running"));
    let project = one(run, &format!("{rest}\nenv = {{ PYTHONPYCACHEPREFIX = \"{}\" }}", project.path("elsewhere").display()));
    project.write("code/m.py", "X = 'x'\n");
    assert_eq!(output(&project, "y"), "x");
}

#[test]
fn other_braces_stay() {
    let project = one("[\"sh\", \"-c\", 'echo \"{a: 1} {} {in} {\" > {out.y}']", "outputs = [\"y\"]");
    assert_eq!(output(&project, "y"), "{a: 1} {} {in} {\n");
}

#[test]
fn a_placeholder_may_stand_in_other_braces() {
    let project = one(
        "[\"sh\", \"-c\", \"echo '{in.{in.x} {{in.x}} {out.{a: {in.x}}' > {out.y}\"]",
        "inputs = { x = \"in.txt\" }\noutputs = [\"y\"]",
    );
    project.write("in.txt", "");
    assert_eq!(output(&project, "y"), "{in.in.txt {in.txt} {out.{a: in.txt}\n");
}

#[test]
fn a_command_that_cannot_do_what_it_says_is_found_at_once() {
    let told = |run: &str, rest: &str| {
        let text = format!("[stages.a]\nkind = \"command\"\nrun = {run}\n{rest}\n");
        Pipeline::parse(&text, "p.toml".as_ref(), &Kinds::new(KINDS), &[]).unwrap_err().to_string()
    };
    let early = told("[\"/usr/bin/setsid\", \"prog\", \"{out.y}\"]", "outputs = [\"y\"]");
    assert!(early.contains("`setsid` would end at once") && early.contains("`setsid --wait`"), "{early}");
    let unknown = told("[\"cp\", \"{in.x}\", \"{out.y}\"]", "inputs = { z = \"in.txt\" }\noutputs = [\"y\"]");
    assert!(unknown.contains("`{in.x}` names no input") && unknown.contains("inputs: z"), "{unknown}");
    let unknown = told("[\"cp\", \"{out.z}\"]", "outputs = [\"y\"]");
    assert!(unknown.contains("`{out.z}` names no output") && unknown.contains("outputs: y"), "{unknown}");
    assert!(told("[]", "outputs = [\"y\"]").contains("there is no program to run"));
    assert!(told("[\"true\"]", "outputs = []").contains("at least one output"));
}

#[test]
fn a_broken_variable_is_told_once() {
    let told = |vars: &str, run: &str| {
        let text = format!("[vars]\n{vars}\n[stages.a]\nkind = \"command\"\nrun = {run}\noutputs = [\"y\"]\n");
        Pipeline::parse(&text, "p.toml".as_ref(), &Kinds::new(KINDS), &[]).unwrap_err().to_string()
    };
    for run in ["[\"${vars.x}\"]", "\"${vars.x}\""] {
        assert_eq!(told("x = 1e999", run), "p.toml:2:5: the number is too large");
        assert_eq!(told("x = \"${vars.z}\"", run), "p.toml:2:5: unknown variable `z` (did you mean `x`?)");
    }
}

#[test]
fn it_writes_several_outputs_files_and_folders() {
    let project = one(
        "[\"sh\", \"-c\", \"mkdir -p {out.d}/in; echo 1 > {out.d}/in/f; echo 2 > {out.f}\"]",
        "outputs = { d = \"out/d\", f = \"out/f\" }",
    );
    project.run();
    assert_eq!((project.read("out/d/in/f"), project.read("out/f")), ("1\n".into(), "2\n".into()));
    std::fs::remove_dir_all(project.path("out")).unwrap();
    let run = project.run();
    assert_eq!(run.events, ["cached a", "restored a: out/d", "restored a: out/f"]);
    project.write("out/d/in/more", "a file too many");
    assert_eq!(project.run().events, ["cached a", "restored a: out/d", "kept a: out/d"]);
    assert!(!project.path("out/d/in/more").exists());
}

#[test]
fn a_failure_names_the_code_or_the_signal_and_the_last_lines() {
    let coded =
        failure(&one("[\"sh\", \"-c\", \"for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $n; done; exit 7\"]", "outputs = [\"y\"]"));
    assert!(coded.message.starts_with("`sh` failed: exit code 7\n  | line 3\n"), "{coded}");
    assert!(coded.message.ends_with("\n  | line 12"), "{coded}");
    assert_eq!(coded.class, ErrorClass::Failed);
    let killed = failure(&one("[\"sh\", \"-c\", \"kill -SEGV $$\"]", "outputs = [\"y\"]"));
    assert_eq!(killed.message, "`sh` failed: killed by signal 11 (segmentation fault)");
}

#[test]
fn a_failure_shows_only_the_beginning_of_long_lines() {
    let project = one(
        "[\"sh\", \"-c\", \"for n in 1 2 3; do head -c 100000 /dev/zero | tr '\\\\0' x; echo; done; echo ends; exit 1\"]",
        "outputs = [\"y\"]",
    );
    let message = failure(&project).message;
    let line = format!("  | {}…", "x".repeat(500));
    assert_eq!(message.lines().skip(1).collect::<Vec<_>>(), [&line, &line, &line, "  | ends"]);
    let text = std::fs::read_to_string(log(&project.path(".qapipe"), "a", None).unwrap()).unwrap();
    assert_eq!(text.matches('x').count(), 300_000, "the log keeps all");
}

#[test]
fn an_output_that_is_a_link_is_refused() {
    let linked = failure(&one("[\"ln\", \"-s\", \"/etc/hostname\", \"{out.y}\"]", "outputs = [\"y\"]"));
    assert!(linked.message.contains("symbolic link"), "{linked}");
}

#[test]
fn both_streams_are_in_the_log_and_a_progress_bar_too() {
    let project = one("[\"sh\", \"-c\", \"printf '10%%\\\\r20%%\\\\n'; echo err >&2; echo 1 > {out.y}\"]", "outputs = [\"y\"]");
    project.run();
    let text = std::fs::read_to_string(log(&project.path(".qapipe"), "a", None).unwrap()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["10%", "20%", "err"]);
}

#[test]
fn what_it_leaves_running_ends_with_it() {
    let project = one("[\"sh\", \"-c\", \"sleep 60 & echo $! > child; echo 1 > {out.y}\"]", "outputs = [\"y\"]");
    let started = std::time::Instant::now();
    assert_eq!(project.run().ran(), ["a"]);
    assert!(started.elapsed().as_secs() < 20, "the run waited for the background process");
    assert!(!project::is_alive(&project.read("child")));
}

/// A process in a session of its own is in no group that could be killed, and it holds the program's output open.
#[test]
fn what_escapes_from_its_group_does_not_hold_the_run() {
    let project =
        one("[\"sh\", \"-c\", \"setsid sleep 25 & echo $! > child; sleep 0.3; echo hi; echo hi > {out.y}\"]", "outputs = [\"y\"]");
    let started = std::time::Instant::now();
    let run = project.run();
    assert!(started.elapsed().as_secs() < 12, "the run waited for the process that escaped");
    project::kill(&project.read("child"));
    assert_eq!(run.events, ["started a: new stage", "finished a"]);
    assert_eq!(std::fs::read_to_string(log(&project.path(".qapipe"), "a", None).unwrap()).unwrap(), "hi\n");
}

#[test]
fn what_escapes_from_its_group_and_goes_on_talking_does_not_hold_the_run() {
    for talks in ["yes", "sh -c 'while :; do echo x; sleep 0.01; done'"] {
        let script = format!("setsid timeout 25 {talks} & echo $! > child; sleep 0.1; echo hi > {{out.y}}");
        let project = one(&format!("[\"sh\", \"-c\", \"{script}\"]"), "outputs = [\"y\"]");
        let started = std::time::Instant::now();
        let run = project.run();
        assert!(started.elapsed().as_secs() < 12, "the run waited for the process that escaped: {talks}");
        project::kill(&project.read("child"));
        assert_eq!(run.events, ["started a: new stage", "finished a"]);
    }
}

#[test]
fn a_failed_program_leaves_no_scratch_and_no_placed_output() {
    let project = one("[\"sh\", \"-c\", \"echo partial > {out.y}; exit 1\"]", "outputs = { y = \"out/y\" }");
    failure(&project);
    assert!(!project.path("out/y").exists());
    assert_eq!((project.store().usage().scratch_bytes, project.store().usage().records), (0, 0));
}
