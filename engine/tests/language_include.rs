//! `include`: several pipeline files in one graph.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::toys::kinds;
use qapipe_engine::{Graph, LoadError, Pipeline, Source};
use serde_json::json;

/// A folder of pipeline files.
struct Files(tempfile::TempDir);

/// Fine-tunes a model of its own.
const BERT: &str = r#"name = "bert"
seed = 13

[vars]
squad = "data/squad"
epochs = 2
published = "@base"

[stages.squad]
kind = "dataset"
train = "${vars.squad}/train.json"

[stages.base]
kind = "checkpoint"
source = "hub:google/bert"

[stages.features]
kind = "tokenize"
dataset = "@squad"
model = "${vars.published}"

[stages.tuned]
kind = "train"
model = "${vars.published}"
data = "@features"
train = { epochs = "${vars.epochs}" }
"#;

/// The same with another model, and its own idea of a hint.
fn t5() -> String {
    BERT.replace("\"bert\"", "\"t5\"").replace("google/bert", "google/t5").replace("seed = 13\n", "")
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| folder.write(name, text));
        folder
    }

    /// `bert.toml`, `t5.toml`, and the text as `study.toml`.
    fn study(text: &str) -> Self {
        Self::new(&[("bert.toml", BERT), ("t5.toml", &t5()), ("study.toml", text)])
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn load(&self, file: &str, set: &[&str]) -> Result<Pipeline, String> {
        let set: Vec<_> = set.iter().map(|text| text.parse().unwrap()).collect();
        Pipeline::load(&self.0.path().join(file), &kinds(), &set).map_err(|error| {
            assert!(matches!(error, LoadError::Invalid(_)), "{error}");
            error.to_string().replace(&format!("{}/", self.0.path().display()), "")
        })
    }

    fn good(&self, set: &[&str]) -> Pipeline {
        self.load("study.toml", set).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn errors(&self, set: &[&str]) -> String {
        self.load("study.toml", set).expect_err("no error")
    }
}

/// The errors of a study beside `bert.toml` and `t5.toml`.
fn told(study: &str) -> String {
    Files::study(study).errors(&[])
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.stages.iter().map(|stage| stage.name.as_str()).collect()
}

/// The name of the stage that a parameter reads from.
fn reads<'p>(pipeline: &'p Pipeline, stage: &str, param: &str) -> &'p str {
    let input = pipeline.stage(stage).unwrap().inputs.iter().find(|input| input.param == param).unwrap();
    match &input.source {
        Source::Stage { index, .. } => &pipeline.stages[*index].name,
        Source::Path(path) => path.to_str().unwrap(),
    }
}

fn value(pipeline: &Pipeline, stage: &str, path: &str) -> serde_json::Value {
    pipeline.stage(stage).unwrap().values.get(path).unwrap().clone()
}

#[test]
fn stages_of_included_files_join_the_graph_under_their_pipelines_name() {
    let pipeline = Files::study("include = [\"bert.toml\"]\nname = \"study\"\n").good(&[]);
    assert_eq!((pipeline.name.as_str(), pipeline.stages.len()), ("study", 4));
    assert_eq!(names(&pipeline), ["bert-squad", "bert-base", "bert-features", "bert-tuned"]);
    assert_eq!(reads(&pipeline, "bert-tuned", "model"), "bert-base");
    assert_eq!(reads(&pipeline, "bert-features", "dataset"), "bert-squad");
    assert!(pipeline.aliases.is_empty());
}

#[test]
fn a_pipeline_is_called_as_the_include_says_or_else_as_it_says_or_else_as_its_file() {
    let files = Files::study("include = [{ file = \"bert.toml\", name = \"b\" }, \"nameless.toml\"]\n");
    files.write("nameless.toml", &t5().replace("name = \"t5\"\n", "").replace("data/squad", "other"));
    let pipeline = files.good(&[]);
    assert!(pipeline.stage("b-tuned").is_some() && pipeline.stage("nameless-tuned").is_some(), "{:?}", names(&pipeline));
}

#[test]
fn stages_of_the_including_file_refer_to_included_ones() {
    let own = "[stages.again]\nkind = \"train\"\nmodel = \"@bert-tuned\"\ndata = \"@bert-features\"\n";
    let pipeline = Files::study(&format!("include = [\"bert.toml\"]\n{own}")).good(&[]);
    assert_eq!(reads(&pipeline, "again", "model"), "bert-tuned");
    assert_eq!(*names(&pipeline).last().unwrap(), "again");
    assert_eq!(
        told(&format!("include = [\"bert.toml\"]\n{}", own.replace("bert-tuned", "bert-tnued"))),
        "study.toml:4:9: unknown stage `@bert-tnued` (did you mean `bert-tuned`?)"
    );
}

