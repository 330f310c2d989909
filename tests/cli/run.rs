//! `qapipe run`.

use insta::assert_snapshot;

use crate::support::Project;

#[test]
fn the_first_run_runs_all_and_the_second_says_that_there_is_nothing_to_do() {
    let project = Project::toy();
    let first = project.qapipe(&["run", "--jobs", "1"]).code(0);
    assert_eq!(first.out, "");
    assert_snapshot!(first.steady_err(), @r"
    run       first   new stage
    done      first   …
    run       second  new stage
    done      second  …
    run       apart   new stage
    done      apart   …
    3 ran, 0 cached in …  (run …)
    ");
    assert_eq!(project.read("out/second.txt"), "input\nhello\nagain\n");
    assert_eq!(project.ran(), ["again", "apart", "hello"]);
    let second = project.qapipe(&["run"]).code(0);
    assert_eq!((second.out.as_str(), second.err.as_str()), ("", "nothing to do: 3 stages cached\n"));
    assert!(project.ran().is_empty());
}

#[test]
fn quiet_says_nothing_but_errors() {
    let project = Project::toy();
    let good = project.qapipe(&["run", "-q"]).code(0);
    assert_eq!((good.out.as_str(), good.err.as_str()), ("", ""));
    project.write("step.sh", "exit 3\n");
    let bad = project.qapipe(&["run", "-q", "first"]).code(1);
    assert!(bad.out.is_empty() && bad.err.starts_with("failed    first"), "{}", bad.err);
}

#[test]
fn an_edit_reruns_what_hangs_on_it_and_going_back_reruns_nothing() {
    let project = Project::toy();
    project.qapipe(&["run", "-q"]).code(0);
    project.edit("\"hello\"", "\"bye\"");
    let edited = project.qapipe(&["run", "--json"]).code(0);
    assert_eq!(edited.stages("finished"), ["first", "second"]);
    assert_eq!(edited.stages("cached"), ["apart"]);
    project.edit("\"bye\"", "\"hello\"");
    assert!(project.qapipe(&["run", "--json"]).code(0).stages("started").is_empty());
    assert_eq!(project.read("out/second.txt"), "input\nhello\nagain\n");
}

#[test]
fn an_equal_output_stops_the_rerun_there() {
    let project = Project::toy();
    project.qapipe(&["run", "-q"]).code(0);
    project.edit("\"hello\"", "\"hello~2\"");
    let edited = project.qapipe(&["run", "--json"]).code(0);
    assert_eq!((edited.stages("finished"), edited.stages("cached").len()), (vec!["first".to_owned()], 2));
    assert!(edited.events().iter().any(|event| event["event"] == "finished" && event["unchanged"] == true));
}

#[test]
fn json_is_a_line_an_event_from_start_to_end() {
    let project = Project::toy();
    let run = project.qapipe(&["run", "--json"]).code(0);
    let events = run.events();
    assert_eq!((&events[0]["event"], &events[0]["pipeline"], &events[0]["stages"]), (&"run-started".into(), &"toy".into(), &3.into()));
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["ran"], &last["failed"]), (&"run-finished".into(), &3.into(), &0.into()));
    assert!(run.err.is_empty());
}

#[test]
fn values_are_set_from_outside_and_stages_named() {
    let project = Project::toy();
    project.qapipe(&["run", "first", "--set", "vars.word=moin"]).code(0);
    assert_eq!(project.ran(), ["moin"]);
    project.qapipe(&["run", "pipeline.toml", "second", "--set", "vars.word=moin"]).code(0);
    assert_eq!(project.ran(), ["again"]);
    project.qapipe(&["run", "--force", "first", "first", "--set", "vars.word=moin"]).code(0);
    assert_eq!(project.ran(), ["moin"]);
}

#[test]
fn a_stage_runs_although_another_lacks_its_input() {
    let project = Project::toy();
    project.edit("inputs = { code = \"step.sh\", x = \"@first\" }", "inputs = { code = \"step.sh\", x = \"nowhere.txt\" }");
    project.qapipe(&["run", "-q"]).code(2);
    project.qapipe(&["run", "-q", "first"]).code(0);
    assert_eq!(project.ran(), ["hello"]);
}

#[test]
fn a_failing_stage_is_exit_1_and_says_what_it_printed() {
    let project = Project::toy();
    project.write("step.sh", "echo 'no such word' >&2\nexit 7\n");
    let failed = project.qapipe(&["run", "first"]).code(1);
    assert!(failed.err.contains("failed    first") && failed.err.contains("no such word"), "{}", failed.err);
    assert!(failed.err.contains("1 failed"), "{}", failed.err);
    assert_eq!(project.qapipe(&["logs", "first"]).code(0).out, "no such word\n");
    let json = project.qapipe(&["run", "first", "--json"]).code(1);
    assert_eq!(json.stages("failed"), ["first"]);
}

