//! Properties: no text makes the language panic, and the canonical form says the same for the same meaning.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::toys::{good, kinds, later_kinds};
use proptest::prelude::*;
use qapipe_engine::{Graph, Kinds, Override, Pipeline, schema};
use serde_json::Value;

const BEFORE: &str = "[stages.d]\nkind = \"dataset\"\n[stages.m]\nkind = \"checkpoint\"\nsource = \"w\"\n[stages.f]\nkind = \"tokenize\"\ndataset = \"@d\"\nmodel = \"@m\"\n[stages.x]\nkind = \"train\"\nmodel = \"@m\"\ndata = \"@f\"\n";

/// The canonical form of a `train` stage with these lines.
fn explicit_with(kinds: &Kinds, lines: &str) -> String {
    let text = format!("{BEFORE}{lines}");
    let pipeline = Pipeline::parse(&text, "p.toml".as_ref(), kinds, &[]).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    serde_json::to_string(&pipeline.stage("x").unwrap().explicit).unwrap()
}

fn explicit(lines: &str) -> String {
    explicit_with(&kinds(), lines)
}

#[test]
fn numbers_have_one_form() {
    assert_eq!(explicit("train = { lr = 1e-4 }"), explicit("train = { lr = 0.0001 }"));
    assert_eq!(explicit("alpha = 3"), explicit("alpha = 3.0"));
    assert_eq!(explicit("alpha = 0"), explicit("alpha = -0.0"));
    assert_eq!(explicit("rank = 0x10"), explicit("rank = 1_6"));
    assert_eq!(explicit("alpha = 3"), r#"{"alpha":3.0}"#);
}

#[test]
fn what_holds_anyway_is_left_out() {
    let all = "rank = 8\nalpha = 16\nscheme = \"nf4\"\ndouble = false\nlimit = \"all\"\ntrain = { lr = 0.001, epochs = 2, warmup = 0 }\nhints = { batch = 3 }\n";
    assert_eq!(explicit(all), "{}");
    assert_eq!(explicit("train = {}"), "{}");
    assert_eq!(explicit("hints = { batch = 1, threads = 3, device = \"cpu\" }"), "{}");
}

#[test]
fn keys_are_sorted() {
    assert_eq!(
        explicit("train = { warmup = 0.5, lr = 0.5 }\nscheme = \"int4\"\nalpha = 1"),
        r#"{"alpha":1.0,"scheme":"int4","train":{"lr":0.5,"warmup":0.5}}"#
    );
}

/// One line of a `train` stage that fits.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        (1..=1024).prop_map(|rank| format!("rank = {rank}")),
        (0.0..1e6).prop_map(|alpha: f64| format!("alpha = {alpha:?}")),
        (0..1000).prop_map(|alpha| format!("alpha = {alpha}")),
        prop_oneof![Just("nf4"), Just("int8"), Just("int4")].prop_map(|scheme| format!("scheme = \"{scheme}\"")),
        any::<bool>().prop_map(|double| format!("double = {double}")),
        prop_oneof![Just("\"all\"".to_owned()), (0.0..=1.0).prop_map(|limit: f64| format!("{limit:?}"))]
            .prop_map(|limit| format!("limit = {limit}")),
        (0.0..=1.0, 1..9).prop_map(|(lr, epochs): (f64, i32)| format!("train = {{ lr = {lr:?}, epochs = {epochs} }}")),
        (1..=4096).prop_map(|batch| format!("hints = {{ batch = {batch} }}")),
    ]
}

/// Lines with different keys, in any order.
fn lines() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(line(), 0..8).prop_map(|mut lines| {
        let mut seen = std::collections::HashSet::new();
        lines.retain(|line| seen.insert(line.split(' ').next().unwrap().to_owned()));
        lines
    })
}

fn sorted(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.keys().is_sorted() && map.values().all(sorted),
        Value::Array(items) => items.iter().all(sorted),
        _ => true,
    }
}

