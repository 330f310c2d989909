//! `qapipe plan` and `qapipe why`.

use insta::assert_snapshot;

use crate::support::Project;

#[test]
fn a_plan_says_what_would_run_and_runs_nothing() {
    let project = Project::toy();
    assert_snapshot!(project.qapipe(&["plan"]).code(0).steady_out(), @r"
    Pipeline toy: 3 stages  (pipeline.toml)
     STATE  STAGE   KEY       BECAUSE      TIME
     run    first   KKKKKKKK  new stage
     maybe  second  -         after first
     run    apart   KKKKKKKK  new stage
    2 to run, 1 maybe, 0 cached
    ");
    assert!(project.ran().is_empty());
    project.qapipe(&["run", "-q"]).code(0);
    project.edit("\"hello\"", "\"bye\"");
    assert_snapshot!(project.qapipe(&["plan"]).code(0).steady_out(), @r#"
    Pipeline toy: 3 stages  (pipeline.toml)
     STATE   STAGE   KEY       BECAUSE                         TIME
     run     first   KKKKKKKK  params.run[4] "hello" -> "bye"  …
     maybe   second  -         after first                     …
     cached  apart   KKKKKKKK
    1 to run, 1 maybe, 1 cached; … in all
    "#);
    assert_eq!(project.ran(), ["again", "apart", "hello"]);
}

#[test]
fn check_is_exit_3_while_work_is_due() {
    let project = Project::toy();
    project.qapipe(&["plan", "--check"]).code(3);
    project.qapipe(&["run", "-q"]).code(0);
    let done = project.qapipe(&["plan", "--check"]).code(0);
    assert!(done.out.ends_with("nothing to do: 3 stages cached\n"), "{}", done.out);
    let quiet = project.qapipe(&["plan", "--check", "-q", "--set", "vars.word=x", "first"]).code(3);
    assert_snapshot!(quiet.steady_out(), @r#"
    STATE  STAGE  KEY       BECAUSE                       TIME
    run    first  KKKKKKKK  params.run[4] "hello" -> "x"  …
    "#);
    assert_eq!(project.qapipe(&["plan", "-q"]).code(0).out, "");
}

#[test]
fn a_plan_is_json_on_demand() {
    let project = Project::toy();
    let plan = project.qapipe(&["plan", "--json"]).code(0).json();
    assert_eq!((&plan["pipeline"], &plan["done"]), (&"toy".into(), &false.into()));
    let decisions: Vec<&str> = plan["stages"].as_array().unwrap().iter().map(|stage| stage["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["run", "maybe", "run"]);
}

#[test]
fn why_goes_down_to_the_root_cause() {
    let project = Project::toy();
    project.qapipe(&["run", "-q"]).code(0);
    assert_snapshot!(project.qapipe(&["why", "second"]).code(0).steady_out(), @r"second  cached: nothing that it is made from has changed  (pipeline.toml:12)");
    project.edit("\"hello\"", "\"bye\"");
    assert_snapshot!(project.qapipe(&["why", "pipeline.toml", "second"]).code(0).steady_out(), @r#"
    second  may run: that depends on what first will give  (pipeline.toml:12)
    first  runs because this changed:  (pipeline.toml:6)
        params.run[4] "hello" -> "bye"  (pipeline.toml:4)
    "#);
    project.write("in.txt", "other\n");
    assert_snapshot!(project.qapipe(&["why", "apart"]).code(0).steady_out(), @r"
    apart  runs because this changed:  (pipeline.toml:18)
        input.inputs.x changed (in.txt)  (pipeline.toml:21)
    ");
    let json = project.qapipe(&["why", "apart", "--json"]).code(0).json();
    let change = &json["steps"][0]["changes"][0];
    assert_eq!((&change["facet"], &change["line"]), (&"input.inputs.x".into(), &21.into()));
}

#[test]
fn why_tells_the_closest_result_of_a_new_stage() {
    let project = Project::toy();
    project.qapipe(&["run", "-q"]).code(0);
    project.edit("[stages.apart]", "[stages.aside]");
    let same = project.qapipe(&["why", "aside"]).code(0).out;
    assert!(same.starts_with("aside  cached"), "a name is part of no key: {same}");
    let inputs = |file: &str| format!("\"apart\"]\ninputs = {{ code = \"step.sh\", x = \"{file}\" }}");
    project.edit(&inputs("in.txt"), &inputs("other.txt"));
    project.write("other.txt", "other\n");
    let why = project.qapipe(&["why", "aside"]).code(0).out;
    assert!(why.contains("closest result there is, ") && why.contains(" of apart (run "), "{why}");
    assert!(why.trim_end().ends_with("input.inputs.x changed (other.txt)  (pipeline.toml:21)"), "{why}");
    let json = project.qapipe(&["why", "aside", "--json"]).code(0).json();
    assert_eq!(json["steps"][0]["closest"]["stage"], "apart");
}

#[test]
fn an_unknown_stage_is_exit_2_with_the_nearest_name() {
    let project = Project::toy();
    for args in [&["why", "secnd"][..], &["run", "secnd"], &["plan", "secnd"], &["run", "--force", "secnd"], &["get", "secnd"]] {
        let answer = project.qapipe(args).code(2);
        assert_eq!(answer.err, "error: no stage `secnd`\n  help: did you mean `second`?\n", "{args:?}");
    }
}
