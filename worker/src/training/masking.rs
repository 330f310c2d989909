//! Which weights stay while a training decides about them.

use qapipe_nn::{Budget, Parameters, Pruner};

use crate::error::Error;

/// Prunes a model while it trains: fewer and fewer weights stay, until as few are left as are to stay in the end.
#[derive(Clone, Debug)]
pub struct Masking {
    /// Chooses them.
    pub pruner: Pruner,
    /// The share that stays in the end.
    pub keep: f64,
    /// The share of the steps in which all weights stay.
    pub warmup: f64,
    /// The share of the steps, at the end, in which as few stay as in the end.
    pub settle: f64,
    /// What the mean sigmoid of scores is multiplied with in the loss, at the end.
    pub penalty: f64,
}

impl Masking {
    /// The share of weights that stays at a step of so many, counted from 0: it falls by a cubic law (Zhu and Gupta 2017, arXiv 1710.01878).
    #[must_use]
    pub fn keep_at(&self, step: usize, total: usize) -> f64 {
        let all = real(total);
        let (start, end) = ((self.warmup * all).round(), all - (self.settle * all).round());
        let now = real(step);
        if self.pruner.budget == Budget::TwoOfFour || now >= end {
            return self.keep;
        }
        let left = if now <= start { 1.0 } else { 1.0 - (now - start) / (end - start) };
        self.keep + (1.0 - self.keep) * left.powi(3)
    }

    /// Whether as few weights stay at a step as in the end.
    #[must_use]
    pub fn settled(&self, step: usize, total: usize) -> bool {
        self.keep_at(step, total) - self.keep < 0.01
    }

    /// What the mean sigmoid is multiplied with at a step: it rises as the third power of what is left falls.
    #[must_use]
    pub fn penalty_at(&self, step: usize, total: usize) -> f64 {
        self.penalty * (1.0 - (1.0 - real(step) / real(total.max(1))).powi(3))
    }

    /// Chooses the weights that stay at a step.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn choose(&self, parameters: &Parameters, step: usize, total: usize) -> Result<(), Error> {
        Ok(self.pruner.prune(parameters, self.keep_at(step, total))?)
    }

    /// Adds what scores cost at a step to the gradient.
    ///
    /// # Errors
    /// Where there is no gradient yet.
    pub fn charge(&self, parameters: &mut Parameters, step: usize, total: usize) -> Result<(), Error> {
        if self.penalty > 0.0 { Ok(parameters.charge_scores(self.penalty_at(step, total))?) } else { Ok(()) }
    }
}

#[allow(clippy::cast_precision_loss)]
fn real(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use qapipe_nn::Worth;

    use super::*;

    /// Static model pruning of BERT-base to 10 % over ten epochs of SQuAD 1.1: 27,670 steps, the last 5,000 of them settled.
    fn published() -> Masking {
        let pruner = Pruner { worth: Worth::Score, budget: Budget::Local, temperature: 1.0 };
        Masking { pruner, keep: 0.1, warmup: 0.0, settle: 5000.0 / 27_670.0, penalty: 400.0 }
    }

    #[test]
    fn the_share_that_stays_falls_as_published() {
        let masking = published();
        for (step, keep) in [(0, 1.0), (5000, 0.5262), (10_000, 0.2571), (15_000, 0.1349), (20_000, 0.1015), (22_670, 0.1), (27_669, 0.1)] {
            assert!((masking.keep_at(step, 27_670) - keep).abs() < 5e-5, "{step}: {}", masking.keep_at(step, 27_670));
        }
        assert!(masking.settled(22_670, 27_670) && !masking.settled(10_000, 27_670));
    }

    #[test]
    fn what_scores_cost_rises_as_published() {
        let masking = published();
        for (step, penalty) in [(0, 0.0), (5000, 180.0), (10_000, 295.8), (20_000, 391.5)] {
            assert!((masking.penalty_at(step, 27_670) - penalty).abs() < 0.05, "{step}: {}", masking.penalty_at(step, 27_670));
        }
    }

    #[test]
    fn a_training_of_no_steps_and_one_without_a_way_there() {
        let all_at_once = Masking { settle: 1.0, ..published() };
        assert!((all_at_once.keep_at(0, 10) - 0.1).abs() < 1e-12 && (all_at_once.keep_at(0, 0) - 0.1).abs() < 1e-12);
        let late = Masking { warmup: 0.5, settle: 0.1, ..published() };
        assert!((late.keep_at(40, 100) - 1.0).abs() < 1e-12 && late.keep_at(60, 100) < 1.0 && (late.keep_at(90, 100) - 0.1).abs() < 1e-12);
    }
}
