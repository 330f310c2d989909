//! What enters a fingerprint, byte for byte: other versions find results by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;

use project::Project;
use qapipe_cache::Digest;
use qapipe_engine::{Command, Facets, Kinds, Options, StageKind, facets, fingerprint};

const KINDS: &[&dyn StageKind] = &[&Command];

const STAGE: &str = r#"
[stages.a]
kind = "command"
run = ["cp", "{in.x}", "{out.y}"]
inputs = { x = "in.txt" }
outputs = { z = "out/z", y = "out/y" }
env = { B = "2", A = "1" }
"#;

fn of(pipeline: &str) -> Facets {
    let project = Project::new(Kinds::new(KINDS), pipeline);
    let engine = project.engine(Options::default());
    facets(&engine.pipeline().stages[0], &[("inputs.x".into(), Digest::of_bytes(b"x"))], None)
}

#[test]
fn golden_facets() {
    let lines: Vec<String> = of(STAGE).iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = [
        "kind=command",
        r#"params.env.A="1""#,
        r#"params.env.B="2""#,
        r#"params.outputs=["y","z"]"#,
        r#"params.run=["cp","{in.x}","{out.y}"]"#,
        "version=1",
    ];
    assert!(lines[0].starts_with("input.inputs.x=") && lines[0].len() == 15 + 64);
    assert_eq!(lines[1..], expected);
    assert_eq!(fingerprint(&of(STAGE)).to_string(), "b345c49268738bdf93fdc9e0fc38e469d0f5a72c451433d4036f7ef4352536f4");
}

#[test]
fn hints_places_and_order_determine_nothing() {
    let moved =
        STAGE.replace("{ z = \"out/z\", y = \"out/y\" }", "[\"y\", \"z\"]").replace("{ B = \"2\", A = \"1\" }", "{ A = \"1\", B = \"2\" }");
    assert_eq!(of(&moved), of(STAGE));
    assert_eq!(of(&format!("{STAGE}hints = {{ threads = 2 }}\n")), of(STAGE));
}

#[test]
fn every_facet_counts() {
    let all = of(STAGE);
    let whole = fingerprint(&all);
    for name in all.keys() {
        let mut fewer = all.clone();
        fewer.remove(name);
        assert_ne!(fingerprint(&fewer), whole, "{name}");
        let mut other = all.clone();
        other.insert(name.clone(), "other".into());
        assert_ne!(fingerprint(&other), whole, "{name}");
    }
}
