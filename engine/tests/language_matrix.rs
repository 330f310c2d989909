//! `[matrix]`: which stages a file with axes makes, what they refer to, and what is told where that cannot be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::toys::{errors, good, kinds};
use qapipe_engine::{Graph, Override, Pipeline, Source};
use serde_json::json;

/// Data, a model, features: what all cells share.
const SHARED: &str = r#"
[stages.d]
kind = "dataset"
[stages.m]
kind = "checkpoint"
source = "w"
[stages.f]
kind = "tokenize"
dataset = "@d"
model = "@m"
"#;

/// Adapters of several ranks and what is made of each.
fn lora(matrix: &str, more: &str) -> String {
    format!(
        "[matrix]\n{matrix}\n{SHARED}\n[stages.lora]\nkind = \"train\"\nmodel = \"@m\"\ndata = \"@f\"\nrank = \"${{matrix.rank}}\"\n{more}\n\
         [stages.scores]\nkind = \"command\"\nrun = [\"x\"]\ninputs = {{ model = \"@lora\", features = \"@f\" }}\noutputs = [\"y\"]\n"
    )
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.stages.iter().map(|stage| stage.name.as_str()).collect()
}

/// The stages that a stage refers to.
fn before<'p>(pipeline: &'p Pipeline, stage: &str) -> Vec<&'p str> {
    let stage = pipeline.stage(stage).unwrap_or_else(|| panic!("no {stage} in {:?}", names(pipeline)));
    let index = |source: &Source| if let Source::Stage { index, .. } = source { Some(*index) } else { None };
    stage.inputs.iter().filter_map(|input| index(&input.source)).map(|index| pipeline.stages[index].name.as_str()).collect()
}

#[test]
fn a_stage_is_there_once_for_each_cell_that_it_depends_on() {
    let pipeline = good(&lora("rank = [4, 8, 16]", ""), &[]);
    let cells = ["lora[rank=4]", "lora[rank=8]", "lora[rank=16]", "scores[rank=4]", "scores[rank=8]", "scores[rank=16]"];
    assert_eq!(names(&pipeline), [&["d", "m", "f"], &cells[..]].concat());
    assert_eq!(pipeline.stage("lora[rank=16]").unwrap().explicit.get("rank"), Some(&json!(16)), "a number stays one");
    assert_eq!(before(&pipeline, "scores[rank=8]"), ["lora[rank=8]", "f"]);
    assert_eq!(before(&pipeline, "lora[rank=4]"), ["m", "f"]);
    let values: Vec<_> = pipeline.stages[4].cell.values().collect();
    assert_eq!(values, [("rank", json!(8))]);
    assert!(pipeline.stage("d").unwrap().cell.is_empty());
}

#[test]
fn seeds_are_an_axis() {
    let pipeline = good(&lora("seed = [1, 2]\nrank = [4, 8]", "seed = \"${matrix.seed}\""), &[]);
    let lora = ["lora[seed=1,rank=4]", "lora[seed=1,rank=8]", "lora[seed=2,rank=4]", "lora[seed=2,rank=8]"];
    assert_eq!(names(&pipeline)[3..7], lora, "axes in the order of the file");
    assert_eq!(pipeline.stage(lora[2]).unwrap().seed, 2);
}

#[test]
fn what_depends_on_fewer_axes_is_shared() {
    let text = "[matrix]\nlength = [64, 128]\nrank = [4, 8]\n[stages.d]\nkind = \"dataset\"\n[stages.m]\nkind = \"checkpoint\"\nsource = \"w\"\n\
                [stages.x]\nkind = \"train\"\nmodel = \"@m\"\ndata = \"@f\"\nrank = \"${matrix.rank}\"\n\
                [stages.f]\nkind = \"tokenize\"\ndataset = \"@d\"\nmodel = \"@m\"\nmax_length = \"${matrix.length}\"\n";
    let pipeline = good(text, &[]);
    assert_eq!(names(&pipeline).len(), 2 + 4 + 2);
    assert_eq!(before(&pipeline, "x[length=128,rank=4]"), ["m", "f[length=128]"]);
}

