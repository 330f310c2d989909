//! The language: what a pipeline file may say, and what it is told when it says something else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::toys::{errors, good, kinds, load};
use qapipe_engine::{Kinds, LoadError, Override, Pipeline, Source};
use serde_json::json;

/// The study's usual chain.
const STUDY: &str = r#"name = "study"
seed = 13

[vars]
squad = "data/squad"
rank = 16

[stages.squad]
kind = "dataset"
train = "${vars.squad}/train.json"

[stages.base]
kind = "checkpoint"
source = "hub:google/bert@main"

[stages.features]
kind = "tokenize"
dataset = "@squad"
model = "@base"

[stages.lora]
kind = "train"
model = "@base"
data = "@features"
rank = "${vars.rank}"
train = { lr = 3e-4 }
hints = { batch = 8, device = "cuda:1", threads = 2 }
"#;

/// Lines around one stage of each kind, so that a test can say only what it is about.
fn around(stage: &str) -> String {
    format!(
        "[stages.d]\nkind = \"dataset\"\n[stages.m]\nkind = \"checkpoint\"\nsource = \"w\"\n[stages.f]\nkind = \"tokenize\"\ndataset = \"@d\"\nmodel = \"@m\"\n[stages.x]\n{stage}\n"
    )
}

fn train(more: &str) -> String {
    around(&format!("kind = \"train\"\nmodel = \"@m\"\ndata = \"@f\"\n{more}"))
}

fn command(name: &str, inputs: &str, outputs: &str) -> String {
    format!("[stages.{name}]\nkind = \"command\"\nrun = [\"x\"]\ninputs = {{ {inputs} }}\noutputs = {outputs}\n")
}

#[test]
fn a_pipeline_is_what_the_file_says() {
    let pipeline = good(STUDY, &[]);
    assert_eq!((pipeline.name.as_str(), pipeline.seed, pipeline.strict), ("study", 13, false));
    assert!(pipeline.folder.is_absolute());
    let names: Vec<&str> = pipeline.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["squad", "base", "features", "lora"]);
    let squad = pipeline.stage("squad").unwrap();
    assert_eq!(squad.inputs[0].source, Source::Path("data/squad/train.json".into()));
    assert!(pipeline.stage("base").unwrap().inputs.is_empty(), "a hub repository is a value, not an input");
    assert_eq!(serde_json::to_value(&pipeline.stage("base").unwrap().explicit).unwrap(), json!({ "source": "hub:google/bert@main" }));
    let features = pipeline.stage("features").unwrap();
    assert_eq!(features.inputs[1].source, Source::Stage { index: 1, output: "model".to_owned() });
    assert_eq!(features.inputs[1].part, ["tokenizer.json", "vocab.txt"]);
    let lora = pipeline.stage("lora").unwrap();
    assert_eq!(lora.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), ["model", "log"]);
    assert_eq!(
        serde_json::to_value(&lora.values).unwrap(),
        json!({
            "model": "@base", "data": "@features", "rank": 16, "alpha": 16.0, "scheme": "nf4", "double": false, "limit": "all",
            "train": { "lr": 3e-4, "epochs": 2, "warmup": 0.0 }, "hints": { "batch": 8, "device": "cuda:1", "threads": 2 },
        })
    );
    assert_eq!(serde_json::to_value(&lora.explicit).unwrap(), json!({ "rank": 16, "train": { "lr": 3e-4 } }));
    assert_eq!(&pipeline.text()[lora.span.range()], "lora");
}

#[test]
fn a_name_comes_from_the_file_if_need_be() {
    let name = |file: &str| Pipeline::parse("[stages.d]\nkind = \"dataset\"", file.as_ref(), &kinds(), &[]).unwrap().name;
    assert_eq!(name("pipelines/bert base.toml"), "bert_base");
    assert_eq!(name(".."), "pipeline");
}

#[test]
fn stages_keep_the_order_of_the_file() {
    let text = "[stages.z]\nkind = \"dataset\"\n[stages.a]\nkind = \"dataset\"\n[stages.m]\nkind = \"dataset\"\n";
    assert_eq!(good(text, &[]).stages.iter().map(|stage| stage.name.as_str()).collect::<String>(), "zam");
}

#[test]
fn a_seed_of_a_stage_wins() {
    assert_eq!(good(&format!("seed = 3\n{}", train("")), &[]).stage("x").unwrap().seed, 3);
    let pipeline = good(&format!("seed = 3\n{}", train("seed = 5")), &[]);
    let stage = pipeline.stage("x").unwrap();
    assert_eq!(stage.seed, 5);
    assert!(!stage.values.has("seed") && !stage.explicit.has("seed"));
    assert_eq!(good(&train(""), &[]).stage("x").unwrap().seed, 0);
}

