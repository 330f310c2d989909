//! `training`: one row a logged step.

use super::table;

table! {
    /// What a training stage writes: figures since the row before, or an evaluation on the held-out articles.
    TrainingRow {
        /// Optimiser steps so far.
        step: u64,
        /// Passes over the windows so far, with a fraction.
        epoch: f64,
        /// Mean loss of the steps since the row before.
        loss: Option<f64>,
        /// Learning rate of the last step.
        lr: Option<f64>,
        /// Gradient norm of the last step, before clipping.
        grad_norm: Option<f64>,
        /// Windows seen so far.
        examples: u64,
        /// Tokens seen so far.
        tokens: u64,
        /// Seconds of training so far, without evaluations; null where other stages ran on the GPU at the time.
        seconds: Option<f64>,
        /// Exact match on the held-out articles, in percent.
        eval_exact: Option<f64>,
        /// F1 on the held-out articles, in percent.
        eval_f1: Option<f64>,
    }
}
