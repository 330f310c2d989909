//! What an edit reruns, as lists of events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;

use project::{Heard, Project};
use qapipe_engine::{Command, Decision, Kinds, Options, Reason, StageKind};

const KINDS: &[&dyn StageKind] = &[&Command];

/// prepare -> train -> score, with a side stage that reads what prepare reads.
const PIPELINE: &str = r#"
[vars]
rate = 1

[stages.prepare]
kind = "command"
run = ["sh", "-c", "sed 's/#.*//' {in.text} | sed 's/ *$//' > {out.y}"]
inputs = { text = "in.txt" }
outputs = ["y"]

[stages.train]
kind = "command"
run = ["sh", "-c", "echo rate ${vars.rate} >> {out.model}; cat {in.data} >> {out.model}"]
inputs = { data = "@prepare" }
outputs = ["model"]

[stages.score]
kind = "command"
run = ["sh", "-c", "wc -c < {in.model} > {out.score}"]
inputs = { model = "@train" }
outputs = { score = "out/score.txt" }

[stages.side]
kind = "command"
run = ["cp", "{in.text}", "{out.copy}"]
inputs = { text = "in.txt" }
outputs = ["copy"]
"#;

fn project() -> Project {
    let project = Project::new(Kinds::new(KINDS), PIPELINE);
    project.write("in.txt", "hello\n");
    project
}

#[test]
fn a_second_run_executes_nothing() {
    let project = project();
    assert_eq!(project.run().ran(), ["prepare", "score", "side", "train"]);
    let again = project.run();
    assert_eq!(again.events, ["cached prepare", "cached train", "cached score", "cached side"]);
    assert!(project.engine(Options::default()).plan().unwrap().is_done());
}

#[test]
fn an_edited_parameter_reruns_its_stage_and_what_follows() {
    let project = project();
    project.run();
    project.edit("rate = 1", "rate = 22");
    let run = project.run();
    assert_eq!(run.ran(), ["score", "train"]);
    assert!(run.events.iter().any(|event| event.starts_with("started train: params.run[2] ")), "{:?}", run.events);
    assert!(run.has("started score: input.inputs.model changed (@train)"), "{:?}", run.events);
}

#[test]
fn going_back_to_an_old_value_reruns_nothing() {
    let project = project();
    project.run();
    project.edit("rate = 1", "rate = 22");
    project.run();
    project.edit("rate = 22", "rate = 1");
    let run = project.run();
    assert_eq!(run.ran(), [""; 0]);
    assert_eq!(project.read("out/score.txt").trim(), "13");
}

#[test]
fn an_equal_output_stops_there() {
    let project = project();
    project.run();
    project.write("in.txt", "hello  # said twice\n");
    let run = project.run();
    assert_eq!(run.ran(), ["prepare", "side"]);
    assert!(run.has("finished prepare, unchanged"), "{:?}", run.events);
    assert!(run.has("cached train") && run.has("cached score"));
}

#[test]
fn an_equal_score_of_a_new_model_stops_there() {
    let project = project();
    project.run();
    project.edit("rate = 1", "rate = 2");
    let run = project.run();
    assert_eq!(run.ran(), ["score", "train"]);
    assert!(run.has("finished score, unchanged"), "{:?}", run.events);
}

#[test]
fn a_plan_claims_no_more_than_it_knows() {
    let project = project();
    project.run();
    project.write("in.txt", "changed\n");
    let plan = project.engine(Options::default()).plan().unwrap();
    let decision = |name: &str| plan.stages.iter().find(|planned| planned.stage == name).unwrap().decision.clone();
    assert!(matches!(decision("prepare"), Decision::Run(Reason::Changed(_))));
    assert!(matches!(decision("side"), Decision::Run(_)));
    assert_eq!(decision("train"), Decision::Maybe { after: vec!["prepare".into()] });
    assert_eq!(decision("score"), Decision::Maybe { after: vec!["train".into()] });
    assert!(!project.path(".qapipe/last/none").exists());
    assert_eq!(project.run().ran(), ["prepare", "score", "side", "train"], "a plan runs nothing");
}

#[test]
fn why_goes_to_the_root() {
    let project = project();
    project.run();
    project.write("in.txt", "changed\n");
    let why = project.engine(Options::default()).why("score").unwrap();
    let stages: Vec<&str> = why.steps.iter().map(|step| step.stage.as_str()).collect();
    assert_eq!(stages, ["score", "train", "prepare"]);
    assert_eq!(why.steps[2].changes[0].change.to_string(), "input.inputs.text changed (in.txt)");
    assert!(project.engine(Options::default()).why("scores").is_err());
}

#[test]
fn targets_run_with_what_they_need_only() {
    let project = project();
    let run = project.run_with(Options { targets: vec!["train".into()], ..Options::default() });
    assert_eq!(run.ran(), ["prepare", "train"]);
}