#[test]
fn an_included_file_cannot_refer_to_stages_of_the_including_one() {
    let files = Files::study("include = [\"bert.toml\"]\n[stages.mine]\nkind = \"checkpoint\"\nsource = \"hub:a/b\"\n");
    files.write("bert.toml", &BERT.replace("\"@base\"", "\"@mine\""));
    assert!(files.errors(&[]).starts_with("bert.toml:20:9: unknown stage `@mine`"), "{}", files.errors(&[]));
}

#[test]
fn shared_stages_are_one() {
    let pipeline = Files::study("include = [\"bert.toml\", \"t5.toml\"]\nseed = 13\n").good(&[]);
    assert_eq!(names(&pipeline), ["squad", "bert-base", "bert-features", "bert-tuned", "t5-base", "t5-features", "t5-tuned"]);
    assert_eq!(reads(&pipeline, "t5-features", "dataset"), "squad");
    for name in ["squad", "bert-squad", "t5-squad"] {
        assert_eq!(pipeline.index(name), Some(0), "{name}");
        assert_eq!(Graph::of(&pipeline).subset(&[name.to_owned()]).unwrap(), [0]);
    }
    assert!(pipeline.index("base").is_none(), "only what is shared has a short name");
}

#[test]
fn whole_chains_are_shared_under_what_all_call_them() {
    let pipeline = Files::study("include = [\"bert.toml\", { file = \"bert.toml\", name = \"b\", vars = { epochs = 3 } }]\n").good(&[]);
    assert_eq!(names(&pipeline), ["squad", "base", "features", "bert-tuned", "b-tuned"]);
    assert_eq!(reads(&pipeline, "b-tuned", "data"), "features");
    assert_eq!((value(&pipeline, "bert-tuned", "train.epochs"), value(&pipeline, "b-tuned", "train.epochs")), (json!(2), json!(3)));
}

#[test]
fn a_name_that_is_taken_or_not_common_to_all_is_not_used() {
    let both = "include = [\"bert.toml\", \"t5.toml\"]\n";
    let pipeline = Files::study(&format!("{both}[stages.squad]\nkind = \"dataset\"\ntrain = \"mine\"\n")).good(&[]);
    assert_eq!((names(&pipeline)[0], pipeline.index("t5-squad"), pipeline.index("squad")), ("bert-squad", Some(0), Some(7)));
    let files = Files::study(both);
    files.write("t5.toml", &t5().replace("stages.squad", "stages.data").replace("@squad", "@data"));
    let pipeline = files.good(&[]);
    assert_eq!((names(&pipeline)[0], pipeline.index("t5-data"), pipeline.index("squad")), ("bert-squad", Some(0), None));
}

#[test]
fn a_stage_of_the_including_file_is_shared_too() {
    let own = "[stages.squad]\nkind = \"dataset\"\ntrain = \"data/squad/train.json\"\n[stages.more]\nkind = \"tokenize\"\nmodel = \"hub\"\ndataset = \"@squad\"\n";
    let pipeline = Files::study(&format!("include = [\"bert.toml\"]\n{own}")).good(&[]);
    assert_eq!(names(&pipeline), ["squad", "bert-base", "bert-features", "bert-tuned", "more"]);
    assert_eq!(reads(&pipeline, "more", "dataset"), "squad");
}

#[test]
fn references_may_use_the_short_name() {
    let own = "[stages.more]\nkind = \"tokenize\"\nmodel = \"@t5-base\"\ndataset = \"@squad\"\nmax_length = 9\n";
    let files = Files::study(&format!("include = [\"bert.toml\", \"t5.toml\"]\n{own}"));
    assert_eq!(reads(&files.good(&[]), "more", "dataset"), "squad");
    let told = files.errors(&["stages.t5-squad.train=x"]);
    assert!(told.starts_with("study.toml:5:11: unknown stage `@squad`"), "{told}");
}

