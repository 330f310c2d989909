//! `export`: a model as other programs know it.

use qapipe_engine::{ArtifactType, OutputSpec, Param, Place, StageKind, Values};

use super::choice::{A_MODEL, written_in};

/// Writing a model with plain, dense weights.
pub struct Export;

const PARAMS: &[Param] = &[
    Param::required("model", A_MODEL, "The model, in whatever form."),
    written_in("weights", "float32", "What the weights are written in."),
];

impl StageKind for Export {
    fn name(&self) -> &'static str {
        "export"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Writes a model with plain, dense weights, as Transformers loads them.\n\n\
         Adapters are merged, weights that were left out are zero, and quantized ones are unpacked."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("model", ArtifactType::MODEL)]
    }

    fn place(&self) -> Place {
        Place::Worker
    }
}
