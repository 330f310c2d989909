//! What a stage's result is made from.

use std::borrow::Cow;
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
    digest(facets.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// All facets of a stage, given the digests of what it reads by parameter.
#[must_use]
pub fn facets(spec: &StageSpec, inputs: &[(String, Digest)], device: Option<&str>) -> Facets {
    let named = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
    list(spec, inputs, device).into_iter().map(named).collect()
}

/// The digest of all facets of a stage. Most stages need no more of them: their results are there.
pub(crate) fn fingerprint_of(spec: &StageSpec, inputs: &[(String, Digest)], device: Option<&str>) -> Digest {
    let mut list = list(spec, inputs, device);
    list.sort_unstable();
    digest(list.iter().map(|(name, value)| (name.as_ref(), value.as_ref())))
}

/// Takes facets in the order of their names.
fn digest<'a>(facets: impl Iterator<Item = (&'a str, &'a str)>) -> Digest {
    let mut hasher = Hasher::new("qapipe fingerprint 1");
    facets.for_each(|(name, value)| hasher.field(name, value.as_bytes()));
    hasher.finish()
}

/// Names and values of facets, each name once.
type List<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

fn list<'a>(spec: &'a StageSpec, inputs: &'a [(String, Digest)], device: Option<&'a str>) -> List<'a> {
    let mut list = Vec::with_capacity(8);
    list.extend(device.map(|device| ("device".into(), device.into())));
    list.extend(inputs.iter().map(|(param, digest)| (["input.", param].concat().into(), digest.to_string().into())));
    list.push(("kind".into(), spec.kind.name().into()));
    let mut name = "params".to_owned();
    for (param, value) in &spec.explicit.0 {
        if param == "outputs" {
            list.push(("params.outputs".into(), names_of_outputs(spec).to_string().into()));
        } else {
            below(&mut name, param, |name| flatten(name, value, &mut list));
        }
    }
    if spec.kind.seeded() {
        list.push(("seed".into(), spec.seed.to_string().into()));
    }
    list.push(("version".into(), spec.kind.version().to_string().into()));
    list
}

/// Where an output is put besides determines nothing: only the names of the outputs count.
fn names_of_outputs(spec: &StageSpec) -> Value {
    let mut names: Vec<&str> = spec.outputs.iter().map(|output| output.name.as_str()).collect();
    names.sort_unstable();
    Value::from(names)
}

/// Tables become dotted names; everything else is compact JSON.
fn flatten(name: &mut String, value: &Value, list: &mut List<'_>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| below(name, key, |name| flatten(name, value, list))),
        other => {
            list.push((name.clone().into(), other.to_string().into()));
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
