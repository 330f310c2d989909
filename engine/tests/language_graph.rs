//! The graph of a pipeline: order, reach, and the pictures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::toys::{good, kinds};
use proptest::prelude::*;
use qapipe_engine::{Accepts, ArtifactType, Graph, Param, Pipeline, Ty, schema, ty_text};
use serde_json::{Value, json};

const STUDY: &str = r#"name = "study"
[stages.scores]
kind = "command"
run = ["score"]
inputs = { model = "@lora", log = "@lora.log", data = "@squad" }
outputs = ["table"]
[stages.lora]
kind = "train"
model = "@base"
data = "@features"
[stages.features]
kind = "tokenize"
dataset = "@squad"
model = "@base"
[stages.squad]
kind = "dataset"
[stages.base]
kind = "checkpoint"
source = "hub:a/b"
[stages.alone]
kind = "dataset"
"#;

fn names(pipeline: &Pipeline, stages: &[usize]) -> Vec<String> {
    stages.iter().map(|&stage| pipeline.stages[stage].name.clone()).collect()
}

#[test]
fn order_and_reach() {
    let pipeline = good(STUDY, &[]);
    let graph = Graph::of(&pipeline);
    let at = |name: &str| pipeline.index(name).unwrap();
    assert_eq!(names(&pipeline, graph.order()), ["squad", "base", "features", "lora", "scores", "alone"]);
    assert_eq!(names(&pipeline, &graph.dependencies(at("scores"))), ["lora", "squad"]);
    assert_eq!(names(&pipeline, &graph.dependents(at("squad"))), ["scores", "features"]);
    assert_eq!(names(&pipeline, &graph.ancestors(at("lora"))), ["squad", "base", "features"]);
    assert_eq!(names(&pipeline, &graph.descendants(at("base"))), ["features", "lora", "scores"]);
    assert_eq!(
        names(&pipeline, &graph.subset(&["features".to_owned(), "alone".to_owned()]).unwrap()),
        ["squad", "base", "features", "alone"]
    );
    assert_eq!(graph.subset(&[]).unwrap(), graph.order());
    assert_eq!(graph.subset(&["lroa".to_owned()]).unwrap_err().to_string(), "no stage `lroa` (did you mean `lora`?)");
}

#[test]
fn text() {
    let graph = Graph::of(&good(STUDY, &[]));
    let want = "\
squad         dataset
base          checkpoint
  features    tokenize    dataset @squad, model @base
    lora      train       model @base, data @features
      scores  command     inputs.model @lora, inputs.log @lora.log, inputs.data @squad
alone         dataset
";
    assert_eq!(graph.to_text(), want);
}

#[test]
fn dot_and_mermaid() {
    let graph = Graph::of(&good(
        "name = \"p\"\n[stages.a]\nkind = \"dataset\"\n[stages.b]\nkind = \"tokenize\"\ndataset = \"@a\"\nmodel = \"w\"\n",
        &[],
    ));
    let dot = "digraph \"p\" {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n  \"a\" [label=\"a\\ndataset\"];\n  \"b\" [label=\"b\\ntokenize\"];\n  \"a\" -> \"b\" [label=\"dataset\"];\n}\n";
    assert_eq!(graph.to_dot(), dot);
    assert_eq!(
        graph.to_mermaid(),
        "flowchart LR\n  s0[\"a<br/><i>dataset</i>\"]\n  s1[\"b<br/><i>tokenize</i>\"]\n  s0 -->|\"dataset\"| s1\n"
    );
}

#[test]
fn svg_is_well_formed_and_nothing_overlaps() {
    let svg = Graph::of(&good(STUDY, &[])).to_svg();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<g>").count(), 6);
    assert_eq!(svg.matches("marker-end").count(), 7);
    assert!(!svg.contains("href") && !svg.contains("script"));
    let number =
        |text: &str, key: &str| text.split(&format!(" {key}=\"")).nth(1).unwrap().split('"').next().unwrap().parse::<i64>().unwrap();
    let boxes: Vec<(i64, i64, i64, i64)> = svg
        .lines()
        .filter(|line| line.starts_with("<g>"))
        .map(|line| (number(line, "x"), number(line, "y"), number(line, "width"), number(line, "height")))
        .collect();
    let (width, height) = (number(&svg, "width"), number(&svg, "height"));
    for (index, &(x, y, w, h)) in boxes.iter().enumerate() {
        assert!(x >= 0 && y >= 0 && x + w <= width && y + h <= height);
        for &(x2, y2, w2, h2) in &boxes[index + 1..] {
            assert!(x + w <= x2 || x2 + w2 <= x || y + h <= y2 || y2 + h2 <= y);
        }
    }
}