#[test]
fn numerics() {
    assert!(good(&format!("numerics = \"strict\"\n{}", train("")), &[]).strict);
    assert_eq!(
        errors(&format!("numerics = \"strickt\"\n{}", train("")), &[]),
        "p.toml:1:12: `numerics` wants one of default | strict: `strickt` is none of them (did you mean `strict`?)"
    );
}

#[test]
fn variables() {
    let text = format!(
        "[vars]\nroot = \"data\"\nsquad = \"${{vars.root}}/squad\"\nn = 4\nlr = 1e-4\nflag = true\nlist = [\"q\", \"${{vars.root}}\"]\ncopy = \"${{vars.list}}\"\n{}",
        train("rank = \"${vars.n}\"\ndouble = \"${vars.flag}\"\ntargets = \"${vars.copy}\"\ntrain = { lr = \"${vars.lr}\" }\n")
    );
    let pipeline = good(&text, &[]);
    let values = &pipeline.stage("x").unwrap().values;
    assert_eq!(values.get("targets"), Some(&json!(["q", "data"])));
    assert_eq!(
        (values.get("rank"), values.get("double"), values.get("train.lr")),
        (Some(&json!(4)), Some(&json!(true)), Some(&json!(1e-4)))
    );
    assert_eq!(pipeline.vars["squad"], json!("data/squad"));
}

#[test]
fn numbers_become_text_inside_texts_and_where_text_is_wanted() {
    let vars = "[vars]\nn = 4\nlr = 1e-5\none = 1.0\nyes = true\n";
    let text = format!(
        "{vars}{}",
        train("targets = [\"${vars.n}-${vars.lr}\", \"${vars.lr}\", \"${vars.one}${vars.yes}\", \"$${vars.n} $$ $x ${vars.n}$\"]")
    );
    let pipeline = good(&text, &[]);
    assert_eq!(pipeline.stage("x").unwrap().values.get("targets"), Some(&json!(["4-1e-5", "1e-5", "1.0true", "${vars.n} $$ $x 4$"])));
}

#[test]
fn a_variable_may_stand_behind_its_use_but_not_in_a_circle() {
    let text = format!("[vars]\na = \"${{vars.b}}\"\nb = 3\n{}", train("rank = \"${vars.a}\""));
    assert_eq!(good(&text, &[]).stage("x").unwrap().values.get("rank"), Some(&json!(3)));
    let text = format!("[vars]\na = \"x${{vars.b}}\"\nb = \"${{vars.c}}\"\nc = [\"${{vars.a}}\"]\n{}", train("scheme = \"${vars.a}\""));
    assert_eq!(errors(&text, &[]), "p.toml:4:6: variables are made from one another in a circle: a -> b -> c -> a");
}

#[test]
fn errors_of_substitution() {
    let text = format!(
        "[vars]\nrank = 3\nlist = [1]\ntable = {{ a = 1 }}\n{}",
        train(
            "rank = \"${vars.rnak}\"\nscheme = \"${rank}\"\ntargets = [\"a${vars.list}\", \"${vars.rank\", \"${matrix.seed}\", \"${env.HOME}\"]\n"
        )
    );
    assert_eq!(
        errors(&text, &[]),
        "p.toml:4:9: variable `table` wants text, a number, true or false, or a list: this is a table\n\
         p.toml:18:8: unknown variable `rnak` (did you mean `rank`?)\n\
         p.toml:19:10: `${rank}` is no variable (did you mean `${vars.rank}`?)\n\
         p.toml:20:12: `${vars.list}` is a list and cannot stand inside a text: only a text that is nothing but `${vars.list}` becomes the list\n\
         p.toml:20:29: `${` without `}` (a `${` that is no variable is written `$${`)\n\
         p.toml:20:44: `${matrix.seed}`: the file has no matrix (write `[matrix]` and `seed = [ … ]`)\n\
         p.toml:20:62: `${env.HOME}` is no variable (write `${vars.NAME}` or `${matrix.AXIS}`, or `$${` for a plain `${`)"
    );
}

#[test]
fn a_bomb_of_variables_is_defused() {
    let mut text = "[vars]\na0 = \"xxxxxxxxxxxxxxxx\"\n".to_owned();
    for n in 1..40 {
        text += &format!("a{n} = \"${{vars.a{0}}}${{vars.a{0}}}\"\n", n - 1);
    }
    let told = errors(&format!("{text}{}", train("")), &[]);
    assert_eq!(told, "p.toml:18:7: variable `a16` is too large or nested too deeply");
    let mut text = "[vars]\na0 = [1]\n".to_owned();
    for n in 1..40 {
        text += &format!("a{n} = [\"${{vars.a{0}}}\", \"${{vars.a{0}}}\"]\n", n - 1);
    }
    let told = errors(&format!("{text}{}", train("")), &[]);
    assert!(told.contains("variable `a8` is too large or nested too deeply"), "{told}");
}

