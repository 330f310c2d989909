//! What a model is made of.

use std::sync::Arc;

use tch::Tensor;

use super::{Constant, Parameter, Part, Site};
use crate::layers::Adapters;
use crate::masks::Mask;
use crate::quant::Quantized;

/// What a model is made of, while it is being made.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pub(crate) list: Vec<Parameter>,
    pub(crate) constants: Vec<Constant>,
    pub(crate) masks: Vec<Mask>,
    /// Adapters of matrices, with the names of the tensors that they adapt, in their order.
    pub(crate) adapted: Vec<(Vec<String>, Adapters)>,
    /// Matrices that are quantized, by the names of their tensors.
    pub(crate) packed: Vec<(String, Arc<Quantized>)>,
    pub(crate) sites: Vec<Site>,
}

impl Pieces {
    /// Adds a tensor without weight decay, or a constant where it does not train.
    pub(crate) fn put(&mut self, parts: Vec<Part>, tensor: &Tensor, trains: bool) {
        let tensor = tensor.shallow_clone();
        if trains {
            self.list.push(Parameter::new(parts, tensor.size(), true, tensor));
        } else {
            self.constants.push(Constant::frozen(parts, tensor));
        }
    }
}
