//! What a layer asks for.

use super::Init;
use crate::parameters::Part;

/// A parameter that a layer asks for. Several names stand for tensors stacked along the first dimension, equally high.
pub(crate) struct Wanted<'a> {
    pub(crate) names: &'a [String],
    pub(crate) shape: &'a [i64],
    /// How each of them begins; where there is only one, all begin like it.
    pub(crate) inits: &'a [Init],
    /// Whether weight decay applies to it.
    pub(crate) decay: bool,
}

impl Wanted<'_> {
    /// Its parts by name, and the shape of each.
    pub(super) fn parts(&self) -> (Vec<Part>, Vec<i64>) {
        let height = self.shape[0] / crate::packed::signed(self.names.len().max(1));
        let mut shape = self.shape.to_vec();
        shape[0] = height;
        (self.names.iter().map(|name| Part { name: name.clone(), height }).collect(), shape)
    }

    /// How the part of a number begins.
    pub(super) fn init(&self, part: usize) -> Init {
        self.inits.get(part).or(self.inits.first()).copied().unwrap_or(Init::Zeros)
    }
}