#[test]
fn stages_that_differ_stay_apart() {
    let both = "include = [{ file = \"a.toml\", name = \"a\" }, { file = \"b.toml\", name = \"b\" }]\n";
    let apart = |a: &str, b: &str| {
        let files = Files::new(&[("study.toml", both), ("a.toml", a), ("b.toml", b)]);
        files.good(&[]).stages.len()
    };
    let train = |more: &str| format!("{BERT}{more}");
    assert_eq!(apart(&train(""), &train("")), 4);
    assert_eq!(apart(&train("hints = { batch = 8 }"), &train("hints = { batch = 9 }")), 4, "hints do not count");
    assert_eq!(apart(&format!("numerics = \"strict\"\n{}", train("hints = { batch = 8 }")), &train("hints = { batch = 9 }")), 5);
    assert_eq!(apart(&train("seed = 1"), &train("seed = 2")), 5);
    assert_eq!(apart(&train(""), &train("").replace("data/squad", "other")), 7, "what is made from what differs differs");
    let command = |outputs: &str| format!("[stages.c]\nkind = \"command\"\nrun = [\"x\"]\noutputs = {outputs}\n");
    assert_eq!(apart(&command("{ y = \"out/a\" }"), &command("{ y = \"out/a\" }")), 1);
    assert_eq!(apart(&command("{ y = \"out/a\" }"), &command("{ y = \"out/b\" }")), 2);
}

#[test]
fn the_first_hint_wins() {
    let files = Files::study("include = [\"a.toml\", \"b.toml\"]\n");
    files.write("a.toml", &format!("{BERT}hints = {{ batch = 8 }}\n"));
    files.write("b.toml", &format!("{BERT}hints = {{ batch = 9 }}\n").replace("\"bert\"", "\"b\""));
    assert_eq!(value(&files.good(&[]), "tuned", "hints.batch"), json!(8));
}

#[test]
fn stages_of_one_file_stay_what_they_are() {
    let twins = "[stages.a]\nkind = \"dataset\"\n[stages.b]\nkind = \"dataset\"\n";
    assert_eq!(Files::new(&[("study.toml", twins)]).good(&[]).stages.len(), 2);
}

#[test]
fn variables_of_the_including_file_win_and_those_of_the_include_over_them() {
    let files = Files::study(
        "include = [\"bert.toml\", { file = \"t5.toml\", vars = { epochs = \"${vars.few}\" } }]\n[vars]\nepochs = 5\nfew = 1\nsquad = \"sample\"\n",
    );
    let epochs = |set: &[&str]| {
        let pipeline = files.good(set);
        [value(&pipeline, "bert-tuned", "train.epochs"), value(&pipeline, "t5-tuned", "train.epochs")]
    };
    assert_eq!(epochs(&[]), [json!(5), json!(1)]);
    assert_eq!(epochs(&["vars.epochs=7"]), [json!(7), json!(7)], "what is set from outside beats all");
    assert_eq!(epochs(&["vars.few=2"]), [json!(5), json!(2)]);
    assert_eq!(reads(&files.good(&[]), "bert-squad", "train"), "sample/train.json");
    assert_eq!(files.good(&[]).vars["few"], json!(1));
}

#[test]
fn a_value_is_worked_out_where_it_is_written() {
    let files = Files::study("include = [\"bert.toml\"]\n[vars]\nroot = \"r\"\nsquad = \"${vars.root}/$${x}\"\n");
    assert_eq!(reads(&files.good(&[]), "bert-squad", "train"), "r/${x}/train.json");
    assert_eq!(reads(&files.good(&["vars.root=q"]), "bert-squad", "train"), "q/${x}/train.json");
}

#[test]
fn a_variable_that_only_included_files_have_can_be_set() {
    let files = Files::study("include = [\"bert.toml\", \"t5.toml\"]\n");
    let pipeline = files.good(&["vars.squad=/data", "vars.epochs=9"]);
    assert_eq!((reads(&pipeline, "squad", "train"), value(&pipeline, "t5-tuned", "train.epochs")), ("/data/train.json", json!(9)));
    assert_eq!(files.errors(&["vars.sqad=x"]), "--set vars.sqad=x: no variable `sqad` (did you mean `squad`?)");
    assert_eq!(files.errors(&["vars.epochs=x"]), "--set vars.epochs=x: variable `epochs` is a number in `bert.toml`: this is text");
}

#[test]
fn variables_that_do_not_fit() {
    let include = |vars: &str| format!("include = [{{ file = \"bert.toml\", vars = {{ {vars} }} }}]\n");
    assert_eq!(told(&include("epocs = 1")), "study.toml:1:43: `bert.toml` has no variable `epocs` (did you mean `epochs`?)");
    assert_eq!(told(&include("epochs = \"x\"")), "study.toml:1:52: variable `epochs` is a number in `bert.toml`: this is text");
    assert_eq!(told(&include("squad = 3")), "study.toml:1:51: variable `squad` is text in `bert.toml`: this is a whole number");
    assert_eq!(
        told("include = [\"bert.toml\"]\n[vars]\nepochs = \"many\"\n"),
        "study.toml:3:10: variable `epochs` is a number in `bert.toml`: this is text"
    );
    assert_eq!(told(&include("epochs = \"${vars.x}\"")), "study.toml:1:52: unknown variable `x`");
}