#[test]
fn a_pipeline_grows_only_so_far() {
    let uses: String = (0..200).map(|n| format!("[stages.x{n}]\nkind = \"dataset\"\ntrain = \"${{vars.a}}\"\n")).collect();
    let told = errors(&format!("[vars]\na = \"{}\"\n{uses}", "x".repeat(1_000_000)), &[]);
    assert!(told.ends_with("the pipeline grows too large: its variables make more than 64 MiB of text"), "{}", &told[..200]);
    assert_eq!(told.lines().count(), 1);
}

#[test]
fn keys_of_the_file() {
    assert_eq!(
        errors("nmae = \"x\"\nmatrix = 1\nextends = \"x\"\n[lora]\nkind = \"train\"\n[stages.d]\nkind = \"dataset\"\n", &[]),
        "p.toml:1:1: unknown key `nmae` (did you mean `name`?)\n\
         p.toml:2:10: `matrix` wants a table: this is a whole number\n\
         p.toml:3:1: `extends` is not supported yet\n\
         p.toml:4:2: unknown key `lora` (a stage is written `[stages.lora]`)"
    );
    assert_eq!(
        errors("name = \"a/b\"\nseed = -1\nvars = 3\nnumerics = 1\nstages = []\n", &[]),
        "p.toml:1:8: `a/b` cannot be the name of a pipeline: names are made of letters a to z, digits, `_` and `-`, and do not begin with `-`\n\
         p.toml:2:8: `seed` wants a whole number, 0 or more: -1 is too small\n\
         p.toml:3:8: `vars` wants a table: this is a whole number\n\
         p.toml:4:12: `numerics` wants one of default | strict: this is a whole number\n\
         p.toml:5:10: `stages` wants a table: this is a list"
    );
    assert_eq!(errors("", &[]), "p.toml:1:1: the pipeline has no stages (write `[stages.NAME]` and its `kind`)");
}

#[test]
fn toml_that_does_not_parse() {
    let told = errors("name = \"a\"\n[stages.x\nkind = \"dataset\"\n[stages.y]\nkind = [1\n", &[]);
    assert!(told.starts_with("p.toml:2:10: "), "{told}");
    assert!(told.lines().count() >= 2, "{told}");
    assert_eq!(errors("a = 1\na = 2\n", &[]), "p.toml:2:1: duplicate key");
    assert_eq!(errors("[stages.a]\nkind = \"dataset\"\n[stages.a]\n", &[]), "p.toml:3:9: duplicate key");
    assert_eq!(
        errors("[stages.a]\nkind = \"dataset\"\ntrain = 1979-05-27\ndev = 99999999999999999999\nfiles = 1e999\n", &[]),
        "p.toml:3:9: dates are not supported: write it as text, in quotes\n\
         p.toml:4:7: the number is too large\n\
         p.toml:5:9: the number is too large"
    );
}

#[test]
fn kinds_and_names_of_stages() {
    assert_eq!(
        errors(
            "stages.a = 3\n[stages.b]\nkind = 3\n[stages.c]\nkind = \"datset\"\n[stages.e]\nknid = \"dataset\"\n[stages.f]\n[stages.\"g/h\"]\nkind = \"dataset\"\n[[stages.i]]\nkind = \"x\"\n[stages.j]\nkind = \"zebra\"",
            &[]
        ),
        "p.toml:1:12: stage `a` wants a table: this is a whole number\n\
         p.toml:3:8: `kind` wants the name of a kind, in quotes: this is a whole number\n\
         p.toml:5:8: unknown kind `datset` (did you mean `dataset`?)\n\
         p.toml:6:9: stage `e` has no `kind` (is `knid` meant to be `kind`?)\n\
         p.toml:8:9: stage `f` has no `kind` (kinds: dataset, checkpoint, tokenize, train, command)\n\
         p.toml:9:9: `g/h` cannot be the name of a stage: names are made of letters a to z, digits, `_` and `-`, and do not begin with `-`\n\
         p.toml:11:1: stage `i` wants a table: this is a list\n\
         p.toml:14:8: unknown kind `zebra` (kinds: dataset, checkpoint, tokenize, train, command)"
    );
    let long = "a".repeat(81);
    assert!(
        errors(&format!("[stages.{long}]\nkind = \"dataset\"\n"), &[])
            .ends_with("cannot be the name of a stage: names have at most 80 letters")
    );
}