#[test]
fn two_references_with_a_common_axis_agree_on_it() {
    let text = lora("rank = [4, 8]\nlr = [1e-3, 1e-4]", "train = { lr = \"${matrix.lr}\" }");
    let text = text
        + "[stages.other]\nkind = \"train\"\nmodel = \"@m\"\ndata = \"@f\"\nrank = \"${matrix.rank}\"\n\
         [stages.both]\nkind = \"command\"\nrun = [\"x\"]\ninputs = { a = \"@lora\", b = \"@other\" }\noutputs = [\"y\"]\n";
    let pipeline = good(&text, &[]);
    assert_eq!(before(&pipeline, "both[rank=8,lr=0.0001]"), ["lora[rank=8,lr=0.0001]", "other[rank=8]"]);
    assert_eq!(names(&pipeline).iter().filter(|name| name.starts_with("both")).count(), 4);
}

#[test]
fn cells_are_left_out_and_added() {
    let matrix = "rank = [4, 8]\nlr = [1e-3, 1e-4]\nexclude = [{ rank = 8, lr = 1e-3 }]\ninclude = [{ rank = 32, lr = 1e-5 }]";
    let text = lora(matrix, "train = { lr = \"${matrix.lr}\" }")
        + "[stages.plain]\nkind = \"train\"\nmodel = \"@m\"\ndata = \"@f\"\nrank = \"${matrix.rank}\"\n";
    let pipeline = good(&text, &[]);
    let of = |family: &str| names(&pipeline).into_iter().filter_map(|name| name.strip_prefix(family)).collect::<Vec<_>>();
    assert_eq!(of("lora"), ["[rank=4,lr=0.001]", "[rank=4,lr=0.0001]", "[rank=8,lr=0.0001]", "[rank=32,lr=1e-5]"]);
    assert_eq!(of("scores"), of("lora"));
    assert_eq!(of("plain"), ["[rank=4]", "[rank=8]", "[rank=32]"], "a stage with some of the axes has what any cell has");
    let all = "rank = [4, 8, 16]\nlr = [1e-3, 1e-4]\nexclude = [{ rank = [8, 16] }]";
    assert_eq!(
        names(&good(&lora(all, "train = { lr = \"${matrix.lr}\" }"), &[]))[3..5],
        ["lora[rank=4,lr=0.001]", "lora[rank=4,lr=0.0001]"]
    );
}

#[test]
fn one_cell_can_be_referred_to() {
    let student = "[stages.student]\nkind = \"command\"\nrun = [\"x\"]\ninputs = { teacher = \"@lora[rank=8]\", model = \"@lora\" }\noutputs = [\"y\"]\n";
    let text = lora("rank = [4, 8]\nseed = [1, 2]", "seed = \"${matrix.seed}\"") + student;
    let pipeline = good(&text, &[]);
    assert_eq!(before(&pipeline, "student[rank=4,seed=2]"), ["lora[rank=8,seed=2]", "lora[rank=4,seed=2]"]);
    let fixed = lora("rank = [4, 8]", "")
        + "[stages.one]\nkind = \"command\"\nrun = [\"x\"]\ninputs = { x = \"@lora[rank=4].log\" }\noutputs = [\"y\"]\n";
    let pipeline = good(&fixed, &[]);
    assert_eq!(before(&pipeline, "one"), ["lora[rank=4]"], "it takes no axis over");
    let small = fixed.replace("rank=4", "rank=5");
    assert_eq!(errors(&small, &[]), "p.toml:28:16: stage `lora` has no cell with `rank=5` (`rank` is one of 4, 8)");
}

#[test]
fn a_reference_may_hang_on_an_axis() {
    let text = "[matrix]\nbase = [\"bert\", \"t5\"]\n[stages.bert]\nkind = \"checkpoint\"\nsource = \"b\"\n[stages.t5]\nkind = \"checkpoint\"\nsource = \"t\"\n\
                [stages.d]\nkind = \"dataset\"\n[stages.f]\nkind = \"tokenize\"\ndataset = \"@d\"\nmodel = \"@${matrix.base}\"\n";
    let pipeline = good(text, &[]);
    assert_eq!(before(&pipeline, "f[base=t5]"), ["d", "t5"]);
}

