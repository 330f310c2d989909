//! Every kind is held to the same standard.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::Path;

use qapipe_engine::{Kinds, Param, Pipeline, Place, Ty, Values};
use qapipe_stages::KINDS;
use serde_json::{Value, json};

fn params(of: &'static [Param], found: &mut Vec<&'static Param>) {
    for param in of {
        found.push(param);
        if let Ty::Table(inner) = param.ty {
            params(inner, found);
        }
    }
}

#[test]
fn every_kind_and_parameter_is_documented() {
    let mut names = HashSet::new();
    for kind in KINDS {
        assert!(names.insert(kind.name()), "{} is listed twice", kind.name());
        let first = kind.doc().lines().next().unwrap();
        assert!(first.ends_with('.') && first.len() < 140, "{}: {first}", kind.name());
        let mut all = Vec::new();
        params(kind.params(), &mut all);
        for param in all {
            let doc = param.doc;
            assert!(
                doc.ends_with('.') && !doc.starts_with(|c: char| c.is_lowercase()) && doc.len() < 200,
                "{}.{}: {doc}",
                kind.name(),
                param.name
            );
        }
        let own: HashSet<&str> = kind.params().iter().map(|param| param.name).collect();
        assert_eq!(own.len(), kind.params().len());
        assert!(kind.version() > 0);
    }
}

#[test]
fn kinds_that_run_in_a_worker_refuse_to_run_here() {
    let here: Vec<&str> = KINDS.iter().filter(|kind| kind.place() == Place::Here).map(|kind| kind.name()).collect();
    assert_eq!(here, ["command", "dataset", "tokenize"]);
}

#[test]
fn the_pipeline_of_the_readme_checks() {
    let text = r#"
        [stages.squad]
        kind = "dataset"
        source = "sample"
        [stages.base]
        kind = "checkpoint"
        config = { hidden_size = 64, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 256 }
        vocabulary = "@squad"
        vocab_size = 2000
        [stages.features]
        kind = "tokenize"
        dataset = "@squad"
        model = "@base"
        max_length = 128
        stride = 32
        [stages.tuned]
        kind = "fine-tune"
        model = "@base"
        data = "@features"
        train = { epochs = 20, lr = 2e-3, holdout = 0.1, evaluations = 1, keep = "best" }
        hints = { micro_batch_tokens = 4096 }
        [stages.scores]
        kind = "evaluate"
        model = "@tuned"
        data = "@features"
    "#;
    let pipeline = Pipeline::parse(text, Path::new("readme.toml"), &Kinds::new(KINDS), &[]).unwrap();
    let tuned = pipeline.stages.iter().find(|stage| stage.name == "tuned").unwrap();
    assert_eq!(tuned.values.get("train.batch"), Some(&json!(32)));
    let wrong = text.replace("data = \"@features\"\n        train", "data = \"@squad\"\n        train");
    let error = Pipeline::parse(&wrong, Path::new("readme.toml"), &Kinds::new(KINDS), &[]).unwrap_err();
    assert!(format!("{error:?}").contains("`@squad` is an examples table; `data` wants a features table"), "{error:?}");
}

fn refused(kind: &str, values: Value) -> String {
    let kind = KINDS.iter().find(|known| known.name() == kind).unwrap();
    kind.check(&Values(values.as_object().unwrap().clone())).unwrap_err().message
}

#[test]
fn values_that_exclude_each_other_are_refused_before_running() {
    assert!(refused("checkpoint", json!({})).contains("neither `source` nor `config`"));
    assert!(refused("checkpoint", json!({ "source": "x", "config": {} })).contains("exclude each other"));
    assert!(refused("checkpoint", json!({ "config": {} })).contains("needs `vocabulary` or `tokenizer`"));
    assert!(refused("checkpoint", json!({ "config": {}, "vocabulary": "@a", "tokenizer": "b" })).contains("exclude each other"));
    assert!(refused("checkpoint", json!({ "source": "x", "vocabulary": "@a" })).contains("goes with `config`"));
    let heads = json!({ "config": { "hidden_size": 10, "num_attention_heads": 3 }, "vocabulary": "@a" });
    assert_eq!(refused("checkpoint", heads), "3 heads do not divide a hidden_size of 10");
    assert!(refused("fine-tune", json!({ "train": { "evaluations": 2, "holdout": 0.0, "keep": "last" } })).contains("held-out"));
    assert!(refused("fine-tune", json!({ "train": { "evaluations": 0, "holdout": 0.1, "keep": "best" } })).contains("needs evaluations"));
    assert!(refused("tokenize", json!({ "max_length": 64, "stride": 61 })).contains("leaves no room"));
}

#[test]
fn a_prompt_that_cannot_be_is_refused_where_it_stands() {
    let kind = KINDS.iter().find(|kind| kind.name() == "prompt").unwrap();
    let refused = |values: Value| {
        let Value::Object(map) = values else { unreachable!() };
        kind.check(&Values(map)).unwrap_err()
    };
    let stop = refused(json!({"stop": ["\n", ""]}));
    assert!(stop.param == "stop" && stop.message.contains("an empty text"), "{stop:?}");
    assert_eq!(refused(json!({"template": "{context}"})).param, "template");
    assert_eq!(refused(json!({"context": false, "template": "{context} {question}"})).param, "context");
}

