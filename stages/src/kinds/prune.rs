//! `prune`: learns which weights of a model can be left out.

use qapipe_engine::{Default, Invalid, Lineage, OutputSpec, Param, Place, StageKind, Ty, Values};

use super::choice::{A_MODEL, EXCLUDE, ROLES, TARGETS, written_in};
use super::fine_tune::{CHECKPOINTS, DATA, HOW, LOG_EVERY, MICRO_BATCH, MODEL, PRECISION, check_train, model_and_log};
use super::weights;

/// Pruning of a model.
pub struct Prune;

const SHARE: Ty = Ty::Float { min: 0.0, max: 1.0 };

/// A teacher, and how much its word counts.
pub(super) const TEACHER: Param =
    Param::optional("teacher", A_MODEL, "A model with the same tokenizer whose answers are followed as well as the gold ones.");
/// How much its word counts.
pub(super) const TEACHER_SHARE: Param =
    Param::with("teacher_share", SHARE, Default::Float(0.5), "Share of the loss that is the distance from the teacher.");
/// How soft its word is.
pub(super) const TEMPERATURE: Param = Param::with(
    "temperature",
    Ty::Float { min: 0.01, max: 1000.0 },
    Default::Float(2.0),
    "What the logits of both are divided by before they are compared.",
);

const PARAMS: &[Param] = &[
    MODEL,
    DATA,
    Param::required("sparsity", SHARE, "Share of the weights that is left out: 0.9 keeps a tenth."),
    Param::with(
        "method",
        Ty::Choice(&["static", "movement", "magnitude"]),
        Default::Str("static"),
        "Static: a score for each frozen weight is learnt (static model pruning); movement: scores and weights are; magnitude: weights are, and the \
         smallest are left out.",
    ),
    Param::with(
        "budget",
        Ty::Choice(&["local", "shared", "global", "2:4"]),
        Default::Str("local"),
        "Among which weights the best stay: those of a matrix (SMP-L), of a matrix where the layers share what stays by their scores (SMP-S), all, or \
         two of every four neighbours.",
    ),
    Param::with(
        "score_lr",
        Ty::Float { min: 0.0, max: 100.0 },
        Default::Float(2e-2),
        "Peak learning rate of scores; `train.lr` is that of weights and head.",
    ),
    Param::optional(
        "penalty",
        Ty::Float { min: 0.0, max: 1e9 },
        "What the mean sigmoid of scores is multiplied with in the loss in the end; 400 for static, none for movement where it is left out.",
    ),
    Param::with(
        "shared_temperature",
        Ty::Float { min: 1e-3, max: 1e6 },
        Default::Float(1.0),
        "With shared: what scores are divided by before their sigmoid.",
    ),
    Param::with("dense_share", SHARE, Default::Float(0.0), "Share of the steps, at the beginning, in which all weights stay."),
    Param::with(
        "settled_share",
        SHARE,
        Default::Float(0.18),
        "Share of the steps, at the end, in which as few weights stay as in the end.",
    ),
    Param::optional(
        "head_words",
        Ty::List(&Ty::Str),
        "With static, of a pretrained BERT: use the head for masked words, frozen; logits of the first word are those of the start, of the second those \
         of the end. The paper takes yes and no.",
    ),
    Param::with("train_head", Ty::Bool, Default::Bool(true), "With static: train the head as well, whose weights are not left out."),
    TEACHER,
    TEACHER_SHARE,
    TEMPERATURE,
    TARGETS,
    EXCLUDE,
    ROLES,
    written_in("values", "float32", "What the weights that stay are stored in."),
    HOW,
    PRECISION,
    MICRO_BATCH,
    LOG_EVERY,
    CHECKPOINTS,
];

impl StageKind for Prune {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn version(&self) -> u32 {
        2
    }

    fn doc(&self) -> &'static str {
        "Leaves weights of a model out, and learns which.\n\n\
         static is static model pruning (Jiang et al. 2022, arXiv 2210.06210): weights stay as they are, and each has a score that trains with the \
         straight-through gradient. What stays falls by a cubic law from all weights to `1 - sparsity` of them. The result holds a bit for \
         each weight and those that stay; export gives it with zeros, for other programs. fine-tune and lora-adapt keep left out what is left \
         out. Two of four neighbours (`budget = \"2:4\"`) is what GPUs with sparse tensor cores can multiply faster."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        model_and_log()
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        let number = |param: &str| values.get(param).and_then(serde_json::Value::as_f64);
        let method = values.text("method").unwrap_or_default();
        if values.text("budget") == Some("2:4") && number("sparsity").is_some_and(|sparsity| (sparsity - 0.5).abs() > 1e-9) {
            return Err(Invalid::new("sparsity", "of every four neighbours two stay: that is a sparsity of 0.5"));
        }
        if values.text("budget") == Some("shared") && method == "magnitude" {
            return Err(Invalid::new("budget", "layers share a budget by their scores, and magnitude has none"));
        }
        if method == "magnitude" && values.has("penalty") {
            return Err(Invalid::new("penalty", "a penalty is on scores, and magnitude has none"));
        }
        if number("dense_share").unwrap_or(0.0) + number("settled_share").unwrap_or(0.0) > 1.0 {
            return Err(Invalid::new("settled_share", "dense_share and settled_share are more than all steps together"));
        }
        check_words(values)?;
        check_teacher(values)?;
        check_train(values)
    }

    fn check_inputs(&self, stage: Lineage<'_>) -> Result<(), Invalid> {
        weights::plain(stage, "model")?;
        weights::unpruned(stage)
    }

    fn seeded(&self) -> bool {
        true
    }

    fn place(&self) -> Place {
        Place::Worker
    }
}

/// Checks that a head of words is one of two, and stays as it is.
fn check_words(values: &Values) -> Result<(), Invalid> {
    let Some(words) = values.get("head_words").and_then(serde_json::Value::as_array) else { return Ok(()) };
    if words.is_empty() {
        return Ok(());
    }
    if words.len() != 2 || words[0] == words[1] {
        return Err(Invalid::new("head_words", "a head of words takes two words: one for the start, one for the end"));
    }
    if values.text("method") != Some("static") {
        return Err(Invalid::new("head_words", "the head for masked words is used as it is, which is static pruning"));
    }
    if values.get("train_head").and_then(serde_json::Value::as_bool) == Some(true) {
        return Err(Invalid::new("head_words", "the head for masked words is used as it is").help("write `train_head = false`"));
    }
    Ok(())
}

/// Refuses settings of a teacher where there is none.
fn check_teacher(values: &Values) -> Result<(), Invalid> {
    let number = |param: &str| values.get(param).and_then(serde_json::Value::as_f64);
    let set = [("teacher_share", 0.5), ("temperature", 2.0)];
    let idle = set.into_iter().find(|(param, usual)| number(param).is_some_and(|value| (value - usual).abs() > f64::EPSILON));
    match idle {
        Some((param, _)) if !values.has("teacher") => Err(Invalid::new(param, "there is no teacher").help("write `teacher = \"@…\"`")),
        _ => Ok(()),
    }
}
