//! `qapipe check` and what is said about bad input.

use insta::assert_snapshot;

use crate::support::Project;

#[test]
fn a_sound_pipeline_is_one_line() {
    assert_eq!(Project::toy().qapipe(&["check"]).code(0).out, "ok  pipeline.toml: pipeline toy, 3 stages\n");
}

#[test]
fn all_errors_come_at_once_with_place_and_help() {
    let project = Project::toy();
    project.edit("inputs = { code = \"step.sh\", x = \"@first\" }", "inputs = { code = \"step.sh\", x = \"@frist\" }\nrnu = 1");
    project.edit("kind = \"command\"", "kind = \"comand\"");
    let checked = project.qapipe(&["check"]).code(2);
    assert_eq!(checked.out, "");
    assert_snapshot!(checked.steady_err(), @r#"
      × unknown kind `comand`
       ╭─[pipeline.toml:7:8]
     6 │ [stages.first]
     7 │ kind = "comand"
       ·        ────────
     8 │ run = ["sh", "{in.code}", "{in.x}", "{out.y}", "${vars.word}"]
       ╰────
      help: did you mean `command`?

      × unknown stage `@frist`
        ╭─[pipeline.toml:15:34]
     14 │ run = ["sh", "{in.code}", "{in.x}", "{out.y}", "again"]
     15 │ inputs = { code = "step.sh", x = "@frist" }
        ·                                  ────────
     16 │ rnu = 1
        ╰────
      help: did you mean `first`?

      × kind `command` has no parameter `rnu`
        ╭─[pipeline.toml:16:1]
     15 │ inputs = { code = "step.sh", x = "@frist" }
     16 │ rnu = 1
        · ───
     17 │ outputs = { y = "out/second.txt" }
        ╰────
      help: did you mean `run`?

    3 errors in all
    "#);
    let json = project.qapipe(&["check", "--json"]).code(2).json();
    let errors = json["files"][0]["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[0]["line"], &errors[0]["column"]), (3, &7.into(), &8.into()));
}

#[test]
fn a_file_that_is_not_there_is_shown_where_it_is_named() {
    let project = Project::toy();
    std::fs::remove_file(project.path("in.txt")).unwrap();
    let checked = project.qapipe(&["check"]).code(2);
    assert_snapshot!(checked.steady_err(), @r#"
      × `in.txt` does not exist
        ╭─[pipeline.toml:9:34]
      8 │ run = ["sh", "{in.code}", "{in.x}", "{out.y}", "${vars.word}"]
      9 │ inputs = { code = "step.sh", x = "in.txt" }
        ·                                  ────────
     10 │ outputs = ["y"]
        ╰────

      × `in.txt` does not exist
        ╭─[pipeline.toml:21:34]
     20 │ run = ["sh", "{in.code}", "{in.x}", "{out.y}", "apart"]
     21 │ inputs = { code = "step.sh", x = "in.txt" }
        ·                                  ────────
     22 │ outputs = ["y"]
        ╰────

    2 errors in all
    "#);
    let run = project.qapipe(&["run", "--json"]).code(2);
    assert_eq!(run.events()[0]["error"]["errors"][0]["line"], 9);
}

#[test]
fn an_override_is_shown_as_it_was_written() {
    let project = Project::toy();
    assert_snapshot!(project.qapipe(&["plan", "--set", "vars.wrod=x"]).code(2).steady_err(), @r"
     × no variable `wrod`
      ╭─[--set:1:1]
    1 │ vars.wrod=x
      · ─────────
      ╰────
     help: did you mean `word`?
    ");
    let answer = project.qapipe(&["plan", "--set", "nonsense"]).code(2);
    assert!(answer.err.contains("PATH=VALUE"), "{}", answer.err);
}

#[test]
fn each_bad_file_gets_one_clear_error() {
    let bad = [
        ("name = ", 1),
        (
            "[stages.a]\nkind = \"command\"\nrun = [\"true\"]\noutputs = [\"y\"]\ninputs = { x = \"@b\" }\n[stages.b]\nkind = \"command\"\nrun = [\"true\"]\noutputs = [\"y\"]\ninputs = { x = \"@a\" }\n",
            1,
        ),
        ("[stages.a]\nkind = \"dataset\"\nsource = \"sample\"\n[stages.b]\nkind = \"evaluate\"\nmodel = \"@a\"\ndata = \"@a\"\n", 1),
        ("seed = \"x\"\n[stages.a]\nkind = \"dataset\"\nsource = \"sample\"\n", 1),
    ];
    for (text, count) in bad {
        let json = Project::of(text).qapipe(&["check", "--json"]).code(2).json();
        let errors = json["files"][0]["errors"].as_array().unwrap().clone();
        assert_eq!(errors.len(), count, "{text}\n{errors:#?}");
        assert!(errors[0]["line"].as_u64().unwrap() > 0 && !errors[0]["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_pipeline_that_is_not_there_is_exit_2_and_says_what_to_do() {
    let project = Project::toy();
    let answer = project.qapipe(&["run", "other.toml"]).code(2);
    assert_snapshot!(answer.steady_err(), @r"
    error: there is no pipeline file other.toml
      help: name one (`qapipe run FILE`), or start a project with `qapipe init`
    ");
    project.qapipe(&["frobnicate"]).code(2);
    project.qapipe(&["run", "--device", "gpu"]).code(2);
}
