//! Matrices that are stored in few bits.

use std::sync::Arc;

use tch::Tensor;

use super::{Builder, Init, Wanted, module};
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
                Some(weight) => self.few_bits(part, &shape, weight),
                None => Some(PackedPart::Dense(self.beside(part, &shape, wanted.init(at))?)),
            });
        }
        let place = (self.placement.kind, self.placement.device);
        Ok(Some(PackedWeight::new(rows, [wanted.shape[0], wanted.shape[1]], place, self.activations)))
    }

    /// Rows that are as they were, beside others in few bits.
    fn beside(&mut self, part: &Part, shape: &[i64], init: Init) -> Result<Tensor> {
        if let Some(shared) = self.shared(std::slice::from_ref(&part.name), shape) {
            return Ok(shared);
        }
        let tensor = self.part(&part.name, shape, init)?;
        self.pieces.constants.push(Constant::frozen(vec![part.clone()], tensor.shallow_clone()));
        Ok(tensor)
    }

    /// Rows in few bits; none where they are of another shape, and that is told in the end.
    fn few_bits(&mut self, part: &Part, shape: &[i64], weight: Arc<Quantized>) -> Option<PackedPart> {
        if weight.shape() != shape {
            self.misshapen.push(format!("{} is {:?} and should be {shape:?}", part.name, weight.shape()));
            return None;
        }
        self.pieces.packed.push((part.name.clone(), Arc::clone(&weight)));
        Some(PackedPart::Quantized(weight))
    }

    /// A tensor that is stored in few bits, where it is multiplied; none where it is not stored so.
    fn quantized(&mut self, name: &str) -> Result<Option<Arc<Quantized>>> {
        let Some((weights, found)) = self.weights.zip(self.find(name)) else { return Ok(None) };
        let weight = match self.resident.as_ref().and_then(|resident| resident.packed(name)) {
            Some(shared) => shared,
            None => match Quantized::open(weights, &found)? {
                Some(weight) => Arc::new(weight.to_device(self.placement.device)?),
                None => return Ok(None),
            },
        };
        self.used.extend(weight.tensors(&found).into_iter().map(|(name, _)| name));
        Ok(Some(weight))
    }
}
