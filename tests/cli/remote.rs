//! A remote in a folder: `cache push`, `cache pull`, and runs over it.

use insta::assert_snapshot;

use crate::support::Project;

/// A project whose remote is a folder that it shares with others.
fn with_remote(shared: &Project, more: &str) -> Project {
    let project = Project::toy();
    project.write("qapipe.toml", &format!("[remote]\nurl = \"{}\"\n{more}", shared.path("remote").display()));
    project
}

#[test]
fn what_one_has_computed_another_fetches() {
    let shared = Project::of("");
    let (one, two) = (with_remote(&shared, ""), with_remote(&shared, ""));
    one.qapipe(&["run", "-q"]).code(0);
    assert_eq!(one.qapipe(&["cache", "push", "-n"]).code(0).out, "3 results to send (3 files, 42 B), 0 there already\n");
    assert!(!shared.path("remote").exists());
    assert_eq!(one.qapipe(&["cache", "push"]).code(0).out, "3 results sent (3 files, 42 B), 0 there already\n");
    assert_eq!(one.qapipe(&["cache", "push"]).code(0).out, "0 results sent (0 B), 3 there already\n");
    assert_snapshot!(two.qapipe(&["plan"]).code(0).steady_out(), @r"
    Pipeline toy: 3 stages  (pipeline.toml)
     STATE  STAGE   KEY       BECAUSE              TIME
     fetch  first   KKKKKKKK  in the remote, 12 B
     fetch  second  KKKKKKKK  in the remote, 18 B
     fetch  apart   KKKKKKKK  in the remote, 12 B
    nothing to do: 0 stages cached, 3 in the remote
    ");
    two.qapipe(&["plan", "--check"]).code(0);
    two.qapipe(&["plan", "--check", "--offline"]).code(3);
    let plan = two.qapipe(&["plan", "--json"]).code(0).json();
    assert_eq!((&plan["stages"][0]["decision"], &plan["stages"][0]["bytes"]), (&"fetch".into(), &12.into()));
    let run = two.qapipe(&["run"]).code(0);
    assert_snapshot!(run.steady_err(), @r"
    fetch     second  18 B
    fetched   second  18 B in …
    0 ran, 0 cached, 2 in the remote, 1 fetched in …  (run …)
    ");
    assert_eq!((two.ran(), two.read("out/second.txt").as_str()), (vec![], "input\nhello\nagain\n"));
    assert_snapshot!(two.qapipe(&["show"]).code(0).steady_out(), @r"
    Run …: pipeline toy, 3 stages
     STATE    STAGE   KEY       BECAUSE  TIME
     fetched  second  KKKKKKKK           …
     remote   first   KKKKKKKK
     remote   apart   KKKKKKKK
    0 ran, 0 cached, 2 in the remote, 1 fetched, 0 failed, 0 not run in …
    ");
    assert_eq!(two.qapipe(&["run"]).code(0).err.lines().next().unwrap(), "nothing to do: 1 stage cached, 2 in the remote");
    assert!(two.qapipe(&["why", "first"]).code(0).out.contains("the remote has its result"));
    assert_eq!(two.qapipe(&["get", "first.y", "-o", "copy"]).code(0).out, "copy/y\n");
    assert_eq!(two.read("copy/y"), "input\nhello\n");
    assert_eq!(two.qapipe(&["cache", "pull", "pipeline.toml", "apart"]).code(0).out, "1 result fetched (1 file, 12 B), 0 there already\n");
    two.qapipe(&["cache", "verify"]).code(0);
}

#[test]
fn with_push_a_run_sends_what_it_computes() {
    let shared = Project::of("");
    let (one, two) = (with_remote(&shared, "push = true\n"), with_remote(&shared, ""));
    let run = one.qapipe(&["run", "--json"]).code(0);
    let mut pushed = run.stages("pushed");
    pushed.sort();
    assert_eq!(pushed, ["apart", "first", "second"]);
    let pulled = two.qapipe(&["cache", "pull", "pipeline.toml", "--json"]).code(0).json();
    assert_eq!((&pulled["results"], &pulled["files"], &pulled["damaged"]), (&3.into(), &3.into(), &serde_json::json!([])));
    assert_eq!(two.qapipe(&["run"]).code(0).err.lines().last().unwrap(), "nothing to do: 3 stages cached, 1 file put back");
    std::fs::remove_dir_all(shared.path("remote")).unwrap();
    std::fs::write(shared.path("remote"), "no folder").unwrap();
    let run = one.qapipe(&["run", "--set", "vars.word=x"]).code(0);
    assert!(run.err.matches("warning").count() == 1 && run.err.contains("2 ran, 1 cached"), "{}", run.err);
}

#[test]
fn the_project_file_is_read_strictly_and_the_environment_wins() {
    let shared = Project::of("");
    let project = Project::toy();
    let none = project.qapipe(&["cache", "push", "pipeline.toml"]).code(2);
    assert_snapshot!(none.steady_err(), @r#"
    error: this project has no remote
      help: write `[remote]` and `url = "/shared/results"` (or s3://BUCKET/PREFIX) in qapipe.toml, or set QAPIPE_REMOTE
    "#);
    project.write("qapipe.toml", "[remote]\nurl = \"r\"\nsecret = \"x\"\n");
    let wrong = project.qapipe(&["run"]).code(2);
    assert!(wrong.err.contains("qapipe.toml: TOML parse error at line 3") && wrong.err.contains("unknown field `secret`"), "{}", wrong.err);
    project.write("qapipe.toml", "[remote]\nurl = \"ftp://host/x\"\n");
    project.qapipe(&["run"]).code(2);
    project.qapipe(&["run", "-q", "--offline"]).code(0);
    let named = shared.path("named").display().to_string();
    let push = project.answer(project.command(&["cache", "push"]).env("QAPIPE_REMOTE", &named)).code(0);
    assert!(push.out.starts_with("3 results sent") && shared.path("named/VERSION").is_file());
    // A folder's name starts from the folder of the file.
    project.write("qapipe.toml", "[remote]\nurl = \"below\"\n");
    project.write("sub/x", "");
    project.answer(project.command(&["cache", "push"]).current_dir(project.path("sub"))).code(0);
    assert!(project.path("below/VERSION").is_file());
    project.write("below/VERSION", "qapipe remote 2\n");
    let newer = project.qapipe(&["cache", "pull"]).code(4);
    assert!(newer.err.contains("has layout `qapipe remote 2`") && newer.err.contains("help: "), "{}", newer.err);
    let unmounted = project.answer(project.command(&["cache", "push"]).env("QAPIPE_REMOTE", "/no/such/disk")).code(4);
    assert!(unmounted.err.contains("remote /no/such/disk does not exist: there is no folder /no/such"), "{}", unmounted.err);
}

#[cfg(not(feature = "cloud"))]
#[test]
fn without_the_feature_a_bucket_says_how_to_get_it() {
    let project = Project::toy();
    let answer = project.answer(project.command(&["run"]).env("QAPIPE_REMOTE", "s3://bucket/x")).code(2);
    assert!(answer.err.contains("--features cloud"), "{}", answer.err);
}
