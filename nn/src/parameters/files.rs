//! Parameters in files.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::values::{place_of, rows};
use super::{Parameter, Parameters, SCORES};
use crate::error::{NnError, Result};
use crate::pruned::Pruned;
use crate::weights::{Weights, wide, write};

impl Parameters {
    /// Writes the f32 values under Hugging Face's names, as a safetensors file, with what never trains. Of a matrix with a mask, bits and the
    /// weights that stay are written.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_pruned(path, Kind::Float)
    }

    /// The same, the weights that stay in matrices with masks in a kind of floating-point number.
    pub(crate) fn save_pruned(&self, path: &Path, kind: Kind) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let mut tensors = Vec::new();
        for (name, values) in self.exact_parts()? {
            match self.masks.iter().find(|mask| mask.name == name) {
                Some(mask) => tensors.extend(Pruned::tensors(&name, &values, &mask.mask()?, kind)?),
                None => tensors.push((name, values)),
            }
        }
        tensors.extend(self.packed.iter().flat_map(|(name, weight)| weight.tensors(name)));
        write(path, tensors, &[])
    }

    /// The f32 values of what trains, by name, on the host.
    pub(crate) fn trained(&self) -> Result<Vec<(String, Tensor)>> {
        wide(self.parts("", |parameter| self.exact(parameter))?)
    }

    /// All tensors of the model's file by name, as exactly as they are known, masks and scores aside.
    pub(crate) fn exact_parts(&self) -> Result<Vec<(String, Tensor)>> {
        let mut parts = self.parts("", |parameter| self.exact(parameter))?;
        parts.retain(|(name, _)| !name.ends_with(SCORES));
        for constant in &self.constants {
            for part in &constant.parts {
                let (start, height) = place_of(&constant.parts, &part.name).unwrap_or_default();
                parts.push((part.name.clone(), rows(constant.exact(), start, height)?));
            }
        }
        wide(parts)
    }

    /// Writes the f32 masters of what trains, scores among them, for a training that goes on: [`Parameters::load`] reads them.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save_masters(&self, path: &Path) -> Result<()> {
        write(path, self.trained()?, &[])
    }

    /// Reads back what [`Parameters::save`] or [`Parameters::save_masters`] wrote.
    ///
    /// # Errors
    /// Where a tensor is missing or of another shape.
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        self.read(weights, "", |parameter| self.exact(parameter))?;
        self.renew()
    }

    /// A flat tensor cut up under the files' names, on the host, with something before each name.
    pub(crate) fn parts_of(&self, flat: &Tensor, before: &str) -> Result<Vec<(String, Tensor)>> {
        let flat = flat.f_to(Device::Cpu)?;
        self.parts(before, |parameter| parameter.view(&flat))
    }

    /// Fills a flat tensor from a file that holds what [`Parameters::parts_of`] gave.
    pub(crate) fn read_flat(&self, weights: &Weights, before: &str, flat: &Tensor) -> Result<()> {
        self.read(weights, before, |parameter| parameter.view(flat))
    }

    /// Something that there is of every parameter, cut up under the files' names, with something before each name.
    fn parts(&self, before: &str, of: impl Fn(&Parameter) -> Result<Tensor>) -> Result<Vec<(String, Tensor)>> {
        let _guard = tch::no_grad_guard();
        let mut parts = Vec::new();
        for parameter in &self.list {
            let view = of(parameter)?;
            let mut start = 0;
            for part in &parameter.parts {
                parts.push((format!("{before}{}", part.name), view.f_narrow(0, start, part.height)?));
                start += part.height;
            }
        }
        Ok(parts)
    }

    /// Fills something that there is of every parameter from a file.
    fn read(&self, weights: &Weights, before: &str, of: impl Fn(&Parameter) -> Result<Tensor>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (name, mut place) in self.parts(before, of)? {
            let stored = weights.floats(&name)?;
            if place.size() != stored.size() {
                return Err(NnError::Fit(format!("{name} is {:?} and should be {:?}", stored.size(), place.size())));
            }
            place.f_copy_(&stored)?;
        }
        Ok(())
    }
}