#[test]
fn parameters_of_included_stages_can_be_set_and_that_parts_what_was_shared() {
    let files = Files::study("include = [\"bert.toml\", \"t5.toml\"]\nseed = 13\n");
    assert_eq!(value(&files.good(&["stages.bert-tuned.train.lr=0.5"]), "bert-tuned", "train.lr"), json!(0.5));
    let parted = files.good(&["stages.t5-squad.dev=sample"]);
    assert_eq!((parted.stages.len(), parted.index("squad")), (8, None));
    let both = files.good(&["stages.squad.dev=sample"]);
    assert_eq!((both.stages.len(), value(&both, "squad", "dev")), (7, json!("sample")));
    let told = |set: &str| files.errors(&[set]);
    assert_eq!(told("stages.sqad.dev=x"), "--set stages.sqad.dev=x: no stage `sqad` (did you mean `squad`?)");
    assert_eq!(told("stages.t5-tnued.rank=x"), "--set stages.t5-tnued.rank=x: no stage `t5-tnued` (did you mean `t5-tuned`?)");
    assert_eq!(told("stages.squad.dve=x"), "--set stages.squad.dve=x: kind `dataset` has no parameter `dve` (did you mean `dev`?)");
    assert_eq!(told("stages.t5-tuned.rank=x"), "--set stages.t5-tuned.rank=x: `rank` wants a whole number, 1 to 1024: this is text");
}

#[test]
fn seeds_and_numerics_go_down() {
    let files = Files::study("include = [\"bert.toml\", \"t5.toml\"]\nseed = 3\n");
    let seeds = |set: &[&str]| {
        let pipeline = files.good(set);
        [pipeline.stage("bert-tuned").unwrap().seed, pipeline.stage("t5-tuned").unwrap().seed]
    };
    assert_eq!(seeds(&[]), [13, 3]);
    assert_eq!(seeds(&["seed=7"]), [7, 7]);
    assert!(!files.good(&[]).strict);
    assert!(files.good(&["numerics=strict"]).strict);
    files.write("bert.toml", &format!("numerics = \"strict\"\n{BERT}"));
    assert!(files.good(&[]).strict);
}

#[test]
fn paths_start_from_the_folder_of_the_file_that_they_are_written_in() {
    let files = Files::new(&[
        ("study.toml", "include = [\"sub/one.toml\", { file = \"sub/two.toml\", vars = { root = \"mine\" } }]\n[vars]\nname = \"x\"\n"),
        (
            "sub/one.toml",
            "[vars]\nroot = \"data\"\nname = \"a\"\n[stages.d]\nkind = \"dataset\"\ntrain = \"${vars.root}/t\"\ndev = \"in/${vars.name}\"\nfiles = [\"/abs\"]\n[stages.c]\nkind = \"command\"\nrun = [\"x\"]\noutputs = { y = \"out/y\" }\n",
        ),
        ("sub/two.toml", "[vars]\nroot = \"data\"\n[stages.d]\nkind = \"dataset\"\ntrain = \"${vars.root}/t\"\ndev = \"../beside\"\n"),
    ]);
    let paths = |set: &[&str], stage: &str| -> Vec<String> {
        let pipeline = files.good(set);
        let inputs = &pipeline.stage(stage).unwrap().inputs;
        inputs.iter().map(|input| if let Source::Path(path) = &input.source { path.display().to_string() } else { String::new() }).collect()
    };
    assert_eq!(paths(&[], "one-d"), ["sub/data/t", "sub/in/x", "/abs"]);
    assert_eq!(paths(&[], "two-d"), ["mine/t", "sub/../beside"]);
    assert_eq!(paths(&["vars.root=set"], "one-d")[0], "set/t");
    assert_eq!(paths(&["stages.one-d.train=set"], "one-d")[0], "set");
    let pipeline = files.good(&[]);
    let command = pipeline.stage("one-c").unwrap();
    assert_eq!(command.outputs[0].place.as_deref(), Some(Path::new("sub/out/y")));
    assert_eq!((command.folder.as_path(), pipeline.folder.as_path()), (files.0.path().join("sub").as_path(), files.0.path()));
    let told = pipeline.check_files().unwrap_err().to_string().replace(&format!("{}/", files.0.path().display()), "");
    assert!(told.starts_with("sub/one.toml:6:9: `sub/data/t` does not exist\n"), "{told}");
}