#[test]
fn parameters_of_the_wrong_type() {
    let text = train(
        "rank = \"8\"\nalpha = \"x\"\nscheme = \"nf5\"\ndouble = 1\ntargets = [\"q\", 3]\nlimit = 2.0\ntrain = { lr = \"0.1\", epochs = 1.5, warmup = nan }\n",
    );
    assert_eq!(
        errors(&text, &[]),
        "p.toml:14:8: `rank` wants a whole number, 1 to 1024: this is text (write it without quotes)\n\
         p.toml:15:9: `alpha` wants a number, 0 or more: this is text\n\
         p.toml:16:10: `scheme` wants one of nf4 | int8 | int4: `nf5` is none of them (did you mean `nf4`?)\n\
         p.toml:17:10: `double` wants true or false: this is a whole number\n\
         p.toml:18:17: `targets.1` wants text: this is a whole number\n\
         p.toml:19:9: `limit` wants a number, 0 to 1: 2.0 is too large\n\
         p.toml:20:16: `train.lr` wants a number, 0 to 1: this is text (write it without quotes)\n\
         p.toml:20:32: `train.epochs` wants a whole number, 1 or more: this is a number\n\
         p.toml:20:46: `train.warmup` wants a number, 0 to 1: `NaN` is not finite"
    );
    assert_eq!(errors(&train("rank = 0"), &[]), "p.toml:14:8: `rank` wants a whole number, 1 to 1024: 0 is too small");
    assert_eq!(errors(&train("limit = \"al\""), &[]), "p.toml:14:9: `limit` wants one of all: `al` is none of them (did you mean `all`?)");
    assert_eq!(errors(&train("limit = []"), &[]), "p.toml:14:9: `limit` wants a number, 0 to 1, or one of all: this is a list");
    assert_eq!(errors(&train("train = 3"), &[]), "p.toml:14:9: `train` wants a table with lr, epochs, warmup: this is a whole number");
    assert_eq!(errors(&train("alpha = inf"), &[]), "p.toml:14:9: `alpha` wants a number, 0 or more: `inf` is not finite");
}

#[test]
fn parameters_that_are_missing_or_unknown() {
    assert_eq!(
        errors(&around("kind = \"train\"\nrnak = 3\nbatch = 3\ntrain = { rl = 3 }\nseeds = 1\ndevice = \"cpu\"\n"), &[]),
        "p.toml:10:9: stage `x` lacks `model`: @model (What to train.)\n\
         p.toml:10:9: stage `x` lacks `data`: @features (What to train on.)\n\
         p.toml:12:1: kind `train` has no parameter `rnak` (did you mean `rank`?)\n\
         p.toml:13:1: `batch` is a hint, not a parameter (write `hints = { batch = … }`)\n\
         p.toml:14:11: `train` has no parameter `rl` (did you mean `lr`?)\n\
         p.toml:15:1: kind `train` has no parameter `seeds` (parameters: model, data, rank, alpha, scheme, double, targets, limit, train)\n\
         p.toml:16:1: `device` is a hint, not a parameter (write `hints = { device = … }`)"
    );
    assert_eq!(errors("[stages.d]\nkind = \"dataset\"\nseed = 3\n", &[]), "p.toml:3:1: `seed`: kind `dataset` draws no random numbers");
}

#[test]
fn hints() {
    assert_eq!(
        errors(&train("hints = { rank = 3, bach = 1, device = \"gpu\", threads = 0, batch = \"x\" }"), &[]),
        "p.toml:14:11: `rank` is a parameter, not a hint (write it outside of `hints`)\n\
         p.toml:14:21: kind `train` has no hint `bach` (did you mean `batch`?)\n\
         p.toml:14:40: `hints.device` wants auto, cpu, cuda, or cuda:N: `gpu` is none of them\n\
         p.toml:14:57: `hints.threads` wants a whole number, 1 or more: 0 is too small\n\
         p.toml:14:68: `hints.batch` wants a whole number, 1 to 4096: this is text"
    );
    assert_eq!(
        errors(&train("hints = 3"), &[]),
        "p.toml:14:9: `hints` wants a table: `hints = { device = \"cpu\" }`: this is a whole number"
    );
}

#[test]
fn a_kinds_own_check_points_at_the_parameter() {
    assert_eq!(
        errors(&train("scheme = \"int8\"\ntargets = [\"q\"]"), &[]),
        "p.toml:15:11: `targets` and the scheme `int8` exclude each other (leave one out)"
    );
}