proptest! {
    #[test]
    fn order_and_new_parameters_change_nothing(lines in lines(), swap in any::<prop::sample::Index>()) {
        let first = explicit(&lines.join("\n"));
        let mut turned = lines.clone();
        if !turned.is_empty() {
            let at = swap.index(turned.len());
            turned.rotate_left(at);
        }
        prop_assert_eq!(&first, &explicit(&turned.join("\n")));
        prop_assert_eq!(&first, &explicit_with(&later_kinds(), &lines.join("\n")));
        prop_assert!(sorted(&serde_json::from_str(&first).unwrap()));
    }

    #[test]
    fn writing_the_values_out_changes_nothing(lines in lines()) {
        let text = format!("{BEFORE}{}", lines.join("\n"));
        let pipeline = good(&text, &[]);
        let stage = pipeline.stage("x").unwrap();
        let whole = stage.values.0.iter().filter(|(key, _)| *key != "model" && *key != "data").map(|(key, value)| match value {
            Value::Object(map) => format!("{key} = {{ {} }}", map.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", ")),
            value => format!("{key} = {value}"),
        });
        let whole = whole.collect::<Vec<_>>().join("\n");
        prop_assert_eq!(serde_json::to_string(&stage.explicit).unwrap(), explicit(&whole));
    }

    #[test]
    fn variables_and_overrides_say_the_same_as_the_file(rank in 1..=1024, lr in 0.0..=1.0f64) {
        let plain = explicit(&format!("rank = {rank}\ntrain = {{ lr = {lr:?} }}"));
        let text = format!("[vars]\nr = {rank}\nl = {lr:?}\n{BEFORE}rank = \"${{vars.r}}\"\ntrain = {{ lr = \"${{vars.l}}\" }}");
        prop_assert_eq!(&plain, &serde_json::to_string(&good(&text, &[]).stage("x").unwrap().explicit).unwrap());
        let pipeline = good(BEFORE, &[&format!("stages.x.rank={rank}"), &format!("stages.x.train.lr={lr:?}")]);
        prop_assert_eq!(&plain, &serde_json::to_string(&pipeline.stage("x").unwrap().explicit).unwrap());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        tell(&String::from_utf8_lossy(&bytes), &[]);
    }

    #[test]
    fn no_text_panics(text in "\\PC*", path in "\\PC{0,20}", value in "\\PC*") {
        tell(&text, &[Override { path, value, sweep: false }]);
    }

    #[test]
    fn nothing_like_a_pipeline_panics(pieces in proptest::collection::vec(piece(), 0..40), sets in proptest::collection::vec((path(), piece()), 0..4)) {
        for sweep in [false, true] {
            let sets: Vec<Override> = sets.iter().cloned().map(|(path, value)| Override { path, value, sweep }).collect();
            tell(&pieces.concat(), &sets);
        }
    }
}

/// Something that a pipeline file might hold.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "[stages.a]\n",
        "[stages.b]\n",
        "[stages.\"é\"]\n",
        "[vars]\n",
        "[matrix]\n",
        "x = [1, 2]\n",
        "rank = [\"a\", \"@b\", 3.5]\n",
        "exclude = [{ x = 1 }]\n",
        "include = [{ x = 3, rank = 1 }]\n",
        "rank = \"${matrix.x}\"\n",
        "x = \"${matrix.rank}\"\n",
        "model = \"@a[x=1]\"\n",
        "data = \"@b[x=1,rank=3.5].y\"\n",
        "[[stages.a]]\n",
        "[stages.a.train]\n",
        "kind = \"train\"\n",
        "kind = \"command\"\n",
        "kind = \"dataset\"\n",
        "model = \"@a\"\n",
        "model = \"@b.y\"\n",
        "data = \"@a.model\"\n",
        "x = \"${vars.y}\"\n",
        "y = \"a${vars.x}\"\n",
        "rank = \"${vars.x}\"\n",
        "inputs = { x = \"@b\", z = \"out/y\" }\n",
        "outputs = { y = \"out/y\" }\n",
        "outputs = [\"y\"]\n",
        "run = [\"${vars.x}\", 1]\n",
        "train = 1\n",
        "hints = { device = 3 }\n",
        "stages = 3\n",
        "vars = []\n",
        "seed = 1\n",
        "name = \"é\"\n",
        "[1]",
        "{ a = 1 }",
        "\"",
        "'",
        "\n",
        "3",
        "\\",
        "${",
        "é",
        "train.lr = 3\n",
        "files = [\"é\", 1979-01-01]\n",
        "outputs = { y = \"../x\" }\n",
        "limit = \"é\"\n",
        "[",
        "]",
        "=",
        ".",
    ];
    prop_oneof![9 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

/// Something that an override might set.
fn path() -> impl Strategy<Value = String> {
    let paths = [
        "seed",
        "vars.x",
        "matrix.x",
        "stages.a.rank",
        "stages.a.train.lr",
        "stages.a.train",
        "stages.b.inputs.x",
        "stages.b.run.0",
        "stages.b.run.0.1",
        "stages.a.hints.device",
        "stages.a.hints",
        "stages.é.x",
        "..",
        "",
    ];
    proptest::sample::select(paths.to_vec()).prop_map(str::to_owned)
}

/// Loads a text and does with it all that can be done; whatever comes of it must be tellable.
fn tell(text: &str, overrides: &[Override]) {
    match Pipeline::parse(text, "p.toml".as_ref(), &kinds(), overrides) {
        Ok(pipeline) => {
            let graph = Graph::of(&pipeline);
            assert_eq!(graph.len(), graph.order().len());
            let _ = (graph.folded().to_svg(), graph.to_text(), graph.to_dot(), graph.to_mermaid(), graph.to_svg(), pipeline.check_files());
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            assert!(errors.0.iter().all(|error| error.span.start <= error.span.end && !error.message.contains('\n')), "{errors}");
            let _ = errors.to_string();
        }
    }
}

#[test]
fn the_schema_describes_every_kind() {
    let schema = schema(&kinds());
    let definitions = schema["$defs"].as_object().unwrap();
    for kind in kinds().iter() {
        let properties = &definitions[&format!("kind.{}", kind.name())]["properties"];
        for param in kind.params() {
            let hint = properties["hints"]["properties"].get(param.name);
            assert!(
                properties.get(param.name).or(hint).is_some_and(|property| property["description"].is_string()),
                "{} {}",
                kind.name(),
                param.name
            );
        }
    }
}