#[test]
fn what_does_not_hang_on_a_failure_goes_on_when_asked_to() {
    let project = Project::toy();
    project.write("step.sh", "[ \"$3\" = apart ] || exit 1\necho x > \"$2\"\n");
    let stopped = project.qapipe(&["run", "--json", "--jobs", "1"]).code(1);
    assert_eq!((stopped.stages("finished").len(), stopped.stages("blocked").len()), (0, 2));
    let went_on = project.qapipe(&["run", "--json", "--jobs", "1", "--keep-going"]).code(1);
    assert_eq!((went_on.stages("finished"), went_on.stages("blocked")), (vec!["apart".to_owned()], vec!["second".to_owned()]));
}

#[test]
fn the_store_is_beside_the_pipeline_wherever_the_command_runs() {
    let project = Project::toy();
    let other = Project::of("");
    let file = project.path("pipeline.toml");
    other.qapipe(&["run", "-q", file.to_str().unwrap()]).code(0);
    other.qapipe(&["run", "-q", project.path("").to_str().unwrap()]).code(0);
    assert!(project.path(".qapipe/VERSION").is_file() && !other.path(".qapipe").exists());
    project.qapipe(&["run", "-q", "--store", "elsewhere"]).code(0);
    assert!(project.path("elsewhere/VERSION").is_file());
    let named = project.answer(project.command(&["run", "-q"]).env("QAPIPE_STORE", "third"));
    assert!(named.code == Some(0) && project.path("third/VERSION").is_file());
}

#[test]
fn a_store_that_cannot_be_made_is_exit_4() {
    let project = Project::toy();
    let answer = project.qapipe(&["run", "--store", "in.txt/store"]).code(4);
    assert!(answer.err.starts_with("error: store: in.txt/store"), "{}", answer.err);
    let json = project.qapipe(&["run", "--json", "--store", "in.txt/store"]).code(4);
    assert_eq!(json.events()[0]["error"]["exit"], 4);
}

/// A pipeline with one stage that needs the worker.
const HEAVY: &str = r#"[stages.sample]
kind = "dataset"
source = "sample"

[stages.model]
kind = "checkpoint"
vocabulary = "@sample"
config = { hidden_size = 16, num_attention_heads = 2, num_hidden_layers = 1 }
"#;

#[test]
fn without_a_worker_its_stages_are_exit_4() {
    let project = Project::of(HEAVY);
    let answer = project.answer(project.command(&["run"]).env("QAPIPE_WORKER", "/nonexistent/worker"));
    let answer = answer.code(4);
    assert!(answer.err.contains("cannot start /nonexistent/worker"), "{}", answer.err);
}

#[test]
fn a_bug_in_a_stage_is_exit_70() {
    let project = Project::of(HEAVY);
    let said = r#"{"say":"error","error":{"class":"bug","message":"poked","help":null}}"#;
    project.write("worker", &format!("#!/bin/sh\nread -r request\necho '{said}'\n"));
    std::process::Command::new("chmod").args(["+x", project.path("worker").to_str().unwrap()]).status().unwrap();
    let answer = project.answer(project.command(&["run"]).env("QAPIPE_WORKER", project.path("worker"))).code(70);
    assert!(answer.err.contains("poked"), "{}", answer.err);
}

#[test]
fn results_that_were_put_into_the_folder_are_put_back() {
    let project = Project::toy();
    project.qapipe(&["run", "-q"]).code(0);
    std::fs::remove_file(project.path("out/second.txt")).unwrap();
    let again = project.qapipe(&["run"]).code(0);
    assert_eq!(again.err, "nothing to do: 3 stages cached, 1 file put back\n");
    assert_eq!(project.read("out/second.txt"), "input\nhello\nagain\n");
}

#[test]
fn colour_only_where_it_is_wanted() {
    let project = Project::toy();
    let escapes = |args: &[&str], variable: Option<&str>| {
        let mut command = project.command(args);
        if let Some(name) = variable {
            command.env(name, "1");
        }
        let answer = project.answer(&mut command).code(0);
        (answer.out + &answer.err).contains('\u{1b}')
    };
    assert!(!escapes(&["plan"], None), "a pipe has no colour");
    assert!(!escapes(&["plan"], Some("NO_COLOR")));
    assert!(escapes(&["plan", "--color", "always"], None));
    assert!(!escapes(&["plan", "--color", "never"], Some("CLICOLOR_FORCE")));
    assert!(escapes(&["run", "--color", "always"], None));
    assert!(!escapes(&["run", "--force", "apart"], Some("NO_COLOR")));
}
