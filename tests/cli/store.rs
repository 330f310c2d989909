//! Commands that read what runs left: log, show, logs, get, results, cache.

use insta::assert_snapshot;

use crate::support::Project;

#[test]
fn past_runs_are_listed_and_shown() {
    let project = Project::toy();
    project.qapipe(&["run", "-q", "--jobs", "1"]).code(0);
    project.qapipe(&["run", "-q", "--set", "vars.word=x"]).code(0);
    let log = project.qapipe(&["log", "--json"]).code(0).json();
    let counts: Vec<(u64, u64)> =
        log["runs"].as_array().unwrap().iter().map(|run| (run["ran"].as_u64().unwrap(), run["cached"].as_u64().unwrap())).collect();
    assert_eq!(counts, [(2, 1), (3, 0)]);
    assert_eq!(project.qapipe(&["log", "-n", "1"]).code(0).out.lines().count(), 2);
    assert_snapshot!(project.qapipe(&["show"]).code(0).steady_out(), @r#"
    Run …: pipeline toy, 3 stages
     STATE   STAGE   KEY       BECAUSE                          TIME
     cached  apart   KKKKKKKK
     done    first   KKKKKKKK  params.run[4] "hello" -> "x"     …
     done    second  KKKKKKKK  input.inputs.x changed (@first)  …
    2 ran, 1 cached, 0 failed, 0 not run in …
    "#);
    let first = log["runs"][1]["run"].as_str().unwrap();
    assert!(project.qapipe(&["show", first]).code(0).out.contains("3 ran"));
    assert!(project.qapipe(&["show", "nothing"]).code(2).err.contains("`qapipe log`"));
    assert!(project.qapipe(&["show", "--json"]).code(0).json()["events"].as_array().unwrap().len() > 3);
}

#[test]
fn two_pipelines_of_one_name_in_one_store_are_told() {
    let (one, two) = (Project::toy(), Project::toy());
    let store = one.path("shared").display().to_string();
    let run = |project: &Project| project.qapipe(&["run", "--store", &store]).code(0).err;
    assert!(!run(&one).contains("is called `toy` too"));
    assert!(run(&two).contains("is called `toy` too"));
    assert!(!run(&two).contains("is called `toy` too"));
}

#[test]
fn a_stage_has_a_log() {
    let project = Project::toy();
    project.qapipe(&["run", "-q"]).code(0);
    assert_eq!(project.qapipe(&["logs", "first"]).code(0).out, "working on hello\n");
    assert_eq!(project.qapipe(&["logs", "first", "--json"]).code(0).json()["lines"][0], "working on hello");
    project.qapipe(&["logs", "nothing"]).code(2);
}

#[test]
fn results_are_copied_out() {
    let project = Project::toy();
    let early = project.qapipe(&["get", "second"]).code(2);
    assert!(early.err.contains("`qapipe run pipeline.toml second` computes it"), "{}", early.err);
    project.qapipe(&["run", "-q"]).code(0);
    assert_eq!(project.qapipe(&["get", "first.y", "-o", "copy"]).code(0).out, "copy/y\n");
    assert_eq!(project.read("copy/y"), "input\nhello\n");
    assert!(!std::fs::metadata(project.path("copy/y")).unwrap().permissions().readonly());
    assert!(project.qapipe(&["get", "first.y", "-o", "copy"]).code(2).err.contains("is there already"));
    let record = &project.qapipe(&["cache", "ls", "--json"]).code(0).json()["results"];
    let first = record.as_array().unwrap().iter().find(|record| record["stage"] == "first").unwrap();
    let digest = first["outputs"]["y"]["digest"].as_str().unwrap();
    std::fs::remove_file(project.path(&format!(".qapipe/objects/{}/{digest}", &digest[..2]))).unwrap();
    let damaged = project.qapipe(&["get", "first.y", "-o", "other"]).code(1);
    assert!(damaged.err.contains("computes it again") && !project.path("other").exists(), "{}", damaged.err);
    project.qapipe(&["run", "-q"]).code(0);
    assert!(project.qapipe(&["get", "first.z"]).code(2).err.contains("gives no `z`"));
}

#[test]
fn the_store_is_listed_measured_and_verified() {
    let project = Project::toy();
    project.qapipe(&["run", "-q"]).code(0);
    assert_eq!(project.qapipe(&["cache", "ls"]).code(0).out.lines().count(), 4);
    assert!(project.qapipe(&["cache", "size"]).code(0).out.contains("results"));
    assert_eq!(project.qapipe(&["cache", "size", "--json"]).code(0).json()["results"], 3);
    assert!(project.qapipe(&["cache", "verify"]).code(0).out.contains("all as they were stored"));
    let record = &project.qapipe(&["cache", "ls", "--json"]).code(0).json()["results"][0];
    let digest = record["outputs"]["y"]["digest"].as_str().unwrap().to_owned();
    let object = project.path(&format!(".qapipe/objects/{}/{digest}", &digest[..2]));
    let size = std::fs::metadata(&object).unwrap().len();
    std::fs::remove_file(&object).unwrap();
    std::fs::write(&object, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
    let damaged = project.qapipe(&["cache", "verify"]).code(1);
    assert!(damaged.err.contains("is damaged") && damaged.out.is_empty(), "{}", damaged.err);
    project.qapipe(&["run", "-q"]).code(0);
    project.qapipe(&["cache", "verify"]).code(0);
    let key = record["key"].as_str().unwrap();
    project.write(&format!(".qapipe/records/{}/{key}.json", &key[..2]), "{ half a reco");
    let unreadable = project.qapipe(&["cache", "verify"]).code(1);
    assert!(unreadable.err.contains("the record cannot be read"), "{}", unreadable.err);
    project.qapipe(&["run", "-q"]).code(0);
    project.qapipe(&["cache", "verify"]).code(0);
}

#[test]
fn reading_commands_find_the_store_around_them_or_say_how() {
    let project = Project::toy();
    let nothing = project.qapipe(&["log"]).code(2);
    assert_snapshot!(nothing.steady_err(), @r"
    error: there are no results here: no folder .qapipe in this folder, above it, or directly below
      help: run a pipeline first, or name the store with --store DIR or QAPIPE_STORE
    ");
    project.qapipe(&["run", "-q"]).code(0);
    project.write("sub/deep/x", "");
    let below = project.answer(project.command(&["log"]).current_dir(project.path("sub/deep")));
    assert_eq!(below.code(0).out.lines().count(), 2);
    let above = Project::of("");
    std::fs::rename(project.path(".qapipe"), above.path("x")).ok();
    above.write("one/.gitignore", "");
    std::fs::rename(above.path("x"), above.path("one/.qapipe")).unwrap();
    above.qapipe(&["log"]).code(0);
}

#[cfg(feature = "report")]
#[test]
fn answers_in_the_official_form_are_scored_into_the_table() {
    let project = Project::of(
        "name = \"scored\"\n[stages.sample]\nkind = \"dataset\"\ndev = \"dev.json\"\n\n[stages.scores]\nkind = \"evaluate\"\n\
         predictions = \"answers.json\"\ndata = \"@sample\"\n",
    );
    project.write("dev.json", DEV);
    project.write("answers.json", r#"{"a": "Bonn", "b": "", "c": "wrong", "d": ""}"#);
    let run = project.qapipe(&["run"]).code(0);
    assert_snapshot!(run.steady_out(), @r"
    SYSTEM            EXACT      ±     F1  HASANS   NOANS
    scores            75.00  37.50  75.00   50.00  100.00
    (always abstain)  50.00      -  50.00    0.00  100.00
    ");
    assert_eq!(project.qapipe(&["run"]).code(0).out, "");
    assert_snapshot!(project.qapipe(&["results", "--format", "markdown"]).code(0).out, @r"
    | SYSTEM | EXACT | ± | F1 | HASANS | NOANS |
    | --- | ---: | ---: | ---: | ---: | ---: |
    | scores | 75.00 | 37.50 | 75.00 | 50.00 | 100.00 |
    | (always abstain) | 50.00 | - | 50.00 | 0.00 | 100.00 |
    ");
    let json = project.qapipe(&["results", "--json"]).code(0).json();
    assert_eq!((&json["rows"][0]["exact"], &json["rows"][0]["parameters"]), (&75.0.into(), &serde_json::Value::Null));
    project.qapipe(&["results", "-o", "table.csv"]).code(0);
    assert!(project.read("table.csv").starts_with("pipeline,stage,axes,key,"));
    let sql = project.qapipe(&["results", "--sql", "select id, exact from predictions where exact < 1"]).code(0);
    assert_eq!(sql.out, "ID  EXACT\n".to_lowercase() + "c       0\n");
    assert!(project.qapipe(&["results", "--sql", "select"]).code(2).err.contains("tables: metrics"));
    assert!(project.qapipe(&["results", "-p", "other"]).code(2).err.contains("no evaluations"));
}

#[cfg(feature = "report")]
const DEV: &str = r#"{"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "The old capital was Bonn on the Rhine.", "qas": [
 {"id": "a", "question": "What was the capital?", "answers": [{"text": "Bonn", "answer_start": 20}], "is_impossible": false},
 {"id": "b", "question": "Who was the king?", "answers": [], "is_impossible": true},
 {"id": "c", "question": "Where was it?", "answers": [{"text": "on the Rhine", "answer_start": 25}], "is_impossible": false},
 {"id": "d", "question": "When was it?", "answers": [], "is_impossible": true}]}]}]}"#;

#[cfg(not(feature = "report"))]
#[test]
fn without_the_feature_results_says_how_to_get_them() {
    let answer = Project::toy().qapipe(&["results"]).code(4);
    assert!(answer.err.contains("--features report"), "{}", answer.err);
}
