//! `cache gc` and `cache verify --repair`.

use insta::assert_snapshot;

use crate::support::Project;

/// A project with three results that are cited, and two of an earlier state.
fn with_garbage() -> Project {
    let project = Project::toy();
    project.qapipe(&["run", "-q", "--set", "vars.word=earlier"]).code(0);
    project.qapipe(&["run", "-q"]).code(0);
    project.ran();
    project
}

fn results(project: &Project) -> usize {
    project.qapipe(&["cache", "ls", "--json"]).code(0).json()["results"].as_array().unwrap().len()
}

/// Damages the result of a stage, whose size stays.
fn damage(project: &Project, stage: &str) {
    let listed = project.qapipe(&["cache", "ls", "--json"]).code(0).json();
    let record = listed["results"].as_array().unwrap().iter().find(|record| record["stage"] == stage).unwrap().clone();
    let digest = record["outputs"]["y"]["digest"].as_str().unwrap();
    let object = project.path(&format!(".qapipe/objects/{}/{digest}", &digest[..2]));
    let size = std::fs::metadata(&object).unwrap().len();
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
}

#[test]
fn what_no_pipeline_cites_goes_when_asked() {
    let project = with_garbage();
    let dry = project.qapipe(&["cache", "gc"]).code(0);
    let unused = |text: &str| text.lines().filter(|line| line.contains("toy ")).count();
    assert_eq!((unused(&dry.out), results(&project)), (2, 5), "{}", dry.out);
    assert!(dry.out.starts_with("KEY       PIPELINE  STAGE   KIND     "), "{}", dry.out);
    assert_snapshot!(dry.steady_out().lines().skip(3).collect::<Vec<_>>().join("\n"), @r"
    2 results to delete: 34 B in 2 files that nothing else has, … to compute again
    3 results kept: 42 B of 76 B
    ");
    assert_eq!(dry.err, "nothing was deleted: say it again with --delete\n");
    let json = project.qapipe(&["cache", "gc", "--json"]).code(0).json();
    assert_eq!((&json["deleted"], &json["kept"], json["results"].as_array().unwrap().len()), (&false.into(), &3.into(), 2));
    assert_eq!(project.qapipe(&["cache", "gc", "--older-than", "1h"]).code(0).out, "nothing to delete: 5 results in 76 B\n");
    let done = project.qapipe(&["cache", "gc", "--delete"]).code(0);
    assert!(done.out.contains("2 results deleted") && done.err.is_empty(), "{}{}", done.out, done.err);
    assert_eq!(results(&project), 3);
    project.qapipe(&["cache", "verify"]).code(0);
    assert!(project.qapipe(&["run"]).code(0).err.starts_with("nothing to do: 3 stages cached"));
    project.qapipe(&["cache", "gc", "--delete", "--all"]).code(0);
    assert_eq!((results(&project), project.qapipe(&["plan", "--check"]).code(3).code), (0, Some(3)));
}

#[test]
fn pipelines_that_are_named_are_all_that_cite() {
    let project = with_garbage();
    project.write("other.toml", &project.read("pipeline.toml").replace("\"toy\"", "\"other\"").replace("apart", "aside"));
    project.qapipe(&["run", "-q", "other.toml"]).code(0);
    let gone = |args: &[&str]| -> Vec<String> {
        let json = project.qapipe(&[&["cache", "gc", "--json"], args].concat()).code(0).json();
        let mut gone: Vec<String> =
            json["results"].as_array().unwrap().iter().map(|gone| gone["stage"].as_str().unwrap().to_owned()).collect();
        gone.sort();
        gone
    };
    assert_eq!(gone(&[]), ["first", "second"]);
    assert_eq!(gone(&["pipeline.toml"]), ["aside", "first", "second"]);
    assert_eq!(gone(&["other.toml"]), ["apart", "first", "second"]);
    assert_eq!(gone(&["--max-size", "1GiB"]), Vec::<String>::new());
    project.qapipe(&["cache", "gc", "missing.toml"]).code(2);
    assert!(project.qapipe(&["cache", "gc", "--older-than", "30"]).code(2).err.contains("30d, 12h"));
    assert!(project.qapipe(&["cache", "gc", "--max-size", "5 Gb/s"]).code(2).err.contains("50GiB, 500MB"));
}

/// Reads a result while everything that is not in use goes, and keeps its own after that.
const SLOW: &str = r#"name = "slow"
[stages.first]
kind = "command"
run = ["sh", "-c", "cat $0 > $1", "{in.x}", "{out.y}"]
inputs = { x = "in.txt" }
outputs = ["y"]

[stages.second]
kind = "command"
run = ["sh", "-c", "touch begun; while [ ! -e go ]; do sleep 0.02; done; cat $0 > $1", "{in.x}", "{out.y}"]
inputs = { x = "@first" }
outputs = { y = "second.txt" }
"#;

#[test]
fn what_a_run_uses_stays_until_it_ends() {
    let project = Project::of(SLOW);
    for text in ["earlier", "now"] {
        project.write("in.txt", text);
        project.qapipe(&["run", "-q", "pipeline.toml", "first"]).code(0);
    }
    let run = project.start(&["run"]);
    project.wait_for("begun");
    let json = project.qapipe(&["cache", "gc", "--delete", "--all", "--json"]).code(0).json();
    assert_eq!((json["results"].as_array().unwrap().len(), &json["kept"]), (1, &1.into()), "{json}");
    project.write("go", "");
    assert!(run.wait_with_output().unwrap().status.success());
    assert_eq!((project.read("second.txt").as_str(), results(&project)), ("now", 2));
    project.qapipe(&["cache", "verify"]).code(0);
}

#[test]
fn damage_is_mended_from_the_remote_or_forgotten() {
    let project = Project::toy();
    let shared = Project::of("");
    project.write("qapipe.toml", &format!("[remote]\nurl = \"{}\"\n", shared.path("remote").display()));
    project.qapipe(&["run", "-q"]).code(0);
    project.qapipe(&["cache", "push", "-q", "pipeline.toml", "first"]).code(0);
    damage(&project, "first");
    damage(&project, "apart");
    let mended = project.qapipe(&["cache", "verify", "--repair"]).code(0);
    assert!(mended.out.contains("toy first: fetched from the remote (12 B)"), "{}", mended.out);
    assert!(mended.out.contains("toy apart: forgotten; the next run that needs it computes it"), "{}", mended.out);
    assert_eq!(mended.err.matches("it is set aside").count(), 2, "{}", mended.err);
    assert_eq!(project.qapipe(&["cache", "verify"]).code(0).err, "");
    project.ran();
    project.qapipe(&["run", "-q"]).code(0);
    assert_eq!(project.ran(), ["apart"]);
    damage(&project, "first");
    let offline = project.qapipe(&["cache", "verify", "--repair", "--offline", "--json"]).code(0).json();
    assert_eq!((&offline["repaired"][0]["became"], &offline["repaired"][0]["stage"]), (&"forgotten".into(), &"first".into()));
    let json = project.qapipe(&["cache", "gc", "--json"]).code(0).json();
    assert_eq!(json["leftovers"]["damaged"]["count"], 2, "{json}");
}
