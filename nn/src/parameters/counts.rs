//! How many numbers a model has, and what they take.

use tch::Kind;

use super::{Constant, Parameters};
use crate::error::{NnError, Result};
use crate::masks::Mask;

impl Parameters {
    /// How many numbers they are, those that never train among them.
    #[must_use]
    pub fn count(&self) -> u64 {
        let packed: u64 = self.packed.iter().map(|(_, weight)| weight.numel()).sum();
        self.moving() + self.constants.iter().map(Constant::weights).sum::<u64>() + packed
    }

    /// How many of them train.
    #[must_use]
    pub fn trainable(&self) -> u64 {
        if self.placement.train { self.moving() } else { 0 }
    }

    /// How many numbers training would move.
    fn moving(&self) -> u64 {
        self.list.iter().map(|parameter| parameter.numel().unsigned_abs()).sum()
    }

    /// How many of them are weights of the model, and no scores of weights.
    #[must_use]
    pub fn weights(&self) -> u64 {
        let scores = self.list.iter().filter(|parameter| parameter.is_scores()).map(|parameter| parameter.numel().unsigned_abs());
        self.count() - scores.sum::<u64>()
    }

    /// How many weights are not left out by a mask.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn remaining(&self) -> Result<u64> {
        Ok(self.weights() - self.left_out()?)
    }

    /// What share of the weights under masks stays, and of how many.
    ///
    /// # Errors
    /// What libtorch reports.
    #[allow(clippy::cast_precision_loss)]
    pub fn density(&self) -> Result<(f64, u64)> {
        let all: u64 = self.masks.iter().map(|mask| (mask.height * mask.weight.size()[1]).unsigned_abs()).sum();
        Ok(((all - self.left_out()?) as f64 / all.max(1) as f64, all))
    }

    /// How many weights masks leave out.
    fn left_out(&self) -> Result<u64> {
        let of = |mask: &Mask| Ok::<_, NnError>(mask.mask()?.f_logical_not()?.f_sum(Kind::Int64)?.int64_value(&[]).unsigned_abs());
        self.masks.iter().map(of).sum()
    }

    /// Bytes of the numbers that the model computes with: what a model takes in memory to answer.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let tensors = self.list.iter().map(|parameter| &parameter.tensor).chain(self.constants.iter().map(|constant| &constant.tensor));
        let packed: u64 = self.packed.iter().map(|(_, weight)| weight.bytes() as u64).sum();
        tensors.map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum::<u64>() + packed
    }
}