proptest! {
    #[test]
    fn every_stage_comes_after_what_it_reads(edges in proptest::collection::vec((0usize..30, 0usize..30), 0..80), turn in 0usize..30) {
        let place = |stage: usize| (stage + turn) % 30;
        let mut stages = vec![String::new(); 30];
        for stage in 0..30 {
            let mut from: Vec<usize> = edges.iter().filter(|(a, b)| a < b && *b == stage).map(|(a, _)| *a).collect();
            from.dedup();
            let inputs: Vec<String> = from.iter().enumerate().map(|(n, a)| format!("i{n} = \"@s{a}\"")).collect();
            stages[place(stage)] = format!("[stages.s{stage}]\nkind = \"command\"\nrun = []\ninputs = {{ {} }}\noutputs = [\"y\"]\n", inputs.join(", "));
        }
        let graph = Graph::of(&good(&stages.concat(), &[]));
        let mut position = vec![0; 30];
        for (at, &stage) in graph.order().iter().enumerate() {
            position[stage] = at;
        }
        for stage in 0..30 {
            prop_assert!(graph.dependencies(stage).iter().all(|&from| position[from] < position[stage]));
            prop_assert!(graph.ancestors(stage).iter().all(|&other| graph.descendants(other).contains(&stage)));
        }
        let again = Graph::of(&good(&stages.concat(), &[]));
        prop_assert_eq!(graph.order(), again.order());
        prop_assert_eq!(graph.to_svg(), again.to_svg());
    }
}

#[test]
fn types_in_words() {
    const MODEL: Accepts = Accepts { types: &[ArtifactType::MODEL, ArtifactType::FEATURES], part: &[] };
    const ANY: Accepts = Accepts { types: &[], part: &[] };
    const PARAMS: &[Param] = &[Param::required("a", Ty::Bool, ""), Param::required("b", Ty::Bool, "")];
    let cases = [
        (Ty::Bool, "true or false"),
        (Ty::Int { min: 1, max: 8 }, "whole number, 1 to 8"),
        (Ty::Int { min: 1, max: i64::MAX }, "whole number, 1 or more"),
        (Ty::Int { min: i64::MIN, max: 0 }, "whole number, 0 or less"),
        (Ty::Int { min: i64::MIN, max: i64::MAX }, "whole number"),
        (Ty::Float { min: 0.0, max: 1.0 }, "number, 0 to 1"),
        (Ty::Float { min: f64::NEG_INFINITY, max: f64::INFINITY }, "number"),
        (Ty::Str, "text"),
        (Ty::Choice(&["a", "b"]), "one of a | b"),
        (Ty::Path { hub: false }, "path"),
        (Ty::Path { hub: true }, "path or hub:REPO[@REVISION]"),
        (Ty::Ref(MODEL), "@model or @features"),
        (Ty::RefOrPath(ANY), "@stage or path"),
        (Ty::List(&Ty::Str), "list of text"),
        (Ty::Map(&Ty::RefOrPath(ANY)), "table of (@stage or path)"),
        (Ty::Table(PARAMS), "table with a, b"),
        (Ty::OneOf(&[Ty::Bool, Ty::Str]), "true or false, or text"),
    ];
    for (ty, words) in cases {
        assert_eq!(ty_text(&ty), words);
    }
}

#[test]
fn the_schema() {
    let schema = schema(&kinds());
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["$defs"]["stage"]["properties"]["kind"]["enum"], json!(["dataset", "checkpoint", "tokenize", "train", "command"]));
    let train = &schema["$defs"]["kind.train"];
    assert_eq!(train["required"], json!(["model", "data"]));
    let rank = json!({
        "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 1024 }, { "$ref": "#/$defs/variable" }],
        "description": "Rank of the adapters. (whole number, 1 to 1024)", "default": 8,
    });
    assert_eq!(train["properties"]["rank"], rank);
    assert_eq!(train["properties"]["train"]["properties"]["lr"]["default"], json!(1e-3));
    assert!(train["properties"]["seed"].is_object() && train["properties"]["hints"]["properties"]["threads"].is_object());
    assert!(train["properties"].get("batch").is_none());
    assert!(schema["$defs"]["kind.dataset"]["properties"].get("seed").is_none());
    references_resolve(&schema, &schema);
}

/// Every `$ref` names a definition.
fn references_resolve(value: &Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                assert!(schema.pointer(&name[1..]).is_some(), "{name}");
            }
            map.values().for_each(|value| references_resolve(value, schema));
        }
        Value::Array(items) => items.iter().for_each(|value| references_resolve(value, schema)),
        _ => {}
    }
}