#[test]
fn a_student_that_cannot_be_is_refused_where_it_stands() {
    let kind = KINDS.iter().find(|kind| kind.name() == "distil").unwrap();
    let refused = |values: Value| {
        let Value::Object(map) = values else { unreachable!() };
        kind.check(&Values(map)).unwrap_err()
    };
    let neither = refused(json!({ "teacher_share": 0.5 }));
    assert!(neither.message == "there is no student" && neither.help.unwrap().contains("layers = [0, 2, 4]"));
    let both = refused(json!({ "model": "@a", "layers": [0] }));
    assert!(both.param == "layers" && both.message.contains("a model of its own"), "{both:?}");
    assert_eq!(refused(json!({ "model": "@a", "decoder_layers": [0] })).param, "decoder_layers");
    for list in [json!([]), json!([1, 0]), json!([1, 1])] {
        let error = refused(json!({ "layers": list, "teacher_share": 0.5 }));
        assert_eq!((error.param.as_str(), error.message.as_str()), ("layers", "names at least one layer, each once, ascending"));
        assert_eq!(refused(json!({ "layers": [0], "decoder_layers": list })).param, "decoder_layers");
    }
    let idle = refused(json!({ "layers": [0], "teacher_share": 0.0, "hidden": 0.0, "attention": 0.0 }));
    assert_eq!((idle.param.as_str(), idle.message.as_str()), ("teacher_share", "nothing of the teacher counts"));
    let hidden = json!({ "layers": [0], "teacher_share": 0.0, "hidden": 1.0 });
    assert!(kind.check(&Values(hidden.as_object().unwrap().clone())).is_ok());
}

/// What is wrong with a pipeline of models that are made from one another.
fn wrong(stages: &[(&str, &str, &str)]) -> Vec<String> {
    let begun = r#"
        [stages.base]
        kind = "checkpoint"
        source = "model"
        [stages.features]
        kind = "tokenize"
        dataset = "@squad"
        model = "@base"
        [stages.squad]
        kind = "dataset"
        source = "sample"
    "#;
    let stage = |(name, kind, more): &(&str, &str, &str)| format!("[stages.{name}]\nkind = \"{kind}\"\n{more}\n");
    let text = begun.to_owned() + &stages.iter().map(stage).collect::<String>();
    match Pipeline::parse(&text, Path::new("models.toml"), &Kinds::new(KINDS), &[]) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.into_iter().map(|error| error.message).collect(),
    }
}

#[test]
fn models_that_cannot_be_made_from_one_another_are_refused_before_running() {
    let train = "data = \"@features\"\n";
    let of = |model: &str| format!("{train}model = \"@{model}\"");
    let (base, nf4, lora, half, again) = (of("base"), of("nf4"), of("lora"), of("half") + "\nsparsity = 0.5", of("again"));
    let scheme = |model: &str| format!("model = \"@{model}\"\nscheme = \"nf4\"");
    let (packed, pruned) = (scheme("base"), base.clone() + "\nsparsity = 0.5");
    let begun = [
        ("nf4", "quantize", packed.as_str()),
        ("lora", "lora-adapt", &base),
        ("half", "prune", &pruned),
        ("again", "fine-tune", &of("half")),
    ];
    let refused = |kind: &str, more: &str| {
        let errors = wrong(&[begun.as_slice(), &[("last", kind, more)]].concat());
        assert!(errors.len() < 2, "{errors:?}");
        errors.into_iter().next().unwrap_or_default()
    };
    assert_eq!(refused("quantize", &scheme("nf4")), "`@nf4` is quantized already");
    assert_eq!(refused("quantize", &scheme("lora")), "`@lora` is an adapter beside frozen weights");
    assert_eq!(refused("fine-tune", &nf4), "`@nf4` is quantized, and quantized weights do not train");
    assert_eq!(refused("fine-tune", &lora), "`@lora` is an adapter beside frozen weights");
    assert_eq!(refused("lora-adapt", &lora), "`@lora` is an adapter beside frozen weights");
    let sparse = |stage: &str| format!("{stage}\nsparsity = 0.5");
    assert_eq!(refused("prune", &sparse(&nf4)), "`@nf4` is quantized, and has no single weights to leave out");
    assert_eq!(refused("prune", &half), "the matrices of `@half` are pruned already, by `half`");
    assert_eq!(refused("prune", &sparse(&again)), "the matrices of `@again` are pruned already, by `half`");
    assert_eq!(refused("distil", &format!("teacher = \"@base\"\n{nf4}")), "`@nf4` is quantized, and quantized weights do not train");
    assert_eq!(refused("checkpoint", "source = \"adapters\"\nbase = \"@lora\""), "`@lora` is an adapter beside frozen weights");
    for (kind, more) in [
        ("lora-adapt", nf4.as_str()),
        ("quantize", &scheme("half")),
        ("prune", &format!("{}\ntargets = [\"query\"]", sparse(&again))),
        ("distil", &format!("teacher = \"@lora\"\nlayers = [0]\n{train}")),
        ("export", "model = \"@lora\""),
        ("evaluate", &lora),
    ] {
        assert_eq!(refused(kind, more), "", "{kind} {more}");
    }
}
