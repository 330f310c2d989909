//! Records of toys.

use std::collections::BTreeMap;

use qapipe_cache::{Artifact, Digest, RECORD_FORMAT, Record};

/// The record of a stage `a`, of which nothing is known but what it gave.
pub(crate) fn record<'a>(fingerprint: Digest, outputs: impl IntoIterator<Item = (&'a str, Artifact)>) -> Record {
    Record {
        format: RECORD_FORMAT,
        fingerprint,
        kind: "toy".into(),
        stage: "a".into(),
        pipeline: "p".into(),
        run: "r".into(),
        outputs: outputs.into_iter().map(|(name, artifact)| (name.to_owned(), artifact)).collect(),
        facets: BTreeMap::new(),
        cost: BTreeMap::new(),
        provenance: BTreeMap::new(),
    }
}
