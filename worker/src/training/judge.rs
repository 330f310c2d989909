//! How good answers to held-out questions are.

use qapipe_stages::examples::Examples;
use qapipe_stages::metric::{self, Abstention, Scored};
use qapipe_stages::postprocess::Answer;

use super::Evaluation;

/// How good answers to some questions are with the null threshold at which their F1 is best: that one is kept with the weights, so
/// weights are compared by it.
pub(super) fn judged(examples: &Examples, questions: &[usize], answers: &[Answer]) -> Evaluation {
    let given = |(&question, answer): (&usize, &Answer)| Given {
        scored: metric::score(&answer.candidate, examples.golds(question)),
        na_score: answer.na_score,
        empty: answer.candidate.is_empty(),
    };
    at_best_threshold(&questions.iter().zip(answers).map(given).collect::<Vec<_>>())
}

/// An answer as it is where the model does not abstain.
struct Given {
    scored: Scored,
    na_score: f64,
    empty: bool,
}

impl Given {
    fn abstention(&self) -> Abstention {
        let Scored { f1, has_answer, .. } = self.scored;
        Abstention { score: f1, na_score: self.na_score, has_answer, empty: self.empty }
    }

    fn with(&self, threshold: f64) -> Scored {
        if self.na_score > threshold { self.scored.abstained() } else { self.scored }
    }
}

fn at_best_threshold(given: &[Given]) -> Evaluation {
    let threshold = metric::tuned_threshold(&given.iter().map(Given::abstention).collect::<Vec<_>>());
    let scores: Vec<Scored> = given.iter().map(|given| given.with(threshold)).collect();
    let means = metric::summary(&scores).all;
    Evaluation { exact: means.exact, f1: means.f1, null_threshold: Some(threshold) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(f1: f64, na_score: f64, has_answer: bool) -> Given {
        let right = f64::from(u8::from(!has_answer));
        Given { scored: Scored { exact: f1.floor(), f1, has_answer, abstaining: right }, na_score, empty: false }
    }

    #[test]
    fn figures_are_those_at_the_threshold_that_is_kept() {
        // At 0 both questions would be abstained from, and half were right.
        let found = at_best_threshold(&[given(1.0, 2.0, true), given(0.0, 5.0, false)]);
        assert_eq!(found, Evaluation { exact: 100.0, f1: 100.0, null_threshold: Some(2.0) });
    }

    #[test]
    fn where_no_answer_helps_the_figures_are_those_of_abstaining() {
        let found = at_best_threshold(&[given(0.5, 1.0, true), given(0.0, -1.0, false), given(0.0, 0.0, false)]);
        assert_eq!((found.exact, found.f1, found.null_threshold), (200.0 / 3.0, 200.0 / 3.0, Some(-2.0)));
    }
}
