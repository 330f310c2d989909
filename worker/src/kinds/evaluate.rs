//! `evaluate`: answers the dev questions with a model, scores the answers, and measures what it costs.

use std::path::Path;

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::{AnyModel, LoadReport};
use qapipe_stages::evaluate::{
    dataset_info, prediction_rows, quality, score_all, score_predictions, with_best_thresholds, with_intervals, write_outputs,
};
use qapipe_stages::examples::Part;
use qapipe_stages::features::{Features, Info, InfoForm};
use qapipe_stages::postprocess::Settings;
use qapipe_stages::tables::MetricsRow;
use qapipe_stages::text_features::Texts;
use serde::Deserialize;

use crate::checkpoint::{Trained, check_features, manner, other_form, text_tokenizer, weight_bytes};
use crate::error::Error;
use crate::figures::measure;
use crate::inference::{Answerer, Pointing, Spent, Writing, ask};
use crate::precision::{self, Precision};
use crate::warm::Warm;

/// The parameters, as `qapipe_stages` declares them.
#[derive(Deserialize)]
struct Wanted {
    n_best: usize,
    max_answer_length: usize,
    threshold: Threshold,
    null_threshold: f64,
    precision: Precision,
    bootstrap: u32,
    latency: usize,
    #[serde(default)]
    hints: Hints,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Threshold {
    Fixed,
    Tuned,
}

impl Threshold {
    fn word(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Tuned => "tuned",
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Hints {
    batch_tokens: usize,
}

impl Default for Hints {
    fn default() -> Self {
        Self { batch_tokens: 32_768 }
    }
}

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>, warm: &Warm) -> Result<(), StageError> {
    let Some(folder) = cx.maybe_input("model") else { return score_predictions(cx) };
    let wanted: Wanted = cx.values()?;
    let data = cx.input("data")?;
    let place = precision::prepare(cx)?;
    let info = Info::open(data).map_err(Error::from)?;
    let (model, found) = warm.load(folder, &wanted.precision.inference(place), cx.request.seed)?;
    whole(&found)?;
    let trained = Trained::open(folder)?;
    let settings = wanted.settings(&info, trained.as_ref())?;
    let case = Case { wanted: &wanted, folder, data, settings, trained: trained.as_ref(), cx };
    match (model, &info.form) {
        (AnyModel::Reader(model), InfoForm::Spans { .. }) => {
            let features = Features::open(data, Part::Dev).map_err(Error::from)?;
            check_features(&*model, folder, &info, features.longest())?;
            let tokens = wanted.hints.batch_tokens;
            case.score(&Pointing { model: &*model, device: place, features: &features, settings, tokens })
        }
        (AnyModel::Writer(model), InfoForm::Texts { .. }) => {
            let texts = Texts::open(data, Part::Dev).map_err(Error::from)?;
            check_features(&*model, folder, &info, texts.longest().0 + wanted.max_answer_length)?;
            let tokenizer = text_tokenizer(folder, &info)?;
            let manner = manner(&tokenizer, &info, wanted.max_answer_length + 1, settings.null_threshold)?;
            let written = texts.longest().1;
            case.score(&Writing { model: &*model, texts: &texts, manner, written, tokens: wanted.hints.batch_tokens })
        }
        (model, _) => Err(other_form(&model)),
    }
}

/// What is evaluated.
struct Case<'a> {
    wanted: &'a Wanted,
    folder: &'a Path,
    data: &'a Path,
    settings: Settings,
    trained: Option<&'a Trained>,
    cx: &'a StageCx<'a>,
}

impl Case<'_> {
    /// Answers, scores, measures, writes.
    fn score<A: Answerer>(&self, answerer: &A) -> Result<(), StageError> {
        warm_up(answerer)?;
        let (predictions, spent) = ask(answerer, "windows", self.cx)?;
        let examples = answerer.examples();
        let scores = score_all(examples, &predictions);
        let row = with_best_thresholds(quality(&scores), examples, &predictions);
        let row = with_intervals(row, &scores, self.wanted.bootstrap);
        let row = measured(spent.as_ref(), self.wanted.named(self.data, self.settings, self.trained, row)?);
        let row = timed(answerer, self.wanted.latency, self.cx, size(answerer, self.folder, row)?)?;
        write_outputs(self.cx, &row, &prediction_rows(examples, &predictions, &scores))
    }
}

