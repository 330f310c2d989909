//! Scoring answers that are there already.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

mod common;

use std::io::Write;
use std::path::Path;

use common::{bytes, examples, question, run};
use qapipe_engine::{Place, StageError, StageKind, Values};
use qapipe_stages::evaluate::{Prediction, quality, score_all, sweep, with_best_thresholds};
use qapipe_stages::kinds::Evaluate;
use qapipe_stages::tables::{MetricsRow, PredictionRow, read_table, write_table};
use serde_json::{Value, json};

fn rows() -> Vec<qapipe_stages::examples::Question> {
    vec![
        question("q1", "The cat sat.", "who?", &[("The cat", 0), ("cat", 4)]),
        question("q2", "The cat sat.", "why?", &[]),
        question("q3", "The cat sat.", "what?", &[("sat", 8)]),
    ]
}

fn score(predictions: &[u8], folder: &Path) -> Result<(MetricsRow, Vec<PredictionRow>), StageError> {
    let data = folder.join("data");
    if !data.exists() {
        examples(&data, &rows());
        // A data set with a dev part only.
        std::fs::remove_file(data.join("train.arrow")).unwrap();
    }
    let file = folder.join("answers.json");
    std::fs::write(&file, predictions).unwrap();
    let out = folder.join("out");
    run(&Evaluate, json!({ "predictions": "answers.json" }), &[("data", &data), ("predictions", &file)], &out)?;
    let metrics: Vec<MetricsRow> = read_table(&out.join("metrics"))?;
    Ok((metrics[0].clone(), read_table(&out.join("predictions"))?))
}

#[test]
fn the_official_form_plain_and_gzipped() {
    let folder = tempfile::tempdir().unwrap();
    let answers = json!({ "q3": "on the mat", "q1": "a cat", "q2": "" }).to_string();
    let (metrics, predictions) = score(answers.as_bytes(), folder.path()).unwrap();
    assert_eq!((metrics.total, metrics.has_answer_exact, metrics.no_answer_exact), (Some(3), Some(50.0), Some(100.0)));
    assert_eq!(metrics.abstain_exact, Some(100.0 / 3.0));
    assert_eq!((metrics.best_exact, metrics.parameters, metrics.threshold), (None, None, None));
    assert_eq!(metrics.dataset.as_deref(), Some("squad"));
    let exact: Vec<(&str, f64)> = predictions.iter().map(|row| (row.id.as_str(), row.exact)).collect();
    assert_eq!(exact, [("q1", 1.0), ("q2", 1.0), ("q3", 0.0)]);
    let first = bytes(&folder.path().join("out"));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(answers.as_bytes()).unwrap();
    score(&gz.finish().unwrap(), folder.path()).unwrap();
    assert_eq!(first, bytes(&folder.path().join("out")));
}

#[test]
fn answers_that_do_not_cover_the_questions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |answers: Value| score(answers.to_string().as_bytes(), folder.path()).unwrap_err().to_string();
    assert!(refused(json!({ "q2": "" })).ends_with("answers.json: 2 of 3 questions have no answer: q1, q3"));
    assert!(
        refused(json!({ "q1": "", "q2": "", "q3": "", "x": "", "y": "" })).ends_with("2 answers belong to no question of the data: x, y")
    );
    assert!(refused(json!(["q1"])).ends_with("the top level is no object"));
    assert!(refused(json!({ "q1": 3, "q2": "", "q3": "" })).ends_with("the answer of q1 is no text but a number"));
    assert!(score(b"{", folder.path()).unwrap_err().to_string().contains("not JSON"));
}

#[test]
fn a_predictions_table_keeps_what_it_knows() {
    let folder = tempfile::tempdir().unwrap();
    let row = |id: &str, candidate: &str, na_score: f64| PredictionRow {
        id: id.to_owned(),
        candidate: Some(candidate.to_owned()),
        na_score: Some(na_score),
        ..PredictionRow::default()
    };
    let table = folder.path().join("table");
    write_table(&table, &[row("q1", "cat", -1.0), row("q2", "mat", 2.0), row("q3", "sat", 1.0)]).unwrap();
    let (metrics, _) = score(&std::fs::read(&table).unwrap(), folder.path()).unwrap();
    // Everything was answered with nothing; at a threshold of 1 all three are right.
    assert_eq!((metrics.exact, metrics.best_exact, metrics.best_exact_threshold), (Some(100.0 / 3.0), Some(100.0), Some(1.0)));
}

#[test]
fn thresholds_move_answers() {
    let folder = tempfile::tempdir().unwrap();
    let examples = examples(folder.path(), &rows());
    let known = |candidate: &str, na_score: f64| Prediction {
        candidate: Some(candidate.to_owned()),
        na_score: Some(na_score),
        ..Prediction::default()
    };
    let predictions = [known("cat", 0.5), known("mat", 0.5), known("sat", 0.7)];
    assert_eq!(predictions[0].at(0.5).text, "cat");
    assert_eq!(predictions[0].at(0.4).text, "");
    let at: Vec<Prediction> = predictions.iter().map(|prediction| prediction.at(1.0)).collect();
    let scores = score_all(&examples, &at);
    assert_eq!(quality(&scores).exact, Some(200.0 / 3.0));
    assert_eq!(sweep(&examples, &predictions, |score| score.exact), Some((200.0 / 3.0, 0.5)));
    assert_eq!(
        with_best_thresholds(MetricsRow::default(), &examples, &[Prediction::default(), Prediction::default(), Prediction::default()])
            .best_f1,
        None
    );
}

#[test]
fn only_a_model_needs_the_worker() {
    let values = |value: Value| Values(value.as_object().unwrap().clone());
    assert_eq!(Evaluate.place_of(&values(json!({ "predictions": "x" }))), Place::Here);
    assert_eq!(Evaluate.place_of(&values(json!({ "model": "@m" }))), Place::Worker);
    let check = |value: Value| Evaluate.check(&values(value)).map_err(|invalid| invalid.message);
    assert!(check(json!({ "data": "@d" })).unwrap_err().contains("neither"));
    assert!(check(json!({ "model": "@m", "predictions": "x" })).unwrap_err().contains("exclude"));
    assert!(check(json!({ "predictions": "x", "threshold": "tuned" })).unwrap_err().contains("needs a model"));
}

#[test]
fn data_without_a_dev_part_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    examples(&folder.path().join("data"), &rows());
    std::fs::remove_file(folder.path().join("data/dev.arrow")).unwrap();
    let error = score(b"{}", folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "the data has no dev part to score on");
}
