//! `lora-adapt`: trains adapters of low rank beside a model's frozen weights.

use qapipe_engine::{Default, Invalid, Lineage, OutputSpec, Param, Place, StageKind, Ty, Values};

use super::choice::{EXCLUDE, TARGETS};
use super::fine_tune::{CHECKPOINTS, DATA, HOW, LOG_EVERY, MICRO_BATCH, MODEL, PRECISION, check_train, model_and_log};
use super::weights;

/// Adaptation of a model.
pub struct LoraAdapt;

const PARAMS: &[Param] = &[
    MODEL,
    DATA,
    Param::with("rank", Ty::Int { min: 1, max: 65_536 }, Default::Int(8), "Rank of the adapters."),
    Param::with("alpha", Ty::Float { min: 0.0, max: 1e6 }, Default::Float(16.0), "What an adapter adds is multiplied with alpha / rank."),
    Param::with(
        "dropout",
        Ty::Float { min: 0.0, max: 0.99 },
        Default::Float(0.0),
        "Share of the input that adapters do not see in training.",
    ),
    Param::with("rslora", Ty::Bool, Default::Bool(false), "Multiply with alpha / √rank instead (rsLoRA)."),
    Param::with("dora", Ty::Bool, Default::Bool(false), "Train the length of each row of weights apart from its direction (DoRA)."),
    TARGETS,
    EXCLUDE,
    Param::optional(
        "head",
        Ty::Bool,
        "Whether the head trains too, whole; where it is left out, that of a model that points at answers does, for it is new.",
    ),
    HOW,
    PRECISION,
    MICRO_BATCH,
    LOG_EVERY,
    CHECKPOINTS,
];

impl StageKind for LoraAdapt {
    fn name(&self) -> &'static str {
        "lora-adapt"
    }

    fn version(&self) -> u32 {
        2
    }

    fn doc(&self) -> &'static str {
        "Trains adapters of low rank beside the frozen weights of a model (LoRA); on a quantized model this is QLoRA.\n\n\
         Without `targets` those of PEFT are taken: query and value of BERT, q and v of T5, in_proj and x_proj of Mamba (PEFT refuses its \
         out_proj), all matrices of the LSTM. \
         The result is a folder as PEFT reads and writes it (adapter_config.json, adapter_model.safetensors), with the model that it belongs \
         to in `base`; evaluate takes it as a model, and export merges the two. Pruned and quantized weights stay what they are."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        model_and_log()
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        check_train(values)
    }

    fn check_inputs(&self, stage: Lineage<'_>) -> Result<(), Invalid> {
        weights::unadapted(stage, "model")
    }

    fn seeded(&self) -> bool {
        true
    }

    fn place(&self) -> Place {
        Place::Worker
    }
}
