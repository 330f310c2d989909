//! `fine-tune`: trains all of a model.

use qapipe_engine::{Accepts, ArtifactType, Default, Invalid, Lineage, OutputSpec, Param, Place, StageKind, Ty, Values};

use super::choice::A_MODEL;
use super::weights;
use crate::features::TRAIN_FILES;

/// Full training of a model.
pub struct FineTune;

const SHARE: Ty = Ty::Float { min: 0.0, max: 1.0 };
const STEPS: Ty = Ty::Int { min: 1, max: 1_000_000_000 };

/// The keys of `train`: how a training goes. Every kind that trains takes the same.
pub const TRAIN: &[Param] = &[
    Param::with("epochs", Ty::Int { min: 1, max: 10_000 }, Default::Int(2), "Passes over the windows."),
    Param::optional("steps", STEPS, "At most so many optimiser steps, where the epochs have more."),
    Param::with("lr", Ty::Float { min: 0.0, max: 10.0 }, Default::Float(3e-5), "Peak learning rate."),
    Param::with("batch", Ty::Int { min: 1, max: 1_000_000 }, Default::Int(32), "Windows an optimiser step."),
    Param::optional(
        "batch_tokens",
        Ty::Int { min: 1, max: 1_000_000_000 },
        "Tokens an optimiser step, instead of `batch`: as many windows as fit, at least one.",
    ),
    Param::with("warmup", SHARE, Default::Float(0.1), "Share of the steps in which the learning rate rises from zero."),
    Param::with(
        "schedule",
        Ty::Choice(&["linear", "cosine", "constant", "inverse-sqrt"]),
        Default::Str("linear"),
        "What the learning rate does after the warm-up.",
    ),
    Param::optional("warmup_steps", STEPS, "Steps in which the learning rate rises, instead of `warmup`."),
    Param::optional(
        "schedule_steps",
        STEPS,
        "Steps that the schedule is laid out for, instead of those of the training: with more epochs later, the training goes on.",
    ),
    Param::with("weight_decay", SHARE, Default::Float(0.01), "Decoupled weight decay; biases and layer normalisation are spared."),
    Param::with(
        "l2",
        SHARE,
        Default::Float(0.0),
        "Share of the weights' sum of squares that belongs to the loss (it is not logged with it).",
    ),
    Param::with(
        "clip",
        Ty::Float { min: 0.0, max: 1e9 },
        Default::Float(1.0),
        "Largest gradient norm; larger ones are scaled down; 0 turns it off.",
    ),
    Param::with("beta1", Ty::Float { min: 0.0, max: 0.999_999 }, Default::Float(0.9), "AdamW: decay of the mean gradient."),
    Param::with("beta2", Ty::Float { min: 0.0, max: 0.999_999 }, Default::Float(0.999), "AdamW: decay of the mean squared gradient."),
    Param::with("eps", Ty::Float { min: 0.0, max: 1.0 }, Default::Float(1e-8), "AdamW: added to the root."),
    Param::with(
        "holdout",
        Ty::Float { min: 0.0, max: 0.9 },
        Default::Float(0.0),
        "Share of the train articles kept out of training: for `evaluations` and the null threshold.",
    ),
    Param::with(
        "holdout_balance",
        Ty::Bool,
        Default::Bool(false),
        "Look at as many held-out questions with an answer as without: dev of SQuAD 2.0 has as many of both, train has twice as many with one.",
    ),
    Param::with(
        "evaluations",
        Ty::Int { min: 0, max: 1000 },
        Default::Int(0),
        "Evaluations on the held-out articles, times an epoch; needs `holdout`.",
    ),
    Param::with(
        "keep",
        Ty::Choice(&["last", "best"]),
        Default::Str("last"),
        "Which weights to keep: the last, or those with the best held-out F1 at its best threshold.",
    ),
];

