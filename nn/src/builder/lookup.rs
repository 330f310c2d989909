//! Finding tensors by name.

use tch::{Device, Kind, Tensor};

use super::{Builder, Init};
use crate::error::Result;
use crate::parameters::{Constant, Part};
use crate::pruned::Pruned;

impl Builder<'_> {
    /// A tensor of these names that another model holds in memory, where one does, and no adapter brings one of them.
    pub(super) fn shared(&mut self, names: &[String], shape: &[i64]) -> Option<Tensor> {
        let tensor = self.resident.as_ref()?.tensor(names.first()?)?;
        if tensor.size() != shape || names.iter().any(|name| self.adapter.is_some_and(|file| file.brings(name))) {
            return None;
        }
        let found: Vec<String> = names.iter().filter_map(|name| self.find(name)).collect();
        self.used.extend(found.iter().flat_map(|name| Pruned::names(name)));
        self.used.extend(found);
        let height = shape.first().copied().unwrap_or(1) / crate::packed::signed(names.len());
        let parts = names.iter().map(|name| Part { name: name.clone(), height }).collect();
        self.pieces.constants.push(Constant::shared(parts, tensor.shallow_clone()));
        Some(tensor)
    }

    /// One named tensor.
    pub(super) fn part(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        if let Some(tensor) = self.adapter.map(|file| file.whole(name)).transpose()?.flatten() {
            self.used.insert(name.to_owned());
            return self.fitting(name, shape, tensor);
        }
        let Some(weights) = self.weights else { return self.drawn(name, shape, init) };
        let Some(found) = self.find(name) else {
            self.missing.push(name.to_owned());
            return self.drawn(name, shape, init);
        };
        self.used.insert(found.clone());
        if Pruned::is_in(weights, &found) {
            self.used.extend(Pruned::names(&found));
            return self.fitting(&found, shape, Pruned::open(weights, &found)?);
        }
        let stored = weights.shape(&found).unwrap_or_default();
        if stored != shape {
            return self.fitting(&found, shape, Tensor::f_zeros(stored, (Kind::Float, Device::Cpu))?);
        }
        weights.floats(&found)
    }

    /// A tensor, where it has the right shape; else zeros, and it is told in the end.
    fn fitting(&mut self, name: &str, shape: &[i64], tensor: Tensor) -> Result<Tensor> {
        let size = tensor.size();
        if size == shape {
            return Ok(tensor);
        }
        self.misshapen.push(format!("{name} is {size:?} and should be {shape:?}"));
        Ok(Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?)
    }

    /// The name that the file has for a tensor, where it has it.
    pub(super) fn find(&self, name: &str) -> Option<String> {
        let weights = self.weights?;
        let bare = name.strip_prefix(self.prefix).unwrap_or(name);
        let others = self.other_names.iter().filter(|(ours, _)| *ours == name).map(|&(_, theirs)| theirs);
        let there = |name: &&str| weights.contains(name) || Pruned::is_in(weights, name);
        [name, bare].into_iter().chain(others).find(there).map(str::to_owned)
    }

    /// A tensor at random.
    pub(super) fn drawn(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        init.drawn(self.seed, name, shape)
    }
}
