//! What a stage's result is made from.

use std::collections::BTreeMap;

use qapipe_cache::{Digest, Hasher};
use serde_json::Value;

use crate::pipeline::StageSpec;

/// Hints that no bit of a result hangs on, on a device and with a number of threads that are told apart from them.
pub const NEUTRAL_HINTS: [&str; 4] = ["device", "threads", "exclusive", "checkpoint_seconds"];

/// The named ingredients of a fingerprint (`kind`, `version`, `params.train.lr`, `input.model`, `seed`) as short texts.
/// Stored in the action record, so that `why` can compare.
pub type Facets = BTreeMap<String, String>;

/// The digest of all facets: equal fingerprints, equal results.
#[must_use]
pub fn fingerprint(facets: &Facets) -> Digest {
    let mut hasher = Hasher::new("qapipe fingerprint 1");
    for (name, value) in facets {
        hasher.field(name, value.as_bytes());
    }
    hasher.finish()
}

/// All facets of a stage, given the digests of what it reads by parameter.
#[must_use]
pub fn facets(spec: &StageSpec, inputs: &[(String, Digest)], device: Option<&str>) -> Facets {
    let mut facets = Facets::new();
    facets.insert("kind".into(), spec.kind.name().into());
    facets.insert("version".into(), spec.kind.version().to_string());
    let mut name = "params".to_owned();
    for (param, value) in &spec.explicit.0 {
        if param == "outputs" {
            facets.insert("params.outputs".into(), names_of_outputs(spec).to_string());
        } else {
            below(&mut name, param, |name| flatten(name, value, &mut facets));
        }
    }
    for (param, digest) in inputs {
        facets.insert(format!("input.{param}"), digest.to_string());
    }
    if spec.kind.seeded() {
        facets.insert("seed".into(), spec.seed.to_string());
    }
    if let Some(device) = device {
        facets.insert("device".into(), device.to_owned());
    }
    facets
}

/// Where an output is put besides determines nothing: only the names of the outputs count.
fn names_of_outputs(spec: &StageSpec) -> Value {
    let mut names: Vec<&str> = spec.outputs.iter().map(|output| output.name.as_str()).collect();
    names.sort_unstable();
    Value::from(names)
}

/// Tables become dotted names; everything else is compact JSON.
fn flatten(name: &mut String, value: &Value, facets: &mut Facets) {
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| below(name, key, |name| flatten(name, value, facets))),
        other => {
            facets.insert(name.clone(), other.to_string());
        }
    }
}

/// Does something with the dotted name of what is in a table.
fn below(name: &mut String, key: &str, with: impl FnOnce(&mut String)) {
    let outer = name.len();
    name.push('.');
    name.push_str(key);
    with(name);
    name.truncate(outer);
}