#[test]
fn variables_may_hang_on_an_axis_and_axes_on_variables() {
    let text = "[vars]\nranks = [4, 8]\nplace = \"out/${matrix.rank}\"\n[matrix]\nrank = \"${vars.ranks}\"\n\
                [stages.x]\nkind = \"command\"\nrun = [\"x\", \"${vars.place}/log\"]\noutputs = { y = \"${vars.place}\" }\n";
    let pipeline = good(text, &[]);
    assert_eq!(names(&pipeline), ["x[rank=4]", "x[rank=8]"]);
    assert_eq!(pipeline.stages[1].values.get("run"), Some(&json!(["x", "out/8/log"])));
    assert_eq!(pipeline.stages[1].outputs[0].place.as_deref(), Some("out/8".as_ref()));
}

#[test]
fn awkward_values_have_names_nonetheless() {
    let text =
        "[matrix]\nx = [\"a/b\", \"a b\", \"\", true, 1.5]\n[stages.x]\nkind = \"command\"\nrun = [\"${matrix.x}\"]\noutputs = [\"y\"]\n";
    let pipeline = good(text, &[]);
    let first: Vec<&str> = names(&pipeline).iter().map(|name| name.split('~').next().unwrap()).collect();
    assert_eq!(first, ["x[x=a_b]", "x[x=a_b", "x[x=_]", "x[x=true]", "x[x=1.5]"]);
    assert_eq!(Graph::of(&pipeline).find_one("x[x=\"a b\"]").unwrap(), 1);
}

#[test]
fn targets_name_families() {
    let pipeline = good(&format!("targets = [\"lora\", \"scores[rank=4]\"]\n{}", lora("rank = [4, 8]", "")), &[]);
    assert_eq!(pipeline.targets, ["lora[rank=4]", "lora[rank=8]", "scores[rank=4]"]);
    assert_eq!(
        errors(&format!("targets = [\"lora[rank=5]\", \"score\"]\n{}", lora("rank = [4, 8]", "")), &[]),
        "p.toml:1:12: there is no stage `lora[rank=5]` (`rank` is one of 4, 8)\n\
         p.toml:1:28: there is no stage `score` (did you mean `scores`?)"
    );
}

#[test]
fn the_matrix_can_be_set_from_outside() {
    let text = lora("rank = [4, 8, 16]\nexclude = [{ rank = 16 }]", "");
    assert_eq!(names(&good(&text, &["matrix.rank=[2, 8]"]))[3..5], ["lora[rank=2]", "lora[rank=8]"]);
    assert_eq!(names(&good(&text, &["stages.lora.rank=2"]))[3..], ["lora", "scores"], "an axis that nothing uses any more");
    let pipeline = good(&text, &["stages.lora.alpha=3"]);
    assert!(pipeline.stages[3..5].iter().all(|stage| stage.explicit.get("alpha") == Some(&json!(3.0))));
    assert_eq!(
        errors(&text, &["matrix.rnak=[1]", "matrix.rank=1"]),
        "--set matrix.rnak=[1]: no axis `rnak` (did you mean `rank`?)\n--set matrix.rank=1: axis `rank` wants a list of values: this is a whole number"
    );
}

