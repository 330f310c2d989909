//! `quantize`: packs a model's weights into fewer bits.

use qapipe_engine::{Accepts, ArtifactType, Default, Invalid, Lineage, OutputSpec, Param, Place, StageKind, Ty, Values};

use super::choice::{A_MODEL, EXCLUDE, ROLES, TARGETS, written_in};
use super::weights;
use crate::features::TRAIN_FILES;

/// Quantization of a model.
pub struct Quantize;

const PARAMS: &[Param] = &[
    Param::required("model", A_MODEL, "The model to quantize."),
    Param::required(
        "scheme",
        Ty::Choice(&["int8", "nf4", "int4"]),
        "What weights become: eight bits, four of NormalFloat, or four by groups.",
    ),
    Param::with("double_quant", Ty::Bool, Default::Bool(true), "With nf4: keep the scales of blocks in eight bits as well."),
    Param::with("block", Ty::Int { min: 64, max: 4096 }, Default::Int(64), "With nf4: numbers that share a scale, a power of two."),
    Param::with(
        "group",
        Ty::Int { min: 8, max: 65_536 },
        Default::Int(128),
        "With int4: inputs of a row that share a scale and a minimum.",
    ),
    Param::optional(
        "calibrate",
        Ty::Ref(Accepts { types: &[ArtifactType::FEATURES], part: TRAIN_FILES }),
        "For int4: windows to see which inputs matter; without it all matter alike.",
    ),
    Param::with("calibration_windows", Ty::Int { min: 1, max: 1_000_000 }, Default::Int(128), "How many of them to look at, evenly taken."),
    Param::with(
        "activations",
        Ty::Choice(&["plain", "dynamic"]),
        Default::Str("plain"),
        "With int8: multiply with states as they are (weight-only), or with states that are brought into eight bits as well.",
    ),
    Param::optional(
        "outliers",
        Ty::Float { min: 1e-3, max: 1e9 },
        "With int8 and dynamic activations: features of states that exceed this stay as they are (LLM.int8() takes 6).",
    ),
    TARGETS,
    EXCLUDE,
    ROLES,
    written_in("rest", "float16", "What all other weights are stored in: embeddings, norms, biases, heads."),
];

impl StageKind for Quantize {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Packs the weights of a model into eight or four bits. Nothing is trained.\n\n\
         int8 has a scale a row; nf4 is QLoRA's NormalFloat in blocks of 64, with double quantization; both are bitsandbytes's bytes under \
         bitsandbytes's names. int4 has a scale and a minimum a group, and may be calibrated. What is stored is what is used: weights are \
         unpacked whenever they are multiplied with. Embeddings and heads are left, unless named. Transformers keeps T5's `wo` in full: \
         `exclude = [\"wo\"]` gives files that it loads. A quantized model is trained further by lora-adapt."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("model", ArtifactType::MODEL)]
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        let scheme = values.text("scheme").unwrap_or_default();
        let only = |param: &str, of: &str| Err(Invalid::new(param, format!("`{param}` is of scheme {of}, and the scheme is {scheme}")));
        let number = |param: &str| values.get(param).and_then(serde_json::Value::as_i64);
        if scheme != "nf4" && values.get("double_quant").and_then(serde_json::Value::as_bool) == Some(false) {
            return only("double_quant", "nf4");
        }
        if number("block").is_some_and(|block| block.count_ones() != 1) {
            return Err(Invalid::new("block", "a block is 64, 128, 256, 512, 1024, 2048 or 4096 numbers"));
        }
        if scheme != "nf4" && number("block") != Some(64) {
            return only("block", "nf4");
        }
        if scheme != "int4" && number("group") != Some(128) {
            return only("group", "int4");
        }
        if scheme != "int4" && values.has("calibrate") {
            return only("calibrate", "int4");
        }
        let dynamic = values.text("activations") == Some("dynamic");
        if scheme != "int8" && dynamic {
            return only("activations", "int8");
        }
        if !dynamic && values.has("outliers") {
            return Err(Invalid::new("outliers", "outliers stay apart where states are brought into eight bits")
                .help("write `activations = \"dynamic\"`"));
        }
        Ok(())
    }

    fn check_inputs(&self, stage: Lineage<'_>) -> Result<(), Invalid> {
        weights::plain(stage, "model")
    }

    fn place(&self) -> Place {
        Place::Worker
    }
}
