//! How the learning rate moves over a training.

use serde::Deserialize;

/// Shape of a learning-rate schedule after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Straight down to zero at the last step.
    Linear,
    /// Half a cosine down to zero at the last step.
    Cosine,
    /// Stays at the peak.
    Constant,
    /// Falls as the inverse square root of the steps (Vaswani et al. 2017, arXiv 1706.03762).
    #[serde(rename = "inverse-sqrt")]
    InverseSqrt,
}

/// How long the rate rises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    /// For a share of all steps, rounded down.
    Share(f64),
    /// For so many steps.
    Steps(u64),
}

impl Warmup {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn steps(self, total: u64) -> u64 {
        match self {
            Self::Share(share) => (share.clamp(0.0, 1.0) * total as f64) as u64,
            Self::Steps(steps) => steps,
        }
    }
}

/// A learning-rate schedule: linear warm-up from zero to the peak, then a decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Learning rate at the end of the warm-up.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// A schedule over `total` steps.
    pub fn new(peak: f64, warmup: Warmup, total: u64, decay: Decay) -> Self {
        Self { peak, warmup: warmup.steps(total), total, decay }
    }

    /// Learning rate of a step, counted from 0: the first step of a warm-up has rate 0, as in Hugging Face's schedules.
    pub fn rate(&self, step: u64) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let ratio = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        if step < self.warmup {
            return self.peak * ratio(step, self.warmup);
        }
        let left = ratio(self.total.saturating_sub(step), self.total.saturating_sub(self.warmup));
        match self.decay {
            Decay::Linear => self.peak * left,
            Decay::Cosine => self.peak * 0.5 * (1.0 + (std::f64::consts::PI * (1.0 - left)).cos()),
            Decay::Constant => self.peak,
            Decay::InverseSqrt => self.peak * ratio(self.warmup.max(1), step.max(self.warmup.max(1))).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_straight_down() {
        let schedule = Schedule::new(1.0, Warmup::Share(0.1), 100, Decay::Linear);
        assert_eq!(schedule.warmup, 10);
        assert!(schedule.rate(0).abs() < 1e-12);
        assert!((schedule.rate(5) - 0.5).abs() < 1e-12);
        assert!((schedule.rate(10) - 1.0).abs() < 1e-12);
        assert!((schedule.rate(55) - 0.5).abs() < 1e-12);
        assert!(schedule.rate(100).abs() < 1e-12);
    }

    #[test]
    fn other_decays_and_no_steps() {
        let cosine = Schedule::new(2.0, Warmup::Share(0.0), 10, Decay::Cosine);
        assert!((cosine.rate(0) - 2.0).abs() < 1e-12 && (cosine.rate(5) - 1.0).abs() < 1e-12 && cosine.rate(10).abs() < 1e-12);
        let root = Schedule::new(2.0, Warmup::Steps(4), 100, Decay::InverseSqrt);
        assert!((root.rate(2) - 1.0).abs() < 1e-12 && (root.rate(4) - 2.0).abs() < 1e-12 && (root.rate(16) - 1.0).abs() < 1e-12);
        assert!((Schedule::new(2.0, Warmup::Share(0.5), 10, Decay::Constant).rate(9) - 2.0).abs() < 1e-12);
        assert!(Schedule::new(2.0, Warmup::Share(0.5), 0, Decay::Linear).rate(0).abs() < 1e-12);
    }
}
