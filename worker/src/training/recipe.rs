//! How a training goes.

use qapipe_nn::AdamWConfig;
use serde::Deserialize;

use super::batches::BatchSize;
use super::schedule::{Decay, Schedule, Warmup};

/// Everything about a training but the model and the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Passes over the rows.
    pub epochs: u32,
    /// End after so many steps, whatever the epochs say.
    pub steps: Option<u64>,
    /// What one optimiser step sees.
    pub batch: BatchSize,
    /// Most tokens in the model at once: a larger batch is accumulated over several. Does not change the result but for rounding
    /// (and, with dropout, its draws).
    pub micro_tokens: usize,
    /// Peak learning rate.
    pub rate: f64,
    /// How long the rate rises.
    pub warmup: Warmup,
    /// What the rate does afterwards.
    pub decay: Decay,
    /// Over how many steps it does that; none for those of the training.
    pub schedule_steps: Option<u64>,
    /// Largest gradient norm; larger ones are scaled down. 0 turns it off.
    pub clip: f64,
    /// Whether there are held-out rows: then the parameters that are kept are evaluated on them.
    pub held_out: bool,
    /// Evaluate so many times an epoch on the held-out rows.
    pub evaluations: u32,
    /// Whether the best evaluated parameters are what is kept, rather than the last.
    pub keep_best: bool,
    /// Steps between two looks at the losses, each of which waits for the device.
    pub log_every: u64,
    /// Decides the order of the rows.
    pub seed: u64,
}

impl Recipe {
    /// How the rate moves over so many steps.
    pub fn schedule(&self, steps: u64) -> Schedule {
        Schedule::new(self.rate, self.warmup, self.schedule_steps.unwrap_or(steps), self.decay)
    }

    /// Whether the rate of a step is the same however long the training is.
    pub fn has_no_end(&self) -> bool {
        let free = matches!(self.decay, Decay::Constant | Decay::InverseSqrt);
        let rises = matches!(self.warmup, Warmup::Share(share) if share > 0.0);
        self.schedule_steps.is_some() || (free && !rises)
    }
}

/// The `train` table of a stage, as `qapipe_stages` declares it; every kind that trains takes the same.
#[derive(Clone, Debug, Deserialize)]
pub struct TrainValues {
    epochs: u32,
    steps: Option<u64>,
    /// Peak learning rate.
    pub lr: f64,
    batch: usize,
    batch_tokens: Option<usize>,
    warmup: f64,
    warmup_steps: Option<u64>,
    schedule: Decay,
    schedule_steps: Option<u64>,
    weight_decay: f64,
    l2: f64,
    clip: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// Share of the train questions to hold out.
    pub holdout: f64,
    /// Whether as many of them with an answer as without are looked at.
    pub holdout_balance: bool,
    evaluations: u32,
    keep: Keep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Keep {
    Last,
    Best,
}

impl TrainValues {
    /// The recipe that they stand for. Whether there are held-out rows is for the caller to say.
    pub fn recipe(&self, micro_tokens: usize, log_every: u64, seed: u64) -> Recipe {
        Recipe {
            epochs: self.epochs,
            steps: self.steps,
            batch: self.batch_tokens.map_or(BatchSize::Rows(self.batch), BatchSize::Tokens),
            micro_tokens,
            rate: self.lr,
            warmup: self.warmup_steps.map_or(Warmup::Share(self.warmup), Warmup::Steps),
            decay: self.schedule,
            schedule_steps: self.schedule_steps,
            clip: self.clip,
            held_out: self.holdout > 0.0,
            evaluations: self.evaluations,
            keep_best: self.keep == Keep::Best,
            log_every,
            seed,
        }
    }

    /// What the optimiser is set to.
    pub fn optimiser(&self) -> AdamWConfig {
        AdamWConfig { beta1: self.beta1, beta2: self.beta2, epsilon: self.eps, weight_decay: self.weight_decay, l2: self.l2 }
    }
}