#[test]
fn references() {
    let stage = "kind = \"train\"\nmodel = \"@f\"\ndata = \"@featurs\"\n[stages.features]\nkind = \"tokenize\"\ndataset = \"d\"\nmodel = \"@m.weights\"\n[stages.y]\nkind = \"tokenize\"\ndataset = \"@a.b.c\"\nmodel = \"@\"\n";
    assert_eq!(
        errors(&around(stage), &[]),
        "p.toml:12:9: `@f` is a features table; `model` wants a model (`@m` is one)\n\
         p.toml:13:8: unknown stage `@featurs` (did you mean `features`?)\n\
         p.toml:16:11: `dataset` wants @examples: a reference begins with `@` (did you mean `@d`?)\n\
         p.toml:17:9: stage `m` gives no `weights` (outputs: model)\n\
         p.toml:20:11: `dataset` wants @examples: `@a.b.c` is no reference (write `@stage` or `@stage.output`)\n\
         p.toml:21:9: `model` wants @model or path: `@` is no reference (write `@stage` or `@stage.output`)"
    );
    assert_eq!(
        errors(&format!("{}[stages.z]\nkind = \"train\"\nmodel = \"@x.log\"\ndata = \"@f\"\n", train("")), &[]),
        "p.toml:17:9: `@x.log` is a training log; `model` wants a model (`@x.model` is one)"
    );
}

#[test]
fn references_inside_tables() {
    let text = format!("{}{}", train(""), command("c", "log = \"@x.log\", code = \"a.py\"", "[\"y\", \"z\"]"));
    let pipeline = good(&text, &[]);
    let stage = pipeline.stage("c").unwrap();
    let inputs: Vec<(&str, &Source)> = stage.inputs.iter().map(|input| (input.param.as_str(), &input.source)).collect();
    let log = Source::Stage { index: 3, output: "log".to_owned() };
    assert_eq!(inputs, [("inputs.log", &log), ("inputs.code", &Source::Path("a.py".into()))]);
    assert_eq!(serde_json::to_value(&stage.explicit).unwrap(), json!({ "outputs": ["y", "z"], "run": ["x"] }));
    let text = format!("{}{}", command("a", "x = \"@a\"", "[\"y\"]"), command("b", "x = \"@c\", y = \"@a.z\"", "[\"y\"]"));
    assert_eq!(
        errors(&text, &[]),
        "p.toml:4:16: stage `a` refers to itself\n\
         p.toml:9:16: unknown stage `@c` (did you mean `a`?)\n\
         p.toml:9:26: stage `a` gives no `z` (did you mean `y`?)"
    );
}

#[test]
fn circles() {
    let text = [("e", "c"), ("a", "b"), ("b", "c"), ("c", "a"), ("p", "q"), ("q", "p")]
        .map(|(name, from)| command(name, &format!("x = \"@{from}\""), "[\"y\"]"));
    assert_eq!(
        errors(&text.concat(), &[]),
        "p.toml:9:16: stages wait for one another in a circle: a -> b -> c -> a\n\
         p.toml:24:16: stages wait for one another in a circle: p -> q -> p"
    );
}

#[test]
fn a_chain_of_many_stages_is_no_matter() {
    let mut text = command("s0", "", "[\"y\"]");
    for n in 1..20_000 {
        text += &command(&format!("s{n}"), &format!("x = \"@s{}\"", n - 1), "[\"y\"]");
    }
    let graph = qapipe_engine::Graph::of(&good(&text, &[]));
    assert_eq!(graph.ancestors(19_999).len(), 19_999);
    text = text.replacen("inputs = {  }", "inputs = { x = \"@s19999\" }", 1);
    assert!(errors(&text, &[]).contains("s0 -> s19999 -> s19998 -> "));
}

#[test]
fn places() {
    let text = [
        command("a", "", "{ y = \"out/y.csv\" }"),
        command("b", "", "{ y = \"./out//y.csv\" }"),
        command("c", "", "{ y = \"out\" }"),
        command("d", "", "{ y = \"../y\", z = \"/tmp/z\", w = \".qapipe/x\", v = \"p.toml\", u = \".\" }"),
        command("e", "a = \"out/y.csv\", b = \"out\", c = \"b/../out/y.csv\", d = \"out/x.csv\"", "{ y = \"in/x\" }"),
        command("f", "a = \"out/y.csv/part\", b = \"@a.y\"", "[\"z\"]"),
    ];
    let told = errors(&text.concat(), &[]);
    assert_eq!(
        told,
        "p.toml:10:17: `./out//y.csv` is written by stage `a` already\n\
         p.toml:15:17: `out` is written by stage `a` already: it holds `out/y.csv`\n\
         p.toml:20:17: `../y` is not a place inside the pipeline's folder (give a relative path without `..`)\n\
         p.toml:20:29: `/tmp/z` is not a place inside the pipeline's folder (give a relative path without `..`)\n\
         p.toml:20:43: `.qapipe/x` lies in the store, which stages do not write\n\
         p.toml:20:60: `p.toml` is the pipeline file itself\n\
         p.toml:20:74: `.` is not a place inside the pipeline's folder (give a relative path without `..`)\n\
         p.toml:24:16: `out/y.csv` is written by stage `a` (write `@a`)\n\
         p.toml:24:33: `out` is written by stage `a`: it holds `out/y.csv` (write `@a`)\n\
         p.toml:24:44: `b/../out/y.csv` is written by stage `a` (write `@a`)\n\
         p.toml:29:16: `out/y.csv/part` is written by stage `a` (write `@a`)"
    );
    let absolute = std::path::absolute("out/y").unwrap();
    let inputs = format!("x = \"{}\", z = \"../out/y\"", absolute.display());
    let text = format!("{}{}", command("a", "", "{ x = \"o\", y = \"out/y\" }"), command("b", &inputs, "[\"y\"]"));
    let told = errors(&text, &[]);
    assert!(told.ends_with("is written by stage `a` (write `@a.y`)") && told.lines().count() == 1, "{told}");
}

