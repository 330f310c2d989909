//! Running a pipeline that includes others: what each of them gave alone is found again.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "common/project.rs"]
mod project;
#[path = "common/toy.rs"]
mod toy;

use std::sync::atomic::AtomicBool;

use project::{Heard, Project};
use qapipe_engine::{Command, Decision, Engine, Kinds, Options, Pipeline, StageKind};
use toy::Toy;

static KIND: Toy = Toy::new();
static KINDS: &[&dyn StageKind] = &[&KIND, &Command];

const ONE: &str = r#"[vars]
word = "x"
[stages.data]
kind = "toy"
text = "data"
[stages.tuned]
kind = "toy"
text = "${vars.word}"
of = ["@data", "in.txt"]
"#;

const STUDY: &str = r#"include = ["sub/one.toml", { file = "sub/one.toml", name = "two", vars = { word = "y" } }]
[stages.both]
kind = "toy"
of = ["@one-tuned", "@two-tuned"]
"#;

fn project() -> Project {
    let project = Project::new(Kinds::new(KINDS), STUDY);
    project.write("sub/one.toml", ONE);
    project.write("sub/in.txt", "in");
    project
}

fn engine(project: &Project, file: &str, options: Options) -> Engine {
    let pipeline = Pipeline::load(&project.path(file), &project.kinds, &[]).unwrap();
    Engine::new(project.store(), pipeline, options).unwrap()
}

fn run(project: &Project, file: &str, options: Options) -> Vec<String> {
    let heard = Heard::default();
    engine(project, file, options).run(&heard, &AtomicBool::new(false)).unwrap();
    heard.0.into_inner().unwrap()
}

fn one_job() -> Options {
    Options { jobs: 1, ..Options::default() }
}

#[test]
fn results_of_a_pipeline_are_found_again_by_one_that_includes_it() {
    let project = project();
    run(&project, "sub/one.toml", one_job());
    let events = run(&project, "pipeline.toml", one_job());
    assert_eq!(
        events,
        [
            "cached data",
            "cached one-tuned",
            "started two-tuned: new stage",
            "finished two-tuned",
            "started both: new stage",
            "finished both",
        ]
    );
    assert!(run(&project, "pipeline.toml", one_job()).iter().all(|event| event.starts_with("cached")));
    assert!(run(&project, "sub/one.toml", one_job()).iter().all(|event| event.starts_with("cached")));
}

#[test]
fn a_shared_stage_runs_once_and_any_of_its_names_names_it() {
    let project = project();
    let target = |name: &str| Options { targets: vec![name.to_owned()], ..one_job() };
    assert_eq!(run(&project, "pipeline.toml", target("two-data")), ["started data: new stage", "finished data"]);
    assert_eq!(run(&project, "pipeline.toml", target("data")), ["cached data"]);
    let forced = Options { force: vec!["one-data".to_owned()], targets: vec!["data".to_owned()], ..one_job() };
    assert_eq!(run(&project, "pipeline.toml", forced), ["started data: forced", "finished data, unchanged"]);
    let engine = engine(&project, "pipeline.toml", one_job());
    let why = engine.why("two-data").unwrap();
    assert_eq!((why.steps[0].stage.as_str(), &why.steps[0].decision), ("data", &Decision::Cached));
    assert_eq!((why.steps[0].file.as_path(), why.steps[0].line), (project.path("sub/one.toml").as_path(), 3));
    for name in ["data", "one-data", "two-data"] {
        let log = qapipe_engine::log(engine.store().root(), name, None).expect(name);
        assert!(log.ends_with("logs/data.log"));
    }
}

#[test]
fn a_change_in_an_included_file_is_a_reason() {
    let project = project();
    run(&project, "pipeline.toml", one_job());
    project.write("sub/one.toml", &ONE.replace("text = \"data\"", "text = \"data\"\nslow = false\nfigure = \"one\""));
    let events = run(&project, "pipeline.toml", one_job());
    assert_eq!(events[0], "started data: params.figure default -> \"one\"");
    assert!(events[1..].iter().any(|event| event == "cached both"), "{events:?}");
}

#[test]
fn programs_run_in_the_folder_of_their_own_file() {
    let project = Project::new(Kinds::new(KINDS), "include = [\"sub/one.toml\"]\n");
    project.write("sub/in.txt", "in");
    project.write(
        "sub/one.toml",
        "[stages.copy]\nkind = \"command\"\nrun = [\"cp\", \"{in.x}\", \"{out.y}\"]\ninputs = { x = \"in.txt\" }\noutputs = { y = \"out/y\" }\n\
         [stages.list]\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"cat in.txt > {out.y}\"]\ninputs = { x = \"@copy\" }\noutputs = [\"y\"]\n",
    );
    run(&project, "sub/one.toml", one_job());
    assert_eq!(run(&project, "pipeline.toml", one_job()), ["cached one-copy", "cached one-list"]);
    std::fs::remove_file(project.path("sub/out/y")).unwrap();
    let events = run(&project, "pipeline.toml", Options { force: vec!["one-list".to_owned()], ..one_job() });
    assert!(
        events.contains(&"restored one-copy: sub/out/y".to_owned()) && events.contains(&"finished one-list, unchanged".to_owned()),
        "{events:?}"
    );
    assert_eq!(project.read("sub/out/y"), "in");
}
