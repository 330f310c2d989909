//! One tensor that never trains.

use tch::Tensor;

use super::{Part, Placement};
use crate::error::Result;

/// A tensor that never trains; it belongs to the model's file.
#[derive(Debug)]
pub(crate) struct Constant {
    pub(super) parts: Vec<Part>,
    /// What the layer holds, too.
    pub(super) tensor: Tensor,
    /// Whether it is computed with in the model's kind; else it stays in its own.
    pub(super) common: bool,
    /// Its values before it went into the model's kind, on the host, where they will be asked for.
    pub(super) exact: Option<Tensor>,
}

impl Constant {
    /// One that stays in its own kind.
    pub(crate) fn new(name: String, tensor: Tensor) -> Self {
        let height = tensor.size().first().copied().unwrap_or(1);
        Self::shared(vec![Part { name, height }], tensor)
    }

    /// One that another model computes with as well, and that is where it is to be.
    pub(crate) fn shared(parts: Vec<Part>, tensor: Tensor) -> Self {
        Self { parts, tensor, common: false, exact: None }
    }

    /// One that could train, and that a tuning leaves as it is.
    pub(crate) fn frozen(parts: Vec<Part>, tensor: Tensor) -> Self {
        Self { parts, tensor, common: true, exact: None }
    }

    /// How many weights it is: whole numbers are a table, not weights.
    pub(super) fn weights(&self) -> u64 {
        if self.tensor.is_floating_point() { self.tensor.numel() as u64 } else { 0 }
    }

    /// Moves it to where and how it is computed with.
    pub(super) fn settle(&mut self, placement: &Placement, keep: bool) -> Result<()> {
        let kind = if self.common && self.tensor.is_floating_point() { placement.kind } else { self.tensor.kind() };
        if keep && kind != self.tensor.kind() {
            self.exact = Some(self.tensor.f_detach()?);
        }
        let moved = self.tensor.f_to_device_(placement.device, kind, false, false)?;
        Ok(self.tensor.f_set_data(&moved)?)
    }

    /// Its values as exactly as they are known.
    pub(super) fn exact(&self) -> &Tensor {
        self.exact.as_ref().unwrap_or(&self.tensor)
    }
}
