//! `evaluate`: scores a model, or answers that are there already.

use std::path::Path;

use qapipe_engine::{Accepts, ArtifactType, Default, Invalid, OutputSpec, Param, Place, StageCx, StageError, StageKind, Ty, Values};

use super::choice::A_MODEL;
use serde::Deserialize;

use crate::bootstrap;
use crate::error::Error;
use crate::examples::{Examples, Part};
use crate::features::{DEV_FILES, examples_file};
use crate::metric::Scored;
use crate::tables::{MetricsRow, PredictionRow, write_table};

mod predictions_file;
mod scoring;

pub use predictions_file::read_predictions;
pub use scoring::{Prediction, prediction_rows, quality, score_all, sweep, with_best_thresholds};

/// Scores a model or a predictions file.
pub struct Evaluate;

const WHOLE: Ty = Ty::Int { min: 0, max: 1_000_000 };

const PARAMS: &[Param] = &[
    Param::optional("model", A_MODEL, "The model to score; `data` is then a features table."),
    Param::optional(
        "predictions",
        Ty::RefOrPath(Accepts { types: &[ArtifactType::FILE, ArtifactType::PREDICTIONS], part: &[] }),
        "Answers to score, instead of `model`: JSON {id: answer}, plain or .gz, or a predictions table.",
    ),
    Param::required(
        "data",
        Ty::Ref(Accepts { types: &[ArtifactType::FEATURES, ArtifactType::EXAMPLES], part: DEV_FILES }),
        "The questions: features for a model, features or examples for answers; their dev part.",
    ),
    Param::with(
        "n_best",
        Ty::Int { min: 1, max: 1000 },
        Default::Int(20),
        "Best starts and ends that are paired in each window, and spans kept a question.",
    ),
    Param::with("max_answer_length", Ty::Int { min: 1, max: 100_000 }, Default::Int(30), "Longest answer, in tokens."),
    Param::with(
        "threshold",
        Ty::Choice(&["fixed", "tuned"]),
        Default::Str("fixed"),
        "When to abstain: at `null_threshold`, or at the threshold that training tuned on held-out train articles.",
    ),
    Param::with(
        "null_threshold",
        Ty::Float { min: -1e9, max: 1e9 },
        Default::Float(0.0),
        "With fixed: abstain where the null answer's score exceeds the best span's by more than this; with version 1.1 of the data \
         there is always an answer.",
    ),
    Param::with(
        "precision",
        Ty::Choice(&["auto", "fp32", "bf16"]),
        Default::Str("auto"),
        "What the model computes in; auto: bf16 on CUDA, fp32 on the CPU.",
    ),
    Param::with("bootstrap", WHOLE, Default::Int(1000), "Resamples of the questions for the 95 % intervals; 0 leaves them out."),
    Param::with("latency", WHOLE, Default::Int(100), "Questions timed one at a time for the latency; 0 leaves it out."),
    Param::hint("batch_tokens", Ty::Int { min: 1, max: 1_000_000_000 }, Default::Int(32_768), "Most tokens in the model at once."),
];

impl StageKind for Evaluate {
    fn name(&self) -> &'static str {
        "evaluate"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Scores a model, or answers in the official form, with the official SQuAD metric on the dev part.\n\n\
         Gives one row of metrics (quality, always-abstain beside it, and for a model its cost) and one row a question. \
         `best_exact` and `best_f1` sweep the threshold over the very questions that are scored, as the official script does: \
         they flatter. A threshold that may be reported comes from `threshold = \"tuned\"`. Answers must name every question of \
         the data and no other."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("metrics", ArtifactType::METRICS), OutputSpec::new("predictions", ArtifactType::PREDICTIONS)]
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        match (values.has("model"), values.has("predictions")) {
            (true, true) => Err(Invalid::new("predictions", "`model` and `predictions` exclude each other")),
            (false, false) => Err(Invalid::new("", "neither `model` nor `predictions` is given")
                .help("write `model = \"@…\"`, or `predictions = \"answers.json\"`")),
            (false, true) if values.text("threshold") == Some("tuned") => {
                Err(Invalid::new("threshold", "a tuned threshold needs a model").help("answers from a file are scored as they are"))
            }
            (false, true) if values.get("null_threshold").and_then(serde_json::Value::as_f64).is_some_and(|at| at != 0.0) => {
                Err(Invalid::new("null_threshold", "a threshold needs a model").help("answers from a file are scored as they are"))
            }
            _ => Ok(()),
        }
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn place_of(&self, values: &Values) -> Place {
        if values.has("predictions") { Place::Here } else { Place::Worker }
    }

