//! What a stage's result is made from.

use std::collections::BTreeMap;

use qapipe_cache::{Digest, Hasher};
use serde_json::Value;

use crate::pipeline::StageSpec;
use crate::values::Values;

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
    for (name, value) in &canonical_outputs(spec).0 {
        flatten(&format!("params.{name}"), value, &mut facets);
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
fn canonical_outputs(spec: &StageSpec) -> Values {
    let mut values = spec.explicit.clone();
    if let Some(outputs) = values.0.get_mut("outputs") {
        let mut names: Vec<&str> = spec.outputs.iter().map(|output| output.name.as_str()).collect();
        names.sort_unstable();
        *outputs = Value::from(names);
    }
    values
}

/// Tables become dotted names; everything else is compact JSON.
fn flatten(name: &str, value: &Value, facets: &mut Facets) {
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, facets)),
        other => {
            facets.insert(name.to_owned(), other.to_string());
        }
    }
}
