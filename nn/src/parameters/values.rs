//! Values by name.

use tch::{Device, Kind, Tensor};

use super::{Parameter, Parameters, Part, SCORES};
use crate::error::{NnError, Result};

impl Parameters {
    /// The f32 values of a tensor by its Hugging Face name, on the host.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn value(&self, name: &str) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        self.shown(name, &self.stored(name)?)
    }

    /// The values of a tensor of a name in f32 on the host, those under masks zero.
    fn shown(&self, name: &str, tensor: &Tensor) -> Result<Tensor> {
        let tensor = tensor.f_to_device_(Device::Cpu, Kind::Float, false, true)?;
        match self.masks.iter().find(|mask| mask.name == name) {
            Some(mask) => Ok(tensor.f_mul(&mask.mask()?.f_to(Device::Cpu)?)?),
            None => Ok(tensor),
        }
    }

    /// The names of all tensors of the model's file, scores aside.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let parts =
            self.list.iter().flat_map(|parameter| &parameter.parts).chain(self.constants.iter().flat_map(|constant| &constant.parts));
        let names = parts.map(|part| part.name.as_str()).filter(|name| !name.ends_with(SCORES));
        names.chain(self.packed.iter().map(|(name, _)| name.as_str()))
    }

    /// The values of a tensor of a name on the host: floating-point numbers in f32 with masks applied, whole numbers as they are.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn as_it_is(&self, name: &str) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let tensor = self.stored(name)?;
        if tensor.is_floating_point() { self.shown(name, &tensor) } else { Ok(tensor.f_to(Device::Cpu)?) }
    }

    /// All tensors of the model with dense weights by name, floating-point numbers in a kind: adapters merged, weights that are left out zero,
    /// quantized ones unpacked.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn dense(&self, kind: Kind) -> Result<Vec<(String, Tensor)>> {
        let _guard = tch::no_grad_guard();
        let names = self.names().filter(|name| !name.contains(".lora_"));
        names.map(|name| Ok((name.to_owned(), cast(&self.merged(name)?, kind)?))).collect()
    }

    /// The values of a tensor of a name on the host, with its adapters merged.
    fn merged(&self, name: &str) -> Result<Tensor> {
        let value = self.as_it_is(name)?;
        let place = |names: &[String]| names.iter().position(|adapted| adapted == name);
        match self.adapted.iter().find_map(|(names, adapters)| place(names).map(|at| (adapters, at))) {
            Some((adapters, at)) => Ok(adapters.one(at)?.merged(&value.f_to(self.device())?)?.f_to(Device::Cpu)?),
            None => Ok(value),
        }
    }

    /// Whether a tensor of a name is computed with in f32, whatever the rest is.
    pub(crate) fn is_precise(&self, name: &str) -> bool {
        self.list.iter().any(|parameter| parameter.precise && parameter.parts.iter().any(|part| part.name == name))
    }

    /// The values of a tensor of a name as exactly as they are known, whether it trains or not, masks aside.
    fn stored(&self, name: &str) -> Result<Tensor> {
        for constant in &self.constants {
            if let Some((start, height)) = place_of(&constant.parts, name) {
                return rows(constant.exact(), start, height);
            }
        }
        if let Some((_, weight)) = self.packed.iter().find(|(packed, _)| packed == name) {
            return weight.dequantize(Kind::Float);
        }
        self.part(name, |parameter| self.exact(parameter))
    }

    /// Puts other values into a tensor of a name, whether it trains or not.
    ///
    /// # Errors
    /// Where there is none of that name, or the values are of another shape or kind.
    pub fn set(&mut self, name: &str, values: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let mut place = self.stored(name)?;
        if place.size() != values.size() || place.is_floating_point() != values.is_floating_point() {
            return Err(NnError::Fit(format!(
                "{name} is {:?} {:?}, and cannot become {:?} {:?}",
                place.kind(),
                place.size(),
                values.kind(),
                values.size()
            )));
        }
        place.f_copy_(values)?;
        self.renew()
    }

    /// The values of a parameter as exactly as they are known.
    pub(super) fn exact(&self, parameter: &Parameter) -> Result<Tensor> {
        if self.placement.train { parameter.view(&self.master) } else { Ok(parameter.tensor.f_detach()?) }
    }

    /// Something that there is of every parameter, of a name, in f32 on the host.
    pub(super) fn named(&self, name: &str, of: impl Fn(&Parameter) -> Result<Tensor>) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        Ok(self.part(name, of)?.f_to_device_(Device::Cpu, Kind::Float, false, true)?)
    }

    /// Something that there is of every parameter, of a name, as it is.
    fn part(&self, name: &str, of: impl Fn(&Parameter) -> Result<Tensor>) -> Result<Tensor> {
        for parameter in &self.list {
            if let Some((start, height)) = place_of(&parameter.parts, name) {
                return rows(&of(parameter)?, start, height);
            }
        }
        Err(NnError::Input(format!("the model has no tensor {name:?}")))
    }
}

/// A tensor in a kind, where it holds floating-point numbers.
fn cast(tensor: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(if tensor.is_floating_point() { tensor.f_to_kind(kind)? } else { tensor.shallow_clone() })
}

/// Where a name's rows begin among parts, and how many they are.
pub(super) fn place_of(parts: &[Part], name: &str) -> Option<(i64, i64)> {
    let at = parts.iter().position(|part| part.name == name)?;
    Some((parts[..at].iter().map(|part| part.height).sum(), parts[at].height))
}

/// Rows of a tensor; all of it where these are all, a scalar among them.
pub(super) fn rows(tensor: &Tensor, start: i64, height: i64) -> Result<Tensor> {
    if tensor.size().first().is_none_or(|&size| size == height) {
        return Ok(tensor.f_detach()?);
    }
    Ok(tensor.f_detach()?.f_narrow(0, start, height)?)
}