#[test]
fn a_place_is_found_through_links_and_dots() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().canonicalize().unwrap().join("real");
    std::fs::create_dir_all(real.join("sub")).unwrap();
    std::os::unix::fs::symlink(&real, folder.path().join("link")).unwrap();
    let through = |name: &str, input: &std::path::Path| {
        let inputs = format!("x = \"{}\"", input.display());
        let text = format!("{}{}", command("a", "", "{ y = \"out/y\" }"), command("b", &inputs, "[\"z\"]"));
        Pipeline::parse(&text, &folder.path().join(name), &kinds(), &[]).map(|_| ()).map_err(|error| error.to_string())
    };
    for name in ["real/p.toml", "real/sub/../p.toml", "link/p.toml", "link/sub/../p.toml"] {
        for input in [real.join("out/y"), real.join("sub/../out"), folder.path().join("link/out/y"), "../real/out/y".into()] {
            let told = through(name, &input).expect_err(name);
            assert!(told.contains("is written by stage `a`"), "{name}, {}: {told}", input.display());
        }
        through(name, &real.join("in/y")).unwrap();
    }
}

#[test]
fn paths() {
    assert_eq!(
        errors(
            "[stages.a]\nkind = \"dataset\"\ntrain = \"@b\"\ndev = \"\"\nfiles = [\"hub:a/b\", \"a\\u0000\"]\n[stages.b]\nkind = \"checkpoint\"\nsource = \"hub:../x\"\n[stages.c]\nkind = \"checkpoint\"\nsource = 3\n",
            &[]
        ),
        "p.toml:3:9: `train` wants a path: a reference is not taken here (a path that begins with `@` is written `./@b`)\n\
         p.toml:4:7: `dev` wants one of sample, or a path: this is text\n\
         p.toml:5:10: `files.0` wants a path: `hub:` is not taken here\n\
         p.toml:5:21: `files.1` wants a path: this holds a zero byte\n\
         p.toml:8:10: `source` wants a path or hub:REPO[@REVISION]: `../x` names no repository\n\
         p.toml:11:10: `source` wants a path or hub:REPO[@REVISION]: this is a whole number"
    );
    let sample = good("[stages.a]\nkind = \"dataset\"\ndev = \"sample\"\n[stages.b]\nkind = \"dataset\"\ndev = \"other\"\n", &[]);
    assert!(sample.stages[0].inputs.is_empty() && sample.stages[1].inputs.len() == 1);
    assert_eq!(sample.stages[0].explicit.text("dev"), Some("sample"));
    assert!(sample.stages[1].explicit.0.is_empty());
}

#[test]
fn outputs_have_names() {
    assert_eq!(
        errors(
            &[
                command("a", "", "[\"y\", \"y\"]"),
                command("b", "", "[\"a/b\"]"),
                command("c", "", "[]"),
                command("d", "", "{ \"é\" = \"y\" }")
            ]
            .concat(),
            &[]
        ),
        "p.toml:5:12: output `y` is given twice\n\
         p.toml:10:12: `a/b` cannot be the name of an output: names are made of letters a to z, digits, `_` and `-`, and do not begin with `-`\n\
         p.toml:11:9: stage `c` gives nothing\n\
         p.toml:20:13: `é` cannot be the name of an entry of `outputs`: names are made of letters a to z, digits, `_` and `-`, and do not begin with `-`"
    );
}

#[test]
fn overrides_replace_values() {
    let set = [
        "seed=7",
        "vars.squad=elsewhere",
        "stages.lora.rank=4",
        "stages.lora.train.epochs=9",
        "stages.lora.hints.batch=2",
        "stages.lora.scheme=int8",
        "numerics=strict",
        "stages.lora.seed=1",
    ];
    let pipeline = good(STUDY, &set);
    assert_eq!((pipeline.seed, pipeline.strict), (7, true));
    assert_eq!(pipeline.stages[0].inputs[0].source, Source::Path("elsewhere/train.json".into()));
    let lora = pipeline.stage("lora").unwrap();
    let want = json!({ "rank": 4, "scheme": "int8", "train": { "epochs": 9, "lr": 3e-4 } });
    assert_eq!(serde_json::to_value(&lora.explicit).unwrap(), want);
    assert_eq!((lora.values.get("hints.batch"), lora.seed), (Some(&json!(2)), 1));
}

