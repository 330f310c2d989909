//! The tensors that belong to one quantized weight in a file.

use tch::{Kind, Tensor};

use crate::error::{NnError, Result};
use crate::weights::{Problem, Weights, WeightsError};

/// A quantized weight in a file: its name, and the format that it should have.
pub(super) struct Parts<'a> {
    weights: &'a Weights,
    name: &'a str,
    format: &'static str,
}

impl<'a> Parts<'a> {
    pub(super) fn new(weights: &'a Weights, name: &'a str, format: &'static str) -> Self {
        Self { weights, name, format }
    }

    /// Whether the file has a tensor of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.weights.contains(name)
    }

    /// A tensor that must be there and of a kind.
    pub(super) fn tensor(&self, name: &str, kind: Kind) -> Result<Tensor> {
        if !self.has(name) {
            return Err(self.wrong(&format!("its part {name:?} is missing")));
        }
        let tensor = self.weights.tensor(name)?;
        if tensor.kind() == kind {
            return Ok(tensor);
        }
        Err(self.wrong(&format!("its part {name:?} is of kind {:?} and should be {kind:?}", tensor.kind())))
    }

    /// A tensor that must be there, of a kind and of a shape.
    pub(super) fn shaped(&self, name: &str, kind: Kind, shape: &[i64]) -> Result<Tensor> {
        let tensor = self.tensor(name, kind)?;
        if tensor.size() == shape {
            return Ok(tensor);
        }
        Err(self.wrong(&format!("its part {name:?} is of shape {:?} and should be {shape:?}", tensor.size())))
    }

    /// The shape of a matrix, or an error where no matrix has it.
    pub(super) fn matrix(&self, shape: &[i64]) -> Result<[i64; 2]> {
        match *shape {
            [height, width] if height > 0 && width > 0 && height.checked_mul(width).is_some_and(|all| all <= MOST) => Ok([height, width]),
            _ => Err(self.wrong(&format!("a weight of shape {shape:?} cannot be"))),
        }
    }

    /// An error that names the weight.
    pub(super) fn wrong(&self, message: &str) -> NnError {
        let message = format!("it cannot be read as {}: {message}", self.format);
        let problem = Problem::Layout { name: self.name.to_owned(), message };
        WeightsError { path: self.weights.path().to_path_buf(), problem }.into()
    }
}

/// Most numbers that a weight may have: more than any, and few enough that no size of it overflows.
const MOST: i64 = 1 << 40;

/// The name of a part that belongs to a layer rather than to its weight: `X.SCB` beside `X.weight`, and after the whole name of a weight
/// that is not called so.
pub(super) fn beside(name: &str, part: &str) -> String {
    format!("{}.{part}", name.strip_suffix(".weight").unwrap_or(name))
}