#[test]
fn includes_nest() {
    let files = Files::new(&[
        ("study.toml", "include = [\"inner/pair.toml\", { file = \"inner/bert.toml\", name = \"b\" }]\n[vars]\nepochs = 4\n"),
        (
            "inner/pair.toml",
            "include = [\"bert.toml\", \"t5.toml\"]\n[stages.more]\nkind = \"tokenize\"\nmodel = \"@t5-base\"\ndataset = \"@squad\"\nmax_length = 9\n",
        ),
        ("inner/bert.toml", BERT),
        ("inner/t5.toml", &t5()),
    ]);
    let pipeline = files.good(&[]);
    assert_eq!(names(&pipeline), ["squad", "base", "features", "tuned", "pair-t5-base", "pair-t5-features", "pair-t5-tuned", "pair-more"]);
    for name in ["squad", "pair-squad", "pair-bert-squad", "pair-t5-squad", "b-squad"] {
        assert_eq!(pipeline.index(name), Some(0), "{name}");
    }
    assert_eq!(value(&pipeline, "pair-t5-tuned", "train.epochs"), json!(4));
    let set = files.good(&["stages.pair-squad.dev=sample"]);
    assert_eq!((set.index("pair-squad"), set.index("b-squad")), (Some(0), Some(8)));
}

#[test]
fn circles_are_shown() {
    let files = Files::new(&[
        ("study.toml", "include = [\"a.toml\"]\n"),
        ("a.toml", "include = [\"sub/b.toml\"]\n"),
        ("sub/b.toml", "include = [\"../a.toml\"]\n"),
    ]);
    assert_eq!(files.errors(&[]), "sub/b.toml:1:12: pipelines include one another in a circle: a.toml -> sub/b.toml -> a.toml");
    assert_eq!(told("include = [\"./study.toml\"]\n"), "study.toml:1:12: `./study.toml` includes itself: study.toml -> study.toml");
}

#[test]
fn one_name_is_for_one_pipeline() {
    assert_eq!(
        told("include = [\"bert.toml\", \"./bert.toml\"]\n"),
        "study.toml:1:25: two included pipelines are called `bert` (give one of them another: `{ file = …, name = … }`)"
    );
    let own = "[stages.bert-tuned]\nkind = \"dataset\"\n";
    assert_eq!(
        told(&format!("include = [\"bert.toml\"]\n{own}")),
        "study.toml:1:12: two stages are called `bert-tuned` (give the included pipeline another name: `{ file = …, name = … }`)"
    );
    let long = told(&format!("include = [{{ file = \"bert.toml\", name = \"{}\" }}]\n", "n".repeat(75)));
    assert!(long.starts_with("study.toml:1:21: `nnn") && long.contains("names have at most 80 letters"), "{long}");
    assert_eq!(long.lines().count(), 1);
}

#[test]
fn what_an_include_may_say() {
    let form = "(write `\"FILE\"`, or `{ file = \"FILE\", name = \"NAME\", vars = { … } }`)";
    assert_eq!(
        told(
            "include = [3, { name = \"x\" }, { file = \"bert.toml\", naem = \"x\" }, \"\", { file = \"t5.toml\", name = \"a b\", vars = 3 }]\n"
        ),
        format!(
            "study.toml:1:12: `include` wants the path of a pipeline file, or a table: this is a whole number {form}\n\
             study.toml:1:15: this names no `file` {form}\n\
             study.toml:1:53: `include` takes no `naem` (did you mean `name`?)\n\
             study.toml:1:67: `include` wants the path of a pipeline file: this is empty\n\
             study.toml:1:98: `a b` cannot be the name of a pipeline: names are made of letters a to z, digits, `_` and `-`, and do not begin with `-`\n\
             study.toml:1:112: `vars` wants a table: this is a whole number"
        )
    );
}

#[test]
fn nothing_more_is_said_where_an_include_is_wrong() {
    let own = "[stages.x]\nkind = \"train\"\nmodel = \"@bert-tuned\"\ndata = \"@bert-features\"\n";
    assert_eq!(told(&format!("include = [\"bret.toml\"]\n{own}")), "study.toml:1:12: `bret.toml` does not exist");
    assert_eq!(
        told(&format!("include = \"bert.toml\"\n{own}")),
        "study.toml:1:11: `include` wants a list of pipeline files: this is text (write `include = [\"FILE\"]`)"
    );
}

