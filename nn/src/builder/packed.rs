//! Matrices that are stored in few bits.

use std::sync::Arc;

use super::{Builder, Wanted, module};
use crate::error::{NnError, Result};
use crate::layers::{PackedPart, PackedWeight};
use crate::parameters::{Constant, Part};
use crate::quant::Quantized;
use crate::select::Role;

impl Builder<'_> {
    /// A matrix of which some parts are stored in few bits; none where none is.
    pub(super) fn packed(&mut self, wanted: &Wanted<'_>, role: Role) -> Result<Option<PackedWeight>> {
        let (parts, shape) = wanted.parts();
        let quantized = parts.iter().map(|part| self.quantized(&part.name)).collect::<Result<Vec<_>>>()?;
        if quantized.iter().all(Option::is_none) {
            return Ok(None);
        }
        if let Some(part) = parts.iter().find(|part| self.tuning.mask(module(&part.name), role).is_some()) {
            return Err(NnError::Fit(format!("{} is quantized, and has no single weights to leave out", part.name)));
        }
        let mut rows = Vec::with_capacity(parts.len());
        for (at, (part, quantized)) in parts.iter().zip(quantized).enumerate() {
            rows.extend(match quantized {
                Some(weight) => self.few_bits(part, &shape, weight)?,
                None => {
                    let tensor = self.part(&part.name, &shape, wanted.init(at))?;
                    self.pieces.constants.push(Constant::frozen(vec![part.clone()], tensor.shallow_clone()));
                    Some(PackedPart::Dense(tensor))
                }
            });
        }
        let place = (self.placement.kind, self.placement.device);
        Ok(Some(PackedWeight::new(rows, [wanted.shape[0], wanted.shape[1]], place, self.activations)))
    }

    /// Rows in few bits; none where they are of another shape, and that is told in the end.
    fn few_bits(&mut self, part: &Part, shape: &[i64], weight: Quantized) -> Result<Option<PackedPart>> {
        if weight.shape() != shape {
            self.misshapen.push(format!("{} is {:?} and should be {shape:?}", part.name, weight.shape()));
            return Ok(None);
        }
        let weight = Arc::new(weight.to_device(self.placement.device)?);
        self.pieces.packed.push((part.name.clone(), Arc::clone(&weight)));
        Ok(Some(PackedPart::Quantized(weight)))
    }

    /// A tensor that is stored in few bits; none where it is not.
    fn quantized(&mut self, name: &str) -> Result<Option<Quantized>> {
        let Some((weights, found)) = self.weights.zip(self.find(name)) else { return Ok(None) };
        let Some(weight) = Quantized::open(weights, &found)? else { return Ok(None) };
        self.used.extend(weight.tensors(&found).into_iter().map(|(name, _)| name));
        Ok(Some(weight))
    }
}