#[test]
fn force_runs_again_and_equal_output_stops_there() {
    let project = project();
    project.run();
    let run = project.run_with(Options { force: vec!["train".into()], ..Options::default() });
    assert_eq!(run.events, ["cached prepare", "cached side", "started train: forced", "finished train, unchanged", "cached score"]);
}

#[test]
fn a_forced_stage_that_gives_something_else_has_changed() {
    let pipeline = "[stages.a]\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"echo x >> runs; cp runs {out.y}\"]\noutputs = [\"y\"]\n";
    let project = Project::new(Kinds::new(KINDS), pipeline);
    project.run();
    let run = project.run_with(Options { force: vec!["a".into()], ..Options::default() });
    assert_eq!(run.events, ["started a: forced", "finished a"]);
}

#[test]
fn a_forced_stage_is_a_target() {
    let project = project();
    project.run();
    let options = || Options { targets: vec!["prepare".into()], force: vec!["train".into()], ..Options::default() };
    let plan = project.engine(options()).plan().unwrap();
    let planned: Vec<(&str, &Decision)> = plan.stages.iter().map(|planned| (planned.stage.as_str(), &planned.decision)).collect();
    assert_eq!(planned, [("prepare", &Decision::Cached), ("train", &Decision::Run(Reason::Forced))]);
    assert_eq!(project.run_with(options()).events, ["cached prepare", "started train: forced", "finished train, unchanged"]);
}

#[test]
fn a_touched_file_reruns_nothing() {
    let project = project();
    project.run();
    let file = std::fs::File::options().write(true).open(project.path("in.txt")).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(project.run().ran(), [""; 0]);
}

#[test]
fn an_edit_behind_the_clock_is_noticed() {
    let project = project();
    project.run();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    project.run();
    let modified = std::fs::metadata(project.path("in.txt")).unwrap().modified().unwrap();
    project.write("in.txt", "HELLO\n");
    std::fs::File::options().write(true).open(project.path("in.txt")).unwrap().set_modified(modified).unwrap();
    assert_eq!(project.run().ran(), ["prepare", "score", "side", "train"]);
}

#[test]
fn where_an_output_is_put_determines_nothing() {
    let project = project();
    project.run();
    project.edit("out/score.txt", "elsewhere/score.txt");
    let run = project.run();
    assert_eq!(run.ran(), [""; 0]);
    assert!(run.has("restored score: elsewhere/score.txt"));
    assert_eq!(project.read("elsewhere/score.txt"), project.read("out/score.txt"));
}

#[test]
fn a_placed_output_comes_back() {
    let project = project();
    project.run();
    let good = project.read("out/score.txt");
    std::fs::remove_file(project.path("out/score.txt")).unwrap();
    assert!(project.run().has("restored score: out/score.txt"));
    project.write("out/score.txt", "garbage\n");
    let run = project.run();
    assert_eq!(run.ran(), [""; 0]);
    assert_eq!(project.read("out/score.txt"), good);
}

#[test]
fn a_damaged_result_is_computed_again() {
    let project = project();
    let run = project.run();
    let brief = run.outcome.stages.iter().find(|stage| stage.stage == "train").unwrap().brief.clone().unwrap();
    let object = project.store().path(&brief.outputs()["model"]);
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, "short").unwrap();
    let run = project.run();
    assert!(run.has("damaged train"), "{:?}", run.events);
    assert_eq!(run.ran(), ["train"]);
    assert!(project.store().verify(&brief.outputs()["model"]).is_ok());
}

#[test]
fn an_edited_program_reruns_when_it_is_an_input() {
    let pipeline = r#"
[stages.a]
kind = "command"
run = ["sh", "{in.code}", "{out.y}"]
inputs = { code = "step.sh" }
outputs = ["y"]
"#;
    let project = Project::new(Kinds::new(KINDS), pipeline);
    project.write("step.sh", "echo 1 > $1\n");
    project.run();
    project.write("step.sh", "echo 2 > $1\n");
    let run = project.run();
    assert!(run.has("started a: input.inputs.code changed (step.sh)"), "{:?}", run.events);
}

#[test]
fn a_second_engine_waits_and_reads() {
    let pipeline = r#"
[stages.slow]
kind = "command"
run = ["sh", "-c", "echo x >> runs; touch started; sleep 1; echo done > {out.y}"]
outputs = ["y"]
"#;
    let project = Project::new(Kinds::new(KINDS), pipeline);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| project.run().ran().len());
        project::wait_for(&project.path("started"));
        let heard = Heard::default();
        let outcome = project.engine(Options::default()).run(&heard, &std::sync::atomic::AtomicBool::new(false)).unwrap();
        assert_eq!(heard.0.into_inner().unwrap(), ["waiting slow", "cached slow"]);
        assert!(outcome.stages[0].brief.is_some());
        assert_eq!(first.join().unwrap(), 1);
    });
    assert_eq!(project.read("runs"), "x\n");
}