#[test]
fn overrides_are_text_where_text_is_wanted() {
    let text = format!(
        "[vars]\na = \"v1\"\nb = 1.0\n{}",
        command("c", "x = \"in\"", "[\"y\"]").replace("[\"x\"]", "[\"${vars.a}\", \"${vars.b}\"]")
    );
    let run = |set: &[&str]| good(&text, set).stages[0].values.get("run").unwrap().clone();
    assert_eq!(run(&["vars.a=5", "vars.b=3"]), json!(["5", "3.0"]));
    assert_eq!(run(&["vars.a=\"5\""]), json!(["5", "1.0"]));
    assert_eq!(run(&["vars.a=[x"]), json!(["[x", "1.0"]));
    assert_eq!(run(&["vars.a=2026-11-23"]), json!(["2026-11-23", "1.0"]));
    assert_eq!(run(&["vars.a=99999999999999999999"]), json!(["99999999999999999999", "1.0"]));
    assert_eq!(run(&["vars.a=1e999"]), json!(["1e999", "1.0"]));
    assert_eq!(run(&["vars.a=a=b", "vars.a=${vars.b}"]), json!(["1.0", "1.0"]));
    assert_eq!(run(&["stages.c.run=[\"p\", \"q\"]", "stages.c.run.1=7"]), json!(["p", "7"]));
    assert_eq!(good(&text, &["stages.c.inputs.x=other"]).stages[0].inputs[0].source, Source::Path("other".into()));
}

#[test]
fn overrides_that_do_not_fit() {
    let told = |set: &str| errors(STUDY, &[set]);
    assert_eq!(told("vars.sqad=x"), "--set vars.sqad=x: no variable `sqad` (did you mean `squad`?)");
    assert_eq!(told("vars.rank=x"), "--set vars.rank=x: variable `rank` is a number in the file: this is text");
    assert_eq!(told("stages.lroa.rank=4"), "--set stages.lroa.rank=4: no stage `lroa` (did you mean `lora`?)");
    assert_eq!(told("stages.lora.rnak=4"), "--set stages.lora.rnak=4: kind `train` has no parameter `rnak` (did you mean `rank`?)");
    assert_eq!(told("stages.lora.rank=x"), "--set stages.lora.rank=x: `rank` wants a whole number, 1 to 1024: this is text");
    assert_eq!(told("stages.lora.rank=4000"), "--set stages.lora.rank=4000: `rank` wants a whole number, 1 to 1024: 4000 is too large");
    assert_eq!(told("stages.lora.train.rl=4"), "--set stages.lora.train.rl=4: `train` has no parameter `rl` (did you mean `lr`?)");
    assert_eq!(told("stages.lora.rank.x=4"), "--set stages.lora.rank.x=4: `rank` has no parts");
    assert_eq!(told("stages.lora.batch=4"), "--set stages.lora.batch=4: `batch` is a hint (write `hints.batch`)");
    assert_eq!(told("stages.lora.hints.bach=4"), "--set stages.lora.hints.bach=4: `hints` has no parameter `bach` (did you mean `batch`?)");
    assert_eq!(told("stages.lora.kind=dataset"), "--set stages.lora.kind=dataset: the kind of a stage cannot be set from outside");
    assert_eq!(
        told("stages.lora.model=@squad"),
        "--set stages.lora.model=@squad: `@squad` is an examples table; `model` wants a model (`@base` is one)"
    );
    assert_eq!(told("name=x"), "--set name=x: the name of a pipeline cannot be set from outside");
    assert_eq!(told("seed=x"), "--set seed=x: `seed` wants a whole number, 0 or more: this is text");
    assert_eq!(
        told("rank=4"),
        "--set rank=4: `rank` cannot be set (what can be set: seed, numerics, matrix.AXIS, vars.NAME, stages.STAGE.PARAMETER)"
    );
    assert_eq!(
        told("stages.lora=4"),
        "--set stages.lora=4: `stages.lora` cannot be set (what can be set: seed, numerics, matrix.AXIS, vars.NAME, stages.STAGE.PARAMETER)"
    );
    assert_eq!(
        errors(&command("c", "x = \"a\"", "[\"y\"]"), &["stages.c.inputs.z=b"]),
        "--set stages.c.inputs.z=b: `inputs` has no part `z` in the file (did you mean `x`?)"
    );
    assert!("rank".parse::<Override>().unwrap_err().to_string().starts_with("`rank` is not of the form PATH=VALUE"));
    let error = load(STUDY, &["stages.lora.rank=x"]).map(|_| ()).unwrap_err();
    assert!(error.contains("--set"), "{error}");
}