#[test]
fn errors_of_the_matrix() {
    let of = |matrix: &str| errors(&lora(matrix, ""), &[]);
    assert_eq!(of("rank = []"), "p.toml:2:8: axis `rank` has no values");
    assert_eq!(of("rank = 4"), "p.toml:2:8: axis `rank` wants a list of values: this is a whole number");
    assert_eq!(of("rank = [4, 8, 4]"), "p.toml:2:15: axis `rank` has the value 4 twice");
    assert_eq!(of("rank = [4, 4.0]"), "p.toml:2:12: axis `rank` has the value 4.0 twice");
    assert_eq!(of("rank = [4, [8]]"), "p.toml:2:12: axis `rank` wants texts, numbers, true or false: this is a list");
    assert_eq!(of("rank = [4]\nlr = [1]"), "p.toml:3:1: no stage uses the axis `lr` (write `${matrix.lr}` in one)");
    assert_eq!(of("rnak = [4]"), "p.toml:18:8: the matrix has no axis `rank` (did you mean `rnak`?)");
    assert_eq!(of("rank = [4]\nexclude = [{ rnak = 4 }]"), "p.toml:3:14: the matrix has no axis `rnak` (did you mean `rank`?)");
    assert_eq!(of("rank = [4, 8]\nexclude = [{ rank = 5 }]"), "p.toml:3:21: the axis `rank` has no value 5 (its values: 4, 8)");
    assert_eq!(of("rank = [4]\nexclude = [{ rank = 4 }]"), "p.toml:3:11: no cell of the matrix is left: this excludes all of them");
    assert_eq!(of("rank = [4]\nexclude = { rank = 4 }").lines().count(), 1);
    assert_eq!(of("rank = [4]\ninclude = [{ rank = 4 }]"), "p.toml:3:12: the matrix has this cell already");
    assert_eq!(
        of("rank = [4]\nlr = [1]\ninclude = [{ rank = 8 }]"),
        "p.toml:4:12: this cell has no `lr`: a cell has a value for every axis"
    );
    assert_eq!(
        of("exclude = [{ rank = 4 }]").lines().next().unwrap(),
        "p.toml:2:11: the matrix has no axes (write `[matrix]` and `rank = [4, 8]`)"
    );
    assert_eq!(of("rank = [\"${matrix.rank}\"]"), "p.toml:2:8: the matrix is made from its own axis `rank`");
}

#[test]
fn errors_of_stages_are_told_once_and_not_for_each_cell() {
    let ranks: Vec<String> = (1..=500).map(|rank| rank.to_string()).collect();
    let matrix = format!("rank = [{}]", ranks.join(", "));
    assert_eq!(errors(&lora(&matrix, "alhpa = 3"), &[]), "p.toml:19:1: kind `train` has no parameter `alhpa` (did you mean `alpha`?)");
    assert_eq!(
        errors(&lora("rank = [4, 2000, 8, 3000]", ""), &[]),
        "p.toml:18:8: `rank` wants a whole number, 1 to 1024: 2000 is too large\n\
         p.toml:18:8: `rank` wants a whole number, 1 to 1024: 3000 is too large"
    );
    let wrong = lora(&matrix, "").replace("model = \"@lora\"", "model = \"@lroa\"");
    assert_eq!(errors(&wrong, &[]), "p.toml:23:20: unknown stage `@lroa` (did you mean `lora`?)");
    let circle = lora(&matrix, "").replace("model = \"@m\"\ndata = \"@f\"\nrank", "model = \"@scores\"\ndata = \"@f\"\nrank");
    assert_eq!(errors(&circle, &[]), "p.toml:16:9: stages wait for one another in a circle: lora -> scores -> lora");
    let itself = lora(&matrix, "").replace("model = \"@m\"\ndata = \"@f\"\nrank", "model = \"@lora[rank=8]\"\ndata = \"@f\"\nrank");
    assert_eq!(errors(&itself, &[]), "p.toml:16:9: stage `lora` refers to itself");
}

#[test]
fn there_is_a_bound() {
    let axis = |name: &str| format!("{name} = [{}]\n", (0..400).map(|n| n.to_string()).collect::<Vec<_>>().join(", "));
    let text = lora(&format!("{}{}", axis("rank"), axis("lr")), "train = { lr = \"${matrix.lr}\" }");
    assert_eq!(errors(&text, &[]), "p.toml:3:1: the matrix has 160000 cells: at most 100000");
}

#[test]
fn two_cells_do_not_write_to_one_place() {
    let text = "[matrix]\nrank = [4, 8]\n[stages.x]\nkind = \"command\"\nrun = [\"${matrix.rank}\"]\noutputs = { y = \"out\" }\n";
    assert_eq!(
        errors(text, &[]),
        "p.toml:6:17: `out` is written by stage `x[rank=4]` already (write the cell into the path: `${matrix.rank}`)"
    );
}

