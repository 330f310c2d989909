//! From predictions to the rows of both tables.

use rayon::prelude::*;

use crate::examples::Examples;
use crate::metric::{self, Abstention, Scored};
use crate::postprocess::Answer;
use crate::tables::{MetricsRow, PredictionRow};

/// The answer to one question, with what a model knows beyond it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// What is answered; empty for nothing.
    pub text: String,
    /// The best span, answered or not; nothing where only the answer is known.
    pub candidate: Option<String>,
    /// Score of the best span.
    pub score: Option<f64>,
    /// By how much the null answer's score exceeds the best span's.
    pub na_score: Option<f64>,
}

impl From<Answer> for Prediction {
    fn from(answer: Answer) -> Self {
        Self { text: answer.text, candidate: Some(answer.candidate), score: Some(answer.score), na_score: Some(answer.na_score) }
    }
}

impl Prediction {
    /// This prediction under another null threshold; the same where it is not known how sure the model was.
    #[must_use]
    pub fn at(&self, threshold: f64) -> Self {
        let text = match (&self.candidate, self.na_score) {
            (Some(candidate), Some(na_score)) => {
                if na_score > threshold {
                    String::new()
                } else {
                    candidate.clone()
                }
            }
            _ => self.text.clone(),
        };
        Self { text, ..self.clone() }
    }
}

/// Scores one prediction a question, in the order of the questions.
pub fn score_all(examples: &Examples, predictions: &[Prediction]) -> Vec<Scored> {
    (0..examples.len())
        .into_par_iter()
        .zip(predictions)
        .map(|(row, prediction)| metric::score(&prediction.text, examples.golds(row)))
        .collect()
}

/// The quality columns of a metrics row, without the threshold that was used, the intervals and the data set.
pub fn quality(scores: &[Scored]) -> MetricsRow {
    let summary = metric::summary(scores);
    let abstain = metric::always_abstain(scores);
    let count = |total: usize| i64::try_from(total).ok();
    let (has, no) = (summary.has_answer, summary.no_answer);
    MetricsRow {
        total: count(summary.all.total),
        exact: Some(summary.all.exact),
        f1: Some(summary.all.f1),
        has_answer_total: count(has.map_or(0, |means| means.total)),
        has_answer_exact: has.map(|means| means.exact),
        has_answer_f1: has.map(|means| means.f1),
        no_answer_total: count(no.map_or(0, |means| means.total)),
        no_answer_exact: no.map(|means| means.exact),
        no_answer_f1: no.map(|means| means.f1),
        abstain_exact: Some(abstain),
        abstain_f1: Some(abstain),
        ..MetricsRow::default()
    }
}

/// Fills `best_exact` and `best_f1` with their thresholds: the sweep of the official script over the candidates of the very
/// questions that are scored. Leaves the row as it is where a candidate or a null score is not known.
#[must_use]
pub fn with_best_thresholds(row: MetricsRow, examples: &Examples, predictions: &[Prediction]) -> MetricsRow {
    match (sweep(examples, predictions, |score| score.exact), sweep(examples, predictions, |score| score.f1)) {
        (Some((exact, at)), Some((f1, f1_at))) => {
            MetricsRow { best_exact: Some(exact), best_exact_threshold: Some(at), best_f1: Some(f1), best_f1_threshold: Some(f1_at), ..row }
        }
        _ => row,
    }
}

/// The best mean of a score over all null thresholds, in percent, and the threshold: where the candidate is answered exactly when
/// its null score does not exceed it. Nothing where a candidate or a null score is not known.
pub fn sweep(examples: &Examples, predictions: &[Prediction], of: impl Fn(&Scored) -> f64 + Sync) -> Option<(f64, f64)> {
    let question = |row: usize, prediction: &Prediction| {
        let (candidate, na_score) = (prediction.candidate.as_deref()?, prediction.na_score?);
        let score = metric::score(candidate, examples.golds(row));
        Some(Abstention { score: of(&score), na_score, has_answer: score.has_answer, empty: candidate.is_empty() })
    };
    let questions: Option<Vec<Abstention>> =
        (0..examples.len()).into_par_iter().zip(predictions).map(|(row, prediction)| question(row, prediction)).collect();
    questions.map(|questions| metric::best_threshold(&questions))
}

/// The rows of the predictions table.
pub fn prediction_rows(examples: &Examples, predictions: &[Prediction], scores: &[Scored]) -> Vec<PredictionRow> {
    let row = |(at, (prediction, score)): (usize, (&Prediction, &Scored))| PredictionRow {
        id: examples.id(at).to_owned(),
        prediction: prediction.text.clone(),
        candidate: prediction.candidate.clone(),
        score: prediction.score,
        na_score: prediction.na_score,
        exact: score.exact,
        f1: score.f1,
        has_answer: score.has_answer,
    };
    predictions.iter().zip(scores).enumerate().map(row).collect()
}