#[test]
fn editors_know_it() {
    let schema = qapipe_engine::schema(&kinds());
    let items = &schema["properties"]["include"]["items"]["anyOf"];
    assert_eq!((&items[0]["type"], &items[1]["required"]), (&json!("string"), &json!(["file"])));
}

#[test]
fn files_that_cannot_be_had_are_told_once_where_they_are_asked_for() {
    let files = Files::study("include = [\"bret.toml\", \"sub\", \"large.toml\", \"bytes.toml\", \"broken.toml\", \"empty.toml\"]\n");
    files.write("sub/x", "");
    files.write("large.toml", &" ".repeat((16 << 20) + 1));
    std::fs::write(files.0.path().join("bytes.toml"), b"name = \"a\"\nseed = \xff\n").unwrap();
    files.write("broken.toml", "[stages.a\n");
    let told = files.errors(&[]);
    assert_eq!(
        told,
        "study.toml:1:12: `bret.toml` does not exist\n\
         study.toml:1:25: `sub` cannot be read: it is a folder\n\
         study.toml:1:32: `large.toml` is too large: a pipeline has at most 16 MiB\n\
         study.toml:1:75: `empty.toml` does not exist\n\
         bytes.toml:2:8: the file is not UTF-8 text from here on\n\
         broken.toml:1:10: unclosed table, expected `]`"
    );
}

#[test]
fn errors_of_an_included_file_are_told_there_and_once() {
    let files = Files::study("include = [\"bert.toml\", { file = \"bert.toml\", name = \"b\" }, \"empty.toml\"]\n");
    files.write("bert.toml", &BERT.replace("@features", "@featrues").replace("train =", "trian ="));
    files.write("empty.toml", "name = \"e\"\n");
    assert_eq!(
        files.errors(&[]),
        "bert.toml:11:1: kind `dataset` has no parameter `trian` (did you mean `train`?)\n\
         bert.toml:25:8: unknown stage `@featrues` (did you mean `features`?)\n\
         bert.toml:26:1: kind `train` has no parameter `trian` (did you mean `train`?)"
    );
    files.write("bert.toml", BERT);
    assert_eq!(files.errors(&[]), "empty.toml:2:1: the pipeline has no stages (write `[stages.NAME]` and its `kind`)");
}

#[test]
fn places_belong_to_one_stage_across_files() {
    let write = |name: &str, run: &str, place: &str| {
        format!("[stages.{name}]\nkind = \"command\"\nrun = [\"{run}\"]\noutputs = {{ y = \"{place}\" }}\n")
    };
    let read = |path: &str| format!("[stages.d]\nkind = \"dataset\"\ntrain = \"{path}\"\n");
    let errors = |study: String, one: String, two: String| {
        let study = format!("include = [\"sub/one.toml\", \"sub/two.toml\"]\n{study}");
        Files::new(&[("study.toml", &study), ("sub/one.toml", &one), ("sub/two.toml", &two)]).errors(&[])
    };
    assert_eq!(
        errors(String::new(), write("a", "x", "out/y"), write("b", "z", "out/y")),
        "sub/two.toml:4:17: `out/y` is written by stage `one-a` already"
    );
    assert_eq!(
        errors(write("c", "q", "sub/out"), write("a", "x", "out/y"), write("b", "z", "out/z")),
        "study.toml:5:17: `sub/out` is written by stage `one-a` already: it holds `sub/out/y`"
    );
    assert_eq!(
        errors(read("sub/out/y"), write("a", "x", "out/y"), read("out/y/z")),
        "study.toml:4:9: `sub/out/y` is written by stage `one-a` (write `@one-a`)\n\
         sub/two.toml:3:9: `sub/out/y/z` is written by stage `one-a`"
    );
    assert_eq!(errors(String::new(), write("a", "x", "two.toml"), read("x")), "sub/one.toml:4:17: `two.toml` is a pipeline file");
}

