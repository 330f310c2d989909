//! How good answers to held-out questions are.

use qapipe_stages::examples::Examples;
use qapipe_stages::metric::{self, Abstention, Scored};
use qapipe_stages::postprocess::Answer;

use super::Evaluation;

/// How good answers to some questions are, and the null threshold at which their F1 is best.
pub(super) fn judged(examples: &Examples, questions: &[usize], answers: &[Answer]) -> Evaluation {
    let asked = || questions.iter().copied().zip(answers);
    let scores: Vec<Scored> = asked().map(|(question, answer)| metric::score(&answer.text, examples.golds(question))).collect();
    let sweep: Vec<Abstention> = asked()
        .map(|(question, answer)| {
            let Scored { f1, has_answer, .. } = metric::score(&answer.candidate, examples.golds(question));
            Abstention { score: f1, na_score: answer.na_score, has_answer, empty: answer.candidate.is_empty() }
        })
        .collect();
    let means = metric::summary(&scores).all;
    Evaluation { exact: means.exact, f1: means.f1, null_threshold: Some(metric::tuned_threshold(&sweep)) }
}