#[test]
fn a_sweep_adds_an_axis() {
    let text = lora("rank = [4, 8]", "");
    let of = |sweeps: &[&str], family: &str| {
        let sweeps: Vec<Override> = sweeps.iter().map(|sweep| Override::sweep(sweep).unwrap()).collect();
        let pipeline = Pipeline::parse(&text, "p.toml".as_ref(), &kinds(), &sweeps).unwrap_or_else(|errors| panic!("{errors}"));
        names(&pipeline).into_iter().filter_map(|name| name.strip_prefix(family).map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(of(&["stages.lora.alpha=1,2.5"], "lora").len(), 4);
    assert_eq!(of(&["stages.lora.alpha=1,2.5"], "scores")[3], "[rank=8,alpha=2.5]");
    assert_eq!(of(&["stages.lora.rank=16,32"], "lora"), ["[lora.rank=16]", "[lora.rank=32]"], "the file has an axis of this name");
    assert_eq!(of(&["stages.lora.train.lr=1e-3", "stages.f.max_length=[8, 16]"], "f"), ["[max_length=8]", "[max_length=16]"]);
    assert_eq!(of(&["seed=1,2,3"], "lora").len(), 6);
    assert_eq!(of(&["seed=1,2,3"], "f"), [""], "what draws no random numbers has no seed");
    assert_eq!(of(&["stages.lora.scheme=nf4,int8", "stages.lora.double=false,true"], "lora").len(), 8);
}

#[test]
fn variables_can_be_swept() {
    let text = format!("[vars]\nrank = 4\nsource = \"w\"\ntwice = \"${{vars.source}}${{vars.source}}\"\n{}", lora("rank = [1]", ""));
    let text = text
        .replace("${matrix.rank}", "${vars.rank}")
        .replace("[matrix]\nrank = [1]", "")
        .replace("source = \"w\"\n[stages.f]", "source = \"${vars.twice}\"\n[stages.f]");
    let load = |sweep: &str| Pipeline::parse(&text, "p.toml".as_ref(), &kinds(), &[Override::sweep(sweep).unwrap()]);
    assert_eq!(names(&load("vars.rank=4,8").unwrap())[3..5], ["lora[rank=4]", "lora[rank=8]"]);
    let pipeline = load("vars.source=1,b").unwrap();
    let sources: Vec<_> =
        pipeline.stages.iter().filter(|stage| stage.name.starts_with("m[")).map(|stage| stage.inputs[0].source.clone()).collect();
    assert_eq!(sources, [Source::Path("11".into()), Source::Path("bb".into())], "a text stays one");
    assert_eq!(
        load("vars.rank=4,x").unwrap_err().to_string(),
        "--sweep vars.rank=4,x: variable `rank` is a number in the file: this is text"
    );
}

#[test]
fn errors_of_sweeps() {
    let sweep = |sweep: &str| {
        let sweeps = [Override::sweep(sweep).unwrap()];
        Pipeline::parse(&lora("rank = [4]", ""), "p.toml".as_ref(), &kinds(), &sweeps).unwrap_err().to_string()
    };
    assert_eq!(
        sweep("stages.lora.alhpa=1,2"),
        "--sweep stages.lora.alhpa=1,2: kind `train` has no parameter `alhpa` (did you mean `alpha`?)"
    );
    assert_eq!(
        sweep("stages.lora.rank=1,2000"),
        "--sweep stages.lora.rank=1,2000: `rank` wants a whole number, 1 to 1024: 2000 is too large"
    );
    assert_eq!(sweep("stages.lora.alpha=1,1.0"), "--sweep stages.lora.alpha=1,1.0: axis `alpha` has the value 1.0 twice");
    assert_eq!(sweep("vars.x=1"), "--sweep vars.x=1: no variable `x` (the pipeline has no [vars])");
    assert_eq!(
        sweep("numerics=default,strict"),
        "--sweep numerics=default,strict: `numerics` cannot be swept (what can be swept: seed, vars.NAME, stages.STAGE.PARAMETER)"
    );
    for wrong in ["stages.lora.rank", "stages.lora.rank=", "stages.lora.rank=4,,8", "=4"] {
        assert!(Override::sweep(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_seed_of_the_file_may_be_an_axis() {
    let pipeline = good(&format!("seed = \"${{matrix.seed}}\"\n{}", lora("rank = [4]\nseed = [7, 8]", "")), &[]);
    assert_eq!(pipeline.stages[3..5].iter().map(|stage| stage.seed).collect::<Vec<_>>(), [7, 8]);
}