/// The model that a method starts from.
pub(super) const MODEL: Param = Param::required("model", A_MODEL, "The model to start from.");
/// What it learns from.
pub(super) const DATA: Param = Param::required(
    "data",
    Ty::Ref(Accepts { types: &[ArtifactType::FEATURES], part: TRAIN_FILES }),
    "The windows to learn from: their train part.",
);
/// How.
pub(super) const HOW: Param = Param::with("train", Ty::Table(TRAIN), Default::Table, "How the training goes.");
/// What a model computes in while it trains.
pub(super) const PRECISION: Param = Param::with(
    "precision",
    Ty::Choice(&["auto", "fp32", "bf16"]),
    Default::Str("auto"),
    "What the model computes in; masters are always fp32; auto: bf16 on CUDA, fp32 on the CPU.",
);
/// How much of a batch is in the model at once.
pub(super) const MICRO_BATCH: Param = Param::hint(
    "micro_batch_tokens",
    Ty::Int { min: 1, max: 1_000_000_000 },
    Default::Int(16_384),
    "Most tokens in the model at once; a larger batch is accumulated, with the same result but for rounding and for what dropout happens to drop.",
);
/// How often a training is logged.
pub(super) const LOG_EVERY: Param =
    Param::hint("log_every", Ty::Int { min: 1, max: 1_000_000 }, Default::Int(10), "Optimiser steps a row of the training log.");

/// How often a training keeps what it would go on from.
pub(super) const CHECKPOINTS: Param = Param::hint(
    "checkpoint_seconds",
    Ty::Int { min: 0, max: 1_000_000 },
    Default::Int(120),
    "Seconds between two states from which a training that is killed goes on; 0 keeps none. One that takes long to write is kept less often.",
);

const PARAMS: &[Param] = &[MODEL, DATA, HOW, PRECISION, MICRO_BATCH, LOG_EVERY, CHECKPOINTS];

/// What every kind that trains gives.
pub(super) fn model_and_log() -> Vec<OutputSpec> {
    vec![OutputSpec::new("model", ArtifactType::MODEL), OutputSpec::new("log", ArtifactType::TRAINING_LOG)]
}

/// Checks what lies between the keys of `train`.
///
/// # Errors
/// Where evaluations, or what hangs on them, have no held-out articles.
pub(super) fn check_train(values: &Values) -> Result<(), Invalid> {
    let positive = |path: &str| values.get(path).and_then(serde_json::Value::as_f64).is_some_and(|number| number > 0.0);
    let holdout = "write `holdout = 0.05` to keep 5 % of the train articles for it";
    if positive("train.evaluations") && !positive("train.holdout") {
        return Err(Invalid::new("train.evaluations", "evaluations need held-out articles").help(holdout));
    }
    let balance = values.get("train.holdout_balance").and_then(serde_json::Value::as_bool) == Some(true);
    if balance && !positive("train.holdout") {
        return Err(Invalid::new("train.holdout_balance", "there are no held-out articles to balance").help(holdout));
    }
    if values.text("train.keep") == Some("best") && !positive("train.evaluations") {
        return Err(Invalid::new("train.keep", "keeping the best weights needs evaluations")
            .help(format!("write `evaluations = 2`, and {}", &holdout[6..])));
    }
    Ok(())
}

impl StageKind for FineTune {
    fn name(&self) -> &'static str {
        "fine-tune"
    }

    fn version(&self) -> u32 {
        2
    }

    fn doc(&self) -> &'static str {
        "Trains all weights of a model on the train part of a features table.\n\n\
         AdamW with linear warm-up, clipping and packed batches. Evaluations on the way look at articles of the train part that are \
         held out (`holdout`), never at dev; the null threshold that is best there is kept with the model, for \
         `evaluate` with `threshold = \"tuned\"`. The seed decides the held-out articles, the order of the windows, the dropout \
         and the weights of a new span head. A loss or gradient that is not a number stops the stage and says where."
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
        weights::plain(stage, "model")
    }

    fn seeded(&self) -> bool {
        true
    }

    fn place(&self) -> Place {
        Place::Worker
    }
}
