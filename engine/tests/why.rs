//! Why a stage would run: where what changed was written, and which result comes closest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;
#[path = "common/toy.rs"]
mod toy;

use project::Project;
use qapipe_engine::{Cause, Engine, Kinds, Options, Pipeline, StageKind};
use toy::Toy;

static TOY: Toy = Toy::new();
const KINDS: &[&dyn StageKind] = &[&TOY];

const PIPELINE: &str = r#"seed = 1
include = ["other.toml"]
[vars]
word = "one"
same = "${vars.word}"
[matrix]
axis = ["x"]
[stages.plain]
kind = "toy"
text = "plain"
[stages.through]
kind = "toy"
text = "${vars.same}"
[stages.cell]
kind = "toy"
text = "${matrix.axis}"
[stages.own]
kind = "toy"
text = "own"
seed = 3
[stages.reader]
kind = "toy"
text = "reader"
of = ["in.txt"]
"#;

const OTHER: &str = r#"seed = 4
[stages.inner]
kind = "toy"
text = "inner"
"#;

fn project() -> Project {
    let project = Project::new(Kinds::new(KINDS), PIPELINE);
    project.write("other.toml", OTHER);
    project.write("in.txt", "read");
    project.run();
    project
}

/// What `why` says of one stage with overrides, without the way to the project's folder.
fn causes(project: &Project, stage: &str, overrides: &[&str]) -> Vec<String> {
    let overrides: Vec<_> = overrides.iter().map(|change| change.parse().unwrap()).collect();
    let pipeline = Pipeline::load(&project.path("pipeline.toml"), &project.kinds, &overrides).unwrap();
    let why = Engine::new(project.store(), pipeline, Options::default()).unwrap().why(stage).unwrap();
    told(project, &why.steps[0].changes)
}

fn told(project: &Project, causes: &[Cause]) -> Vec<String> {
    let folder = format!("{}/", project.folder.path().display());
    causes.iter().map(|cause| cause.to_string().replace(&folder, "")).collect()
}

#[test]
fn a_change_says_where_it_was_written() {
    let project = project();
    project.edit("\"plain\"", "\"p\"");
    project.edit("\"one\"", "\"two\"");
    project.edit("seed = 3", "seed = 33");
    project.write("in.txt", "another");
    assert_eq!(causes(&project, "plain", &[]), [r#"params.text "plain" -> "p"  (pipeline.toml:10)"#]);
    assert_eq!(causes(&project, "through", &[]), [r#"params.text "one" -> "two"  (pipeline.toml:4)"#], "that of the variable");
    assert_eq!(causes(&project, "own", &[]), ["seed 3 -> 33  (pipeline.toml:20)"]);
    assert_eq!(causes(&project, "reader", &[]), ["input.of.0 changed (in.txt)  (pipeline.toml:24)"]);
}

#[test]
fn a_seed_is_written_at_the_top_of_its_file() {
    let project = project();
    project.edit("seed = 1", "seed = 11");
    project.write("other.toml", &OTHER.replace("seed = 4", "seed = 44"));
    assert_eq!(causes(&project, "plain", &[]), ["seed 1 -> 11  (pipeline.toml:1)"]);
    assert_eq!(causes(&project, "other-inner", &[]), ["seed 4 -> 44  (other.toml:1)"]);
}

#[test]
fn what_stands_nowhere_has_no_place() {
    let project = project();
    project.edit("text = \"plain\"\n", "");
    assert_eq!(causes(&project, "plain", &[]), [r#"params.text "plain" -> default"#]);
}

#[test]
fn an_option_is_a_place_too() {
    let project = project();
    let set = |change: &str, stage: &str| causes(&project, stage, &[change]);
    assert_eq!(set("stages.plain.text=p", "plain"), [r#"params.text "plain" -> "p"  (--set stages.plain.text=p)"#]);
    assert_eq!(set("vars.word=three", "through"), [r#"params.text "one" -> "three"  (--set vars.word=three)"#]);
    assert_eq!(set("seed=9", "plain"), ["seed 1 -> 9  (--set seed=9)"]);
}

#[test]
fn a_new_stage_tells_the_closest_result() {
    let project = project();
    project.edit("axis = [\"x\"]", "axis = [\"x\", \"y\"]");
    project.edit("[stages.own]", "[stages.far]\nkind = \"toy\"\ntext = \"far\"\nof = [\"in.txt\", \"other.toml\"]\nseed = 8\n[stages.own]");
    let why = project.engine(Options::default()).why("cell[axis=y]").unwrap();
    let closest = why.steps[0].closest.as_ref().unwrap();
    assert_eq!(why.steps[0].changes, []);
    assert!(closest.changes.len() == 1 && closest.changes[0].change.facet == "params.text", "{closest:?}");
    assert!(closest.changes[0].to_string().ends_with("pipeline.toml:7)"), "{}", closest.changes[0]);
    let why = project.engine(Options::default()).why("far").unwrap();
    assert_eq!(why.steps[0].closest, None, "it is like none of the others");
}

#[test]
fn an_earlier_result_may_be_closer_than_the_last() {
    let project = project();
    // The last result has another text and another seed; the first one only another seed.
    project.edit("text = \"own\"\nseed = 3", "text = \"changed\"\nseed = 5");
    project.run();
    project.edit("text = \"changed\"\nseed = 5", "text = \"own\"\nseed = 6");
    let why = project.engine(Options::default()).why("own").unwrap();
    let step = &why.steps[0];
    assert_eq!(step.changes.len(), 2, "{step:?}");
    let closest = step.closest.as_ref().unwrap();
    assert_eq!((closest.stage.as_str(), told(&project, &closest.changes)), ("own", vec!["seed 3 -> 6  (pipeline.toml:20)".to_owned()]));
    project.edit("seed = 6", "seed = 5");
    let why = project.engine(Options::default()).why("own").unwrap();
    assert_eq!((why.steps[0].changes.len(), &why.steps[0].closest), (1, &None), "none is closer than the last one");
}
