//! Matrices with weights left out.

use tch::{Device, Kind, Tensor};

use super::{Builder, Wanted, joined, module};
use crate::error::{NnError, Result};
use crate::layers::Weight;
use crate::masks::{Mask, Masked};
use crate::parameters::{Parameter, Part};
use crate::pruned::Pruned;
use crate::select::Role;
use crate::tuning::Masking;

/// What decides about the rows of a part: a mask that was stored, or one that a tuning learns.
pub(super) struct Decision {
    stored: Option<Tensor>,
    learnt: Option<Masking>,
}

impl Decision {
    /// Whether nothing does.
    pub(super) fn is_none(&self) -> bool {
        self.stored.is_none() && self.learnt.is_none()
    }
}

impl Builder<'_> {
    /// What decides about the parts of a matrix, each of a shape.
    pub(super) fn decisions(&self, wanted: &Wanted<'_>, shape: &[i64], role: Role) -> Result<Vec<Decision>> {
        let of = |name: &String| {
            let decision = Decision { stored: self.stored_mask(name, shape)?, learnt: self.tuning.mask(module(name), role).cloned() };
            if decision.stored.is_some() && decision.learnt.is_some() {
                return Err(NnError::Fit(format!("{name} is pruned already")));
            }
            Ok(decision)
        };
        wanted.names.iter().map(of).collect()
    }

    /// A matrix with weights left out, and the scores that a tuning brings.
    pub(super) fn masked(&mut self, parts: &[Part], decisions: Vec<Decision>, weight: Tensor) -> Result<Weight> {
        let width = weight.size()[1];
        let all = |part: &Part| Tensor::f_ones([part.height, width], (Kind::Bool, Device::Cpu));
        let masks = parts
            .iter()
            .zip(&decisions)
            .map(|(part, decision)| Ok(decision.stored.as_ref().map_or_else(|| all(part), |mask| Ok(mask.shallow_clone()))?));
        let mask = joined(&masks.collect::<Result<Vec<_>>>()?)?;
        let (mut start, mut learning) = (0, Vec::new());
        for (part, Decision { learnt, .. }) in parts.iter().zip(decisions) {
            let scores = self.scores(part, width, learnt.as_ref())?;
            self.pieces.masks.push(Mask {
                name: part.name.clone(),
                start,
                height: part.height,
                weight: weight.shallow_clone(),
                mask: mask.shallow_clone(),
                scores: scores.as_ref().map(Tensor::shallow_clone),
                learnt: learnt.is_some(),
            });
            learning.extend(scores.map(|scores| (start, scores)));
            start += part.height;
        }
        Ok(Weight::Masked(Masked::new(weight, mask, learning)))
    }

    /// A score of zero for each weight of a part, where a tuning wants scores.
    fn scores(&mut self, part: &Part, width: i64, masking: Option<&Masking>) -> Result<Option<Tensor>> {
        let Some(masking) = masking.filter(|masking| masking.scores) else { return Ok(None) };
        let scores = Tensor::f_zeros([part.height, width], (Kind::Float, Device::Cpu))?;
        let named = vec![Part { name: format!("{}.scores", part.name), height: part.height }];
        let parameter = Parameter::new(named, vec![part.height, width], false, scores.shallow_clone());
        self.pieces.list.push(parameter.precise().at_rate(masking.score_rate));
        Ok(Some(scores))
    }

    /// The mask that a tensor was stored with.
    fn stored_mask(&self, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        let Some((weights, found)) = self.weights.zip(self.find(name)).filter(|(weights, found)| Pruned::is_in(weights, found)) else {
            return Ok(None);
        };
        let mask = Pruned::mask(weights, &found)?;
        Ok((mask.size() == shape).then_some(mask))
    }
}