#[test]
fn an_override_error_points_into_the_override() {
    let set = ["seed=1", "stages.lora.rank= x"].map(|text| text.parse().unwrap());
    let errors = Pipeline::parse(STUDY, "p.toml".as_ref(), &kinds(), &set).unwrap_err();
    let error = &errors.0[0];
    assert_eq!((&*error.source, error.span.clone(), error.file.to_str()), ("stages.lora.rank= x", 17..19, Some("--set")));
}

#[test]
fn many_errors_come_in_the_order_of_the_file() {
    let told = errors(
        "[vars]\na = \"${vars.x}\"\n[stages.b]\nkind = \"dataset\"\ntrian = 3\n[stages.a]\nkind = \"tokenize\"\nmodel = \"@zebra\"\nmax_length = 3\n",
        &["seed=x"],
    );
    let places: Vec<&str> = told.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["p.toml:2:5", "p.toml:5:1", "p.toml:6:9", "p.toml:8:9", "p.toml:9:14", "--set seed=x"]);
}

#[test]
fn garbage_is_told_briefly() {
    let text = format!("[stages.a]\nkind = \"dataset\"\n{}", (0..5000).map(|n| format!("k{n} = 1\n")).collect::<String>());
    let told = errors(&text, &[]);
    assert_eq!(told.lines().count(), 201);
    assert!(told.ends_with(": 4800 more errors"), "{}", &told[told.len() - 100..]);
}

#[test]
fn deep_nesting_and_size_are_refused() {
    let told = errors(&format!("[stages.a]\nkind = \"dataset\"\nfiles = {}1{}\n", "[".repeat(60), "]".repeat(60)), &[]);
    assert!(told.contains("nested too deeply"), "{told}");
    for bomb in [
        "[".repeat(100_000),
        format!("x = {}", "[".repeat(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
        "a.".repeat(100_000),
        format!("[{}a]", "a.".repeat(100_000)),
    ] {
        assert!(!errors(&bomb, &[]).is_empty());
    }
    assert_eq!(errors(&" ".repeat((16 << 20) + 1), &[]), "p.toml:1:1: the file is too large: a pipeline has at most 16 MiB");
}

#[test]
fn columns_count_letters() {
    assert_eq!(
        errors("[stages.d]\nkind = \"dataset\" # é\nfiles = [\"é\", 3]\n", &[]),
        "p.toml:3:15: `files.1` wants a path: this is a whole number"
    );
    assert_eq!(
        errors("\u{feff}nmae = 1\r\nseed = \"x\"\r\n[stages.d]\r\nkind = \"dataset\"\r\n", &[]).lines().last().unwrap(),
        "p.toml:2:8: `seed` wants a whole number, 0 or more: this is text"
    );
}

#[test]
fn files_are_looked_for_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    std::fs::write(folder.path().join("a"), "").unwrap();
    std::fs::write(&file, "[stages.d]\nkind = \"dataset\"\ntrain = \"a\"\nfiles = [\"b\", \"~/c\"]\n").unwrap();
    let pipeline = Pipeline::load(&file, &kinds(), &[]).unwrap();
    assert_eq!(pipeline.folder, folder.path());
    let at = folder.path().display();
    assert_eq!(
        pipeline.check_files().unwrap_err().to_string(),
        format!(
            "{at}/p.toml:4:10: `{at}/b` does not exist\n{at}/p.toml:4:15: `{at}/~/c` does not exist (`~` is not replaced; write the whole path)"
        )
    );
    std::fs::write(&file, "[stages.d]\nkind = \"dataset\"\ntrain = \"a\"\n").unwrap();
    Pipeline::load(&file, &kinds(), &[]).unwrap().check_files().unwrap();
}

#[test]
fn a_file_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Pipeline::load(&folder.path().join("x.toml"), &kinds(), &[]).unwrap_err();
    assert!(matches!(missing, LoadError::Io { .. }) && missing.to_string().contains("x.toml: "), "{missing}");
    let file = folder.path().join("p.toml");
    std::fs::write(&file, b"name = \"a\"\nseed = \xff\n").unwrap();
    let told = Pipeline::load(&file, &kinds(), &[]).unwrap_err().to_string();
    assert!(told.ends_with("p.toml:2:8: the file is not UTF-8 text from here on"), "{told}");
}

#[test]
fn kinds_are_found_by_name() {
    let kinds: Kinds = kinds();
    assert_eq!(kinds.get("train").unwrap().name(), "train");
    assert!(kinds.get("trian").is_none());
    assert_eq!(kinds.nearest("trian"), Some("train"));
    assert_eq!(kinds.iter().count(), 5);
}
