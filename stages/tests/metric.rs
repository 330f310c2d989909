//! The metric against the official one.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

mod common;

use common::{dataset, run, shared};
use qapipe_stages::metric::{Abstention, Scored, always_abstain, best_threshold, normalize, score, summary, tuned_threshold};
use qapipe_stages::python;
use qapipe_stages::tables::{MetricsRow, PredictionRow, read_table};
use serde_json::{Value, json};

#[test]
fn agrees_with_every_hard_case() {
    let Some(path) = shared("data/squad/scorer_cases.jsonl") else { return };
    let mut cases = 0;
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let prediction = case["prediction"].as_str().unwrap();
        let golds: Vec<&str> = case["gold"].as_array().unwrap().iter().map(|gold| gold.as_str().unwrap()).collect();
        assert_eq!(normalize(prediction), case["norm_prediction"].as_str().unwrap(), "{line}");
        for (gold, wanted) in golds.iter().zip(case["norm_gold"].as_array().unwrap()) {
            assert_eq!(normalize(gold), wanted.as_str().unwrap(), "{line}");
        }
        let found = score(prediction, golds.iter().copied());
        assert_eq!(found.exact, case["exact"].as_f64().unwrap(), "{line}");
        assert!((found.f1 - case["f1"].as_f64().unwrap()).abs() < 1e-12, "{line}: {}", found.f1);
        cases += 1;
    }
    assert_eq!(cases, 150);
}

#[test]
fn agrees_with_the_official_figures() {
    let Some(official) = shared("data/squad/official_scores.json") else { return };
    let official: Value = serde_json::from_slice(&std::fs::read(official).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dev = shared("data/squad/dev-v2.0.json.gz").unwrap();
    let data = dataset(json!({ "dev": "dev-v2.0.json.gz" }), &[("dev", &dev)], &folder.path().join("data")).unwrap();
    for (system, scores) in official["models"].as_object().unwrap() {
        let file = shared("data/squad/predictions-v2.0").unwrap();
        let file = std::fs::read_dir(file)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains(system.as_str()))
            .unwrap();
        let out = folder.path().join(system);
        run(
            &qapipe_stages::kinds::Evaluate,
            json!({ "predictions": "x", "bootstrap": 200 }),
            &[("data", &data), ("predictions", &file)],
            &out,
        )
        .unwrap();
        let rows: Vec<MetricsRow> = read_table(&out.join("metrics")).unwrap();
        let row = &rows[0];
        let found = [row.exact, row.f1, row.has_answer_exact, row.has_answer_f1, row.no_answer_exact, row.no_answer_f1];
        let names = ["exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1"];
        for (name, found) in names.iter().zip(found) {
            let wanted = scores["scores"][name].as_f64().unwrap();
            assert!((found.unwrap() - wanted).abs() < 1e-9, "{system} {name}: {found:?}, not {wanted}");
        }
        assert_eq!((row.total, row.has_answer_total, row.no_answer_total), (Some(11873), Some(5928), Some(5945)));
        assert!((row.abstain_exact.unwrap() - 100.0 * 5945.0 / 11873.0).abs() < 1e-9);
        assert!(row.exact_low < row.exact && row.exact < row.exact_high && row.exact_interval.unwrap() < 1.0);
        let predictions: Vec<PredictionRow> = read_table(&out.join("predictions")).unwrap();
        assert_eq!(predictions.len(), 11873);
        assert!(predictions.iter().all(|row| row.na_score.is_none()));
    }
}

#[test]
fn normalization_is_pythons() {
    assert_eq!(normalize("The U.S. — an  Apple, a\tPear"), "us — apple pear");
    // A combining mark is no word character in Python: the article before it stands alone.
    assert_eq!(normalize("a\u{301}b"), "\u{301}b");
    // The separators U+001C to U+001F are white space.
    assert_eq!(normalize("one\u{1c}two\u{1f}three"), "one two three");
    // Circled letters and vowel signs are alphabetic for Rust, but neither letters nor numbers.
    assert!(!python::is_word('Ⓐ') && !python::is_word('\u{93e}'));
    assert!(python::is_word('é') && python::is_word('中') && python::is_word('²') && python::is_word('Ⅷ') && python::is_word('_'));
    assert_eq!(normalize("the_end"), "theend");
    assert_eq!(python::trim_start("\u{1d}\u{3000} why?"), "why?");
}

#[test]
fn golds_that_are_nothing_do_not_count() {
    let score = |prediction: &str, golds: &[&str]| score(prediction, golds.iter().copied());
    assert_eq!(score("", &[]), Scored { exact: 1.0, f1: 1.0, has_answer: false, abstaining: 1.0 });
    assert_eq!(score("the", &["a"]), Scored { exact: 1.0, f1: 1.0, has_answer: true, abstaining: 1.0 });
    assert_eq!(score("", &["the", "cat"]), Scored { exact: 0.0, f1: 0.0, has_answer: true, abstaining: 0.0 });
    assert_eq!(score("cat cat", &["cat", "cat sat"]).f1, 2.0 / 3.0);
}

#[test]
fn thresholds_are_swept_stably_and_strictly() {
    let at = |score: f64, na_score: f64, has_answer: bool| Abstention { score, na_score, has_answer, empty: false };
    // One unanswerable question: abstaining everywhere scores 1 of 4.
    let questions = [at(1.0, 0.1, true), at(0.0, 0.2, false), at(1.0, 0.3, true), at(1.0, 0.9, true)];
    assert_eq!(best_threshold(&questions), (75.0, 0.9));
    // Nothing gains: threshold 0, all abstained.
    assert_eq!(best_threshold(&[at(0.0, -3.0, true), at(0.0, -2.0, false)]), (50.0, 0.0));
    // Equal null scores keep the order of the questions: the gain comes before the loss.
    assert_eq!(best_threshold(&[at(1.0, 0.5, true), at(0.0, 0.5, false)]).0, 100.0);
    // An empty answer to an unanswerable question costs nothing.
    let empty = Abstention { empty: true, ..at(1.0, 0.0, false) };
    assert_eq!(best_threshold(&[empty, at(1.0, 1.0, true)]), (100.0, 1.0));
    assert_eq!(best_threshold(&[]), (0.0, 0.0));
}

#[test]
fn summaries_of_one_sort_of_question_lack_the_other() {
    let found = summary(&[Scored { exact: 1.0, f1: 1.0, has_answer: true, abstaining: 0.0 }]);
    assert_eq!(found.all.exact, 100.0);
    assert!(found.no_answer.is_none());
}

#[test]
fn a_tuned_threshold_may_lie_below_every_score_and_never_between_equal_ones() {
    let at = |score: f64, na_score: f64, has_answer: bool| Abstention { score, na_score, has_answer, empty: false };
    assert!(tuned_threshold(&[at(0.0, -3.0, true), at(0.0, -2.0, false)]) < -3.0);
    assert_eq!(tuned_threshold(&[at(1.0, -3.0, true), at(0.0, -2.0, false)]), -3.0);
    // Right and wrong at the same score: both are answered or none is.
    assert!(tuned_threshold(&[at(1.0, 0.5, true), at(0.0, 0.5, false)]) < 0.5);
    assert_eq!(tuned_threshold(&[]), 0.0);
}

#[test]
fn abstaining_is_right_where_every_gold_answer_is_nothing() {
    let scores = [score("x", ["the"].into_iter()), score("", [].into_iter()), score("y", ["cat"].into_iter())];
    assert!((always_abstain(&scores) - 200.0 / 3.0).abs() < 1e-9);
}
