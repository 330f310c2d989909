//! The matrices that methods choose from.

use crate::builder::module;
use crate::select::Role;

/// A matrix that a model has: what methods choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The name of its tensor.
    pub name: String,
    /// The name of the tensor that it is stacked below, or its own.
    pub stack: String,
    /// What it is for.
    pub role: Role,
    /// `[out, in]`.
    pub shape: [i64; 2],
}

impl Site {
    /// The name of its module: that of the tensor without `.weight`.
    #[must_use]
    pub fn module(&self) -> &str {
        module(&self.name)
    }
}
