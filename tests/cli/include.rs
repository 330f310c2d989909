//! A pipeline that includes others.

use insta::assert_snapshot;

use crate::support::{Project, TOY};

/// [`TOY`] and its twin with another word, under one roof.
const STUDY: &str = r#"name = "study"
include = ["toy.toml", { file = "toy.toml", name = "loud", vars = { word = "HELLO" } }]
"#;

fn study() -> Project {
    let project = Project::toy();
    project.write("toy.toml", &TOY.replace("{ y = \"out/second.txt\" }", "[\"y\"]"));
    project.write("pipeline.toml", STUDY);
    project
}

#[test]
fn what_the_single_pipeline_gave_is_found_again() {
    let project = study();
    project.qapipe(&["run", "-q", "toy.toml"]).code(0);
    assert_snapshot!(project.qapipe(&["plan"]).code(0).steady_out(), @r"
    Pipeline study: 5 stages  (pipeline.toml)
     STATE   STAGE        KEY       BECAUSE           TIME
     cached  toy-first    KKKKKKKK
     cached  toy-second   KKKKKKKK
     cached  apart        KKKKKKKK
     run     loud-first   KKKKKKKK  new stage
     maybe   loud-second  -         after loud-first
    1 to run, 1 maybe, 3 cached
    ");
    assert_eq!(project.qapipe(&["run", "--json"]).code(0).stages("finished"), ["loud-first", "loud-second"]);
    assert_eq!(project.qapipe(&["run", "toy.toml"]).code(0).err, "nothing to do: 3 stages cached\n");
}

#[test]
fn a_shared_stage_answers_to_all_of_its_names() {
    let project = study();
    let run = |stage: &str| project.qapipe(&["run", "--json", "pipeline.toml", stage]).code(0);
    assert_eq!(run("loud-apart").stages("finished"), ["apart"]);
    assert_eq!(run("apart").stages("cached"), ["apart"]);
    assert_eq!(project.qapipe(&["logs", "toy-apart"]).code(0).out, "working on apart\n");
    assert_eq!(project.qapipe(&["get", "pipeline.toml", "toy-apart", "-o", "got"]).code(0).out, "got/y\n");
    let why = project.qapipe(&["why", "pipeline.toml", "toy-apart"]).code(0);
    assert_eq!(why.out, "apart  cached: nothing that it is made from has changed  (toy.toml:18)\n");
    let graph = project.qapipe(&["graph", "--json"]).code(0).json();
    let also = graph["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "apart").unwrap()["also"].clone();
    assert_eq!(also, serde_json::json!(["loud-apart", "toy-apart"]));
    let apart = project.qapipe(&["plan", "--json", "--set", "stages.loud-apart.env={ A = \"1\" }"]).code(0).json();
    assert_eq!(apart["stages"].as_array().unwrap().len(), 6);
}

#[test]
fn an_error_is_shown_in_the_file_where_it_stands() {
    let project = study();
    project.write("toy.toml", &project.read("toy.toml").replace("@first", "@frist"));
    assert_snapshot!(project.qapipe(&["check"]).code(2).steady_err(), @r#"
     × unknown stage `@frist`
       ╭─[toy.toml:15:34]
    14 │ run = ["sh", "{in.code}", "{in.x}", "{out.y}", "again"]
    15 │ inputs = { code = "step.sh", x = "@frist" }
       ·                                  ────────
    16 │ outputs = ["y"]
       ╰────
     help: did you mean `first`?
    "#);
    let json = project.qapipe(&["check", "--json"]).code(2).json();
    let errors = json["files"][0]["errors"].as_array().unwrap().clone();
    assert_eq!((errors.len(), &errors[0]["file"], &errors[0]["line"]), (1, &"toy.toml".into(), &15.into()));
    project.write("pipeline.toml", &STUDY.replace("word =", "wrod ="));
    project.write("toy.toml", TOY);
    assert_snapshot!(project.qapipe(&["check"]).code(2).steady_err(), @r#"
     × `toy.toml` has no variable `wrod`
      ╭─[pipeline.toml:2:69]
    1 │ name = "study"
    2 │ include = ["toy.toml", { file = "toy.toml", name = "loud", vars = { wrod = "HELLO" } }]
      ·                                                                     ────
      ╰────
     help: did you mean `word`?
    "#);
}