#[test]
fn too_much_is_refused_soon() {
    let chain = |n: usize| (format!("c{n}.toml"), format!("include = [\"c{}.toml\"]\n", n + 1));
    let deep: Vec<(String, String)> =
        (0..12).map(chain).chain([("study.toml".to_owned(), "include = [\"c0.toml\"]\n".to_owned())]).collect();
    let files: Vec<(&str, &str)> = deep.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(Files::new(&files).errors(&[]), "c7.toml:1:12: more than 8 pipelines include one another in a row");
    let twice = |n: usize| {
        let next = format!("c{}.toml", n + 1);
        let asked = |k: usize| format!("{{ file = \"{next}\", name = \"n{k}\" }}");
        (format!("c{n}.toml"), format!("include = [{}]\n", (0..9).map(asked).collect::<Vec<_>>().join(", ")))
    };
    let mut wide: Vec<(String, String)> = (0..7).map(twice).collect();
    wide.push(("c7.toml".to_owned(), "[stages.d]\nkind = \"dataset\"\n".to_owned()));
    wide.push(("study.toml".to_owned(), "include = [\"c0.toml\"]\n".to_owned()));
    let files: Vec<(&str, &str)> = wide.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let told = Files::new(&files).errors(&[]);
    assert!(told.ends_with("too much is included: at most 256 files, with 32 MiB in all") && told.lines().count() == 1, "{told}");
}

#[test]
fn what_is_meant_where_no_stage_is_named() {
    let targeted = |targets: &str| BERT.replace("seed = 13\n", &format!("targets = {targets}\n"));
    let alone = |targets: &str| Files::new(&[("study.toml", &targeted(targets))]).load("study.toml", &[]);
    assert_eq!(alone("[\"features\", \"base\"]").unwrap().targets, ["features", "base"]);
    assert!(Files::new(&[("study.toml", BERT)]).load("study.toml", &[]).unwrap().targets.is_empty());
    assert!(alone("[\"tunned\"]").unwrap_err().contains("there is no stage `tunned`"));
    assert!(alone("[]").unwrap_err().contains("this list is empty"));
    assert!(alone("\"tuned\"").unwrap_err().contains("wants a list of names of stages"));

    let study = |head: &str| {
        let text = format!("{head}include = [\"bert.toml\", \"t5.toml\"]\n");
        Files::new(&[("bert.toml", &targeted("[\"features\"]")), ("t5.toml", &t5()), ("study.toml", &text)]).good(&[])
    };
    let both = study("");
    assert!(both.targets.contains(&"bert-features".to_owned()) && !both.targets.contains(&"bert-tuned".to_owned()), "{:?}", both.targets);
    assert!(both.targets.contains(&"t5-tuned".to_owned()), "a file that says nothing means all of its stages");
    assert_eq!(study("targets = [\"t5-tuned\"]\n").targets, ["t5-tuned"]);
}

/// [`BERT`] for several numbers of epochs.
fn family(name: &str, epochs: &str) -> String {
    let text = BERT.replace("\"bert\"", &format!("\"{name}\"")).replace("epochs = 2\n", "");
    text.replace("${vars.epochs}", "${matrix.epochs}") + &format!("[matrix]\nepochs = {epochs}\n")
}

#[test]
fn axes_belong_to_their_file() {
    let files = Files::new(&[
        ("a.toml", &family("a", "[1, 2]")),
        ("b.toml", &BERT.replace("\"bert\"", "\"b\"").replace("epochs = 2", "epochs = 5")),
    ]);
    files.write("study.toml", "include = [\"a.toml\", \"b.toml\"]\ntargets = [\"a-tuned\"]\n");
    let pipeline = files.good(&[]);
    assert_eq!(names(&pipeline), ["squad", "base", "features", "a-tuned[epochs=1]", "a-tuned[epochs=2]", "b-tuned"]);
    assert_eq!(pipeline.targets, ["a-tuned[epochs=1]", "a-tuned[epochs=2]"]);
    assert_eq!(files.good(&["matrix.epochs=[3]"]).stages[3].name, "a-tuned[epochs=3]");
    assert_eq!(value(&files.good(&["stages.a-tuned.rank=4"]), "a-tuned[epochs=2]", "rank"), json!(4));
}