    fn run(&self, cx: &StageCx<'_>) -> Result<(), StageError> {
        score_predictions(cx)
    }
}

/// What `evaluate` reads of its values when it scores a predictions file.
#[derive(Deserialize)]
struct Wanted {
    bootstrap: u32,
}

/// Runs an `evaluate` stage that has `predictions`: no model, no libtorch.
///
/// # Errors
/// Where the data has no dev part, or the answers do not cover it exactly.
pub fn score_predictions(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let (data, file) = (cx.input("data")?, cx.input("predictions")?);
    let examples = dev_examples(data)?;
    let predictions = read_predictions(file, &examples)?;
    cx.checkpoint()?;
    let scores = score_all(&examples, &predictions);
    let info = dataset_info(data)?;
    let metrics = MetricsRow { dataset: Some(info.0), dataset_version: Some(info.1), ..quality(&scores) };
    let metrics = with_best_thresholds(metrics, &examples, &predictions);
    let metrics = with_intervals(metrics, &scores, wanted.bootstrap);
    write_outputs(cx, &metrics, &prediction_rows(&examples, &predictions, &scores))
}

/// Adds 95 % bootstrap intervals over the questions to a metrics row; `resamples` 0 adds none. The draws do not depend on the
/// stage's seed: the interval is a property of the scores.
#[must_use]
pub fn with_intervals(metrics: MetricsRow, scores: &[Scored], resamples: u32) -> MetricsRow {
    let column = |of: fn(&Scored) -> f64| scores.iter().map(|score| 100.0 * of(score)).collect::<Vec<f64>>();
    let exact = bootstrap::interval(&column(|score| score.exact), resamples);
    let f1 = bootstrap::interval(&column(|score| score.f1), resamples);
    let (low, high) = (|at: Option<(f64, f64)>| at.map(|it| it.0), |at: Option<(f64, f64)>| at.map(|it| it.1));
    let exact_interval = exact.map(|(low, high)| (high - low) / 2.0);
    MetricsRow { exact_low: low(exact), exact_high: high(exact), exact_interval, f1_low: low(f1), f1_high: high(f1), ..metrics }
}

/// Writes both outputs of an `evaluate` stage.
///
/// # Errors
/// What the file system says.
pub fn write_outputs(cx: &StageCx<'_>, metrics: &MetricsRow, predictions: &[PredictionRow]) -> Result<(), StageError> {
    write_table(cx.output("metrics")?, std::slice::from_ref(metrics))?;
    write_table(cx.output("predictions")?, predictions)?;
    Ok(())
}

/// The dev questions of an examples or a features artifact.
///
/// # Errors
/// Where there is no dev part, or its file is broken.
pub fn dev_examples(data: &Path) -> Result<Examples, Error> {
    let features = data.join(examples_file(Part::Dev));
    if features.exists() {
        return Examples::open(&features);
    }
    let none = || Error::data("the data has no dev part to score on").help("give the dataset stage a `dev` file");
    Examples::open_part(data, Part::Dev)?.ok_or_else(none)
}

/// Name and version of the data set behind an examples or a features artifact.
///
/// # Errors
/// Where `info.json` is missing or broken.
pub fn dataset_info(data: &Path) -> Result<(String, String), Error> {
    if data.join(examples_file(Part::Dev)).exists() || data.join(examples_file(Part::Train)).exists() {
        return crate::features::Info::open(data).map(|info| (info.dataset, info.dataset_version));
    }
    crate::examples::Info::open(data).map(|info| (info.name, info.version))
}
