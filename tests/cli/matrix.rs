//! Pipelines with a matrix.

use insta::assert_snapshot;

use crate::support::{Project, TOY};

/// [`TOY`] with several words for the first stage, and so for the second.
fn words(words: &[&str]) -> Project {
    let project = Project::toy();
    let text = TOY.replace("[vars]\nword = \"hello\"", &format!("[matrix]\nword = {words:?}"));
    let text = text.replace("${vars.word}", "${matrix.word}").replace("{ y = \"out/second.txt\" }", "[\"y\"]");
    project.write("pipeline.toml", &text);
    project
}

#[test]
fn cells_have_names_and_run_like_stages() {
    let project = words(&["hi", "ho"]);
    let first = project.qapipe(&["run", "--jobs", "1"]).code(0);
    assert_snapshot!(first.steady_err(), @r"
    run       first[word=hi]   new stage
    done      first[word=hi]   …
    run       first[word=ho]   new stage
    done      first[word=ho]   …
    run       second[word=hi]  new stage
    done      second[word=hi]  …
    run       second[word=ho]  new stage
    done      second[word=ho]  …
    run       apart            new stage
    done      apart            …
    5 ran, 0 cached in …  (run …)
    ");
    assert_eq!(project.ran(), ["again", "again", "apart", "hi", "ho"]);
    assert_eq!(project.qapipe(&["logs", "first[word=ho]"]).code(0).out, "working on ho\n");
    assert_eq!(project.qapipe(&["get", "first[word=ho].y", "-o", "got"]).code(0).out, "got/y\n");
    assert_eq!(project.read("got/y"), "input\nho\n");
    let why = project.qapipe(&["why", "second[word=ho]"]).code(0).out;
    assert_eq!(why, "second[word=ho]  cached: nothing that it is made from has changed  (pipeline.toml:12)\n");
    assert_eq!(
        project.qapipe(&["why", "second"]).code(2).err,
        "error: no single stage `second`\n  help: it stands for 2; name one, such as `second[word=hi]`\n"
    );
    assert!(project.qapipe(&["show"]).code(0).out.contains("done   second[word=hi]"));
}

#[test]
fn families_cells_and_conditions_are_targets() {
    let project = words(&["hi", "ho", "hu"]);
    let cached = |args: &[&str]| project.qapipe(&[&["plan", "--json"], args].concat()).code(0).json()["stages"].as_array().unwrap().len();
    assert_eq!(cached(&["first"]), 3);
    assert_eq!(cached(&["second[word=hi]"]), 2);
    assert_eq!(cached(&["pipeline.toml", "second", "--where", "word=hi,hu"]), 4);
    assert_eq!(project.qapipe(&["run", "--where", "wrod=hi"]).code(2).err, "error: no axis `wrod`\n  help: did you mean `word`?\n");
    assert_eq!(
        project.qapipe(&["run", "first[word=no]"]).code(2).err,
        "error: no stage `first[word=no]`\n  help: `word` is one of hi, ho, hu\n"
    );
    assert!(project.qapipe(&["run", "--where", "word"]).code(2).err.contains("`word` is not of the form AXIS=VALUE"));
}

#[test]
fn a_large_family_shares_rows_of_a_plan() {
    let project = words(&["a", "b", "c", "d", "e", "f"]);
    project.qapipe(&["run", "-q", "first", "--where", "word=a,b"]).code(0);
    assert_snapshot!(project.qapipe(&["plan"]).code(0).steady_out(), @r"
    Pipeline toy: 13 stages  (pipeline.toml)
     STATE   STAGE                  KEY       BECAUSE      TIME
     cached  first ×2 of 6 [word]   -
     run     first ×4 of 6 [word]   -         new stage
     run     second ×2 of 6 [word]  -         new stage
     maybe   second ×4 of 6 [word]  -         after first
     run     apart                  KKKKKKKK  new stage
    7 to run, 4 maybe, 2 cached
    ");
    let all = project.qapipe(&["plan", "-v"]).code(0).out;
    assert_eq!(all.lines().count(), 13 + 3, "{all}");
    project.qapipe(&["run", "-q"]).code(0);
    assert_snapshot!(project.qapipe(&["show"]).code(0).steady_out(), @r"
    Run …: pipeline toy, 13 stages
     STATE   STAGE                 KEY       BECAUSE    TIME
     cached  first ×2 of 6 [word]
     done    first ×4 of 6 [word]            new stage
     done    second ×6 [word]                new stage
     done    apart                 KKKKKKKK  new stage  …
    11 ran, 2 cached, 0 failed, 0 not run in …
    ");
}

#[test]
fn a_family_is_drawn_once() {
    let project = words(&["a", "b", "c"]);
    assert_snapshot!(project.qapipe(&["graph"]).code(0).out, @r"
    first ×3 [word]     command
      second ×3 [word]  command  inputs.x @first
    apart               command
    ");
    assert_eq!(project.qapipe(&["graph", "-v"]).code(0).out.lines().count(), 7);
    assert!(project.qapipe(&["graph", "--mermaid"]).code(0).out.contains("s0[\"first ×3 [word]<br/>"));
    assert!(project.qapipe(&["graph", "--dot"]).code(0).out.contains("\"first\" [label=\"first ×3 [word]\\ncommand\"]"));
    assert!(project.qapipe(&["graph", "--svg"]).code(0).out.contains(">second ×3 [word]</text>"));
    let json = project.qapipe(&["graph", "--json"]).code(0).json();
    assert_eq!(json["stages"][1]["cell"], serde_json::json!({ "word": "b" }));
}

#[test]
fn a_sweep_is_a_matrix_for_one_run() {
    let project = Project::toy();
    project.edit("{ y = \"out/second.txt\" }", "[\"y\"]");
    let sweep = project.qapipe(&["run", "-q", "--sweep", "vars.word=hi,ho", "second"]).code(0);
    assert_eq!(sweep.err, "");
    assert_eq!(project.ran(), ["again", "again", "hi", "ho"]);
    let set = project.qapipe(&["run", "--set", "vars.word=ho", "second"]).code(0);
    assert_eq!(set.err, "nothing to do: 2 stages cached\n", "the cell is the stage");
    assert_snapshot!(project.qapipe(&["plan", "--sweep", "stages.first.rnu=1,2"]).code(2).steady_err(), @r"
      × kind `command` has no parameter `rnu`
       ╭─[--sweep:1:1]
     1 │ stages.first.rnu=1,2
       · ────────────────
       ╰────
      help: did you mean `run`?
    ");
    assert!(project.qapipe(&["plan", "--sweep", "vars.word"]).code(2).err.contains("`vars.word` is not of the form PATH=VALUE,VALUE"));
}

#[test]
fn what_failed_is_run_alone() {
    let project = words(&["hi", "bad", "ho"]);
    project.write("step.sh", "[ \"$3\" != bad ] || [ -e mended ] || exit 1\necho \"$3\" > \"$2\"\necho \"$3\" >> ran.log\n");
    let failed = project.qapipe(&["run"]).code(1);
    assert!(failed.err.contains("5 ran, 0 cached, 1 failed, 1 not run"), "{}", failed.err);
    assert_eq!(project.ran(), ["again", "again", "apart", "hi", "ho"]);
    project.write("mended", "");
    assert_eq!(project.qapipe(&["run", "--failed", "--json"]).code(0).stages("finished"), ["first[word=bad]", "second[word=bad]"]);
    assert_eq!(project.qapipe(&["run", "--failed"]).code(0).err, "nothing to do: the last run left nothing undone\n");
}

#[test]
fn an_error_of_the_matrix_is_shown_where_it_stands() {
    let project = words(&["hi", "ho"]);
    project.edit("[matrix]\n", "[matrix]\nexclude = [{ word = \"hu\" }]\n");
    assert_snapshot!(project.qapipe(&["check"]).code(2).steady_err(), @r#"
      × the axis `word` has no value hu
       ╭─[pipeline.toml:4:21]
     3 │ [matrix]
     4 │ exclude = [{ word = "hu" }]
       ·                     ────
     5 │ word = ["hi", "ho"]
       ╰────
      help: its values: hi, ho
    "#);
}