/// Scores of a head that was just drawn would say nothing of the model.
fn whole(found: &LoadReport) -> Result<(), StageError> {
    if found.initialised.is_empty() {
        return Ok(());
    }
    let message = format!("the model cannot answer yet: it has no {}", found.initialised.join(", "));
    Err(StageError::failed(message).help("fine-tune it first, and evaluate the model that comes of it"))
}

impl Wanted {
    /// How answers are chosen; a tuned threshold comes with the model. Where the data set knows no unanswerable questions, one is always
    /// given.
    fn settings(&self, info: &Info, trained: Option<&Trained>) -> Result<Settings, StageError> {
        let untuned = || {
            StageError::failed("threshold: the model brings no tuned threshold")
                .help("train it with `train = { holdout = 0.05 }`, or use `threshold = \"fixed\"`")
        };
        let always = Settings::of_version(&info.dataset_version).null_threshold;
        let null_threshold = match self.threshold {
            _ if always == f64::INFINITY => always,
            Threshold::Fixed => self.null_threshold,
            Threshold::Tuned => trained.and_then(|trained| trained.null_threshold).ok_or_else(untuned)?,
        };
        Ok(Settings { n_best: self.n_best, max_answer_length: self.max_answer_length, null_threshold })
    }

    /// Adds what was evaluated on, and how.
    fn named(&self, data: &Path, settings: Settings, trained: Option<&Trained>, row: MetricsRow) -> Result<MetricsRow, Error> {
        let (dataset, version) = dataset_info(data)?;
        Ok(MetricsRow {
            dataset: Some(dataset),
            dataset_version: Some(version),
            threshold: Some(settings.null_threshold).filter(|threshold| threshold.is_finite()),
            threshold_from: settings.null_threshold.is_finite().then(|| self.threshold.word().to_owned()),
            parameters_trained: trained.map(|trained| signed(trained.parameters_trained)),
            parameters_remaining: trained.and_then(|trained| trained.parameters_remaining).map(signed),
            ..row
        })
    }
}

/// Adds what answering all questions took, where that is known.
fn measured(spent: Option<&Spent>, row: MetricsRow) -> MetricsRow {
    let Some(&Spent { seconds, throughput, peak_memory_bytes, energy_joules }) = spent else { return row };
    MetricsRow { evaluate_seconds: Some(seconds), throughput: Some(throughput), peak_memory_bytes, energy_joules, ..row }
}

/// The first pass pays for loading kernels; it shall not count.
fn warm_up<A: Answerer>(answerer: &A) -> Result<(), Error> {
    if answerer.examples().is_empty() {
        return Err(Error::failed("the dev part holds no question to score"));
    }
    answerer.answer_one(0).map(drop)
}

/// Adds what the model is: numbers, bytes, operations, where it ran.
fn size<A: Answerer>(answerer: &A, folder: &Path, row: MetricsRow) -> Result<MetricsRow, Error> {
    let parameters = answerer.network().parameters();
    Ok(MetricsRow {
        device: Some(precision::name(answerer.network().parameters().device())),
        dtype: Some(precision::word(parameters.kind()).to_owned()),
        parameters: Some(signed(parameters.count())),
        bytes: Some(signed(weight_bytes(folder)?)),
        resident_bytes: Some(signed(parameters.resident_bytes())),
        flops: Some(answerer.flops()),
        ..row
    })
}

/// Adds the latency: questions answered one at a time, evenly taken from all.
fn timed<A: Answerer>(answerer: &A, samples: usize, cx: &StageCx<'_>, row: MetricsRow) -> Result<MetricsRow, Error> {
    let total = answerer.examples().len();
    let samples = samples.min(total);
    let questions: Vec<usize> = (0..samples).map(|at| at * total / samples).collect();
    let found = measure(&questions, |question| {
        cx.checkpoint()?;
        answerer.answer_one(question).map(drop)
    })?;
    let Some(latency) = found else { return Ok(row) };
    Ok(MetricsRow { latency_p50_ms: Some(1e3 * latency.p50), latency_p95_ms: Some(1e3 * latency.p95), ..row })
}

/// A count as tables hold it.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