#[test]
fn cells_of_several_files_are_shared_and_stages_meet_in_common_values() {
    let files = Files::new(&[("a.toml", &family("a", "[1, 2]")), ("b.toml", &family("b", "[2, 3]").replace("google/bert", "google/t5"))]);
    let both = "[stages.both]\nkind = \"command\"\nrun = [\"x\"]\ninputs = { a = \"@a-tuned\", b = \"@b-tuned\" }\noutputs = [\"y\"]\n";
    files.write("study.toml", &format!("include = [\"a.toml\", \"b.toml\"]\n{both}"));
    let pipeline = files.good(&[]);
    assert_eq!(names(&pipeline).last(), Some(&"both[epochs=2]"));
    assert_eq!(reads(&pipeline, "both[epochs=2]", "inputs.b"), "b-tuned[epochs=2]");
    files.write("study.toml", &format!("include = [\"a.toml\", \"b.toml\"]\n{}", both.replace("@b-tuned", "@b-tuned[epochs=3]")));
    let pipeline = files.good(&[]);
    assert_eq!(reads(&pipeline, "both[epochs=1]", "inputs.b"), "b-tuned[epochs=3]");
    files.write("b.toml", &family("b", "[3]"));
    files.write("study.toml", &format!("include = [\"a.toml\", \"b.toml\"]\n{both}"));
    assert_eq!(
        files.errors(&[]),
        "study.toml:2:9: no cell of this stage is left (stages of several files meet where their axes of one name have a value in common)"
    );
    files.write("b.toml", &family("b", "[2, 3]"));
    let pipeline = files.good(&[]);
    let tuned: Vec<&str> = names(&pipeline).into_iter().filter(|name| name.contains("tuned")).collect();
    assert_eq!(tuned, ["a-tuned[epochs=1]", "tuned[epochs=2]", "b-tuned[epochs=3]"], "what is the same is one");
}

#[test]
fn a_stage_has_the_axes_of_its_file_and_of_those_that_it_includes() {
    let files = Files::new(&[("a.toml", &family("a", "[1, 2]"))]);
    let stage = "[matrix]\nrank = [4, 8]\nepochs = [2, 3]\n[stages.more]\nkind = \"train\"\nmodel = \"@a-tuned\"\ndata = \"@a-features\"\nrank = \"${matrix.rank}\"\ntrain = { epochs = \"${matrix.epochs}\" }\n";
    files.write("study.toml", &format!("include = [\"a.toml\"]\n{stage}"));
    let more = |pipeline: &Pipeline| {
        names(pipeline).into_iter().filter_map(|name| name.strip_prefix("more").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(more(&files.good(&[])), ["[rank=4,epochs=2]", "[rank=8,epochs=2]"]);
    files.write(
        "study.toml",
        &format!(
            "include = [\"a.toml\"]\n{}",
            stage.replace("epochs = [2, 3]\n", "").replace("train = { epochs = \"${matrix.epochs}\" }\n", "")
        ),
    );
    let pipeline = files.good(&[]);
    assert_eq!(more(&pipeline), ["[rank=4,epochs=1]", "[rank=4,epochs=2]", "[rank=8,epochs=1]", "[rank=8,epochs=2]"]);
    assert_eq!(reads(&pipeline, "more[rank=8,epochs=1]", "model"), "a-tuned[epochs=1]");
}

#[test]
fn what_differs_from_cell_to_cell_is_not_given_to_included_files() {
    let files = Files::new(&[("bert.toml", BERT)]);
    let study = "[vars]\nepochs = \"${matrix.epochs}\"\n[matrix]\nepochs = [1, 2]\n[stages.x]\nkind = \"command\"\nrun = [\"${vars.epochs}\"]\noutputs = [\"y\"]\n";
    files.write("study.toml", &format!("include = [\"bert.toml\"]\n{study}"));
    assert_eq!(
        files.errors(&[]),
        "study.toml:1:12: variable `epochs` is another in every cell, and the stages of `bert.toml` have none (write the matrix in the included file)"
    );
    files.write(
        "study.toml",
        &format!(
            "include = [{{ file = \"bert.toml\", vars = {{ squad = \"${{matrix.epochs}}\" }} }}]\n{}",
            study.replace("epochs = \"", "e = \"").replace("vars.epochs", "vars.e")
        ),
    );
    assert!(files.errors(&[]).starts_with("study.toml:1:51: variable `squad` is another in every cell"), "{}", files.errors(&[]));
}

#[test]
fn a_sweep_goes_through_all_files() {
    let files = Files::study("include = [\"bert.toml\", \"t5.toml\"]\n[vars]\nepochs = 3\n");
    let sweep = |text: &str| {
        let sweeps = [qapipe_engine::Override::sweep(text).unwrap()];
        let pipeline = Pipeline::load(&files.0.path().join("study.toml"), &kinds(), &sweeps).unwrap();
        names(&pipeline).into_iter().filter(|name| name.contains('[')).map(str::to_owned).collect::<Vec<_>>()
    };
    let cells = ["bert-tuned[epochs=1]", "bert-tuned[epochs=2]", "t5-tuned[epochs=1]", "t5-tuned[epochs=2]"];
    assert_eq!(sweep("vars.epochs=1,2"), cells);
    assert_eq!(sweep("stages.t5-tuned.rank=2,4"), ["t5-tuned[rank=2]", "t5-tuned[rank=4]"]);
    assert_eq!(sweep("seed=5,6").len(), 4);
}
