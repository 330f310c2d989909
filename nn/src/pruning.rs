//! Choosing which weights of a model stay.

use std::collections::BTreeMap;

use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::error::{NnError, Result};
use crate::masks::Mask;
use crate::parameters::Parameters;
use crate::select::family;
use crate::shim::{self, Choice, Pair};

/// What a weight is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Its score, which is learnt (movement pruning, Sanh et al. 2020, arXiv 2005.07683; static model pruning).
    Score,
    /// Its distance from zero.
    Magnitude,
}

/// Among which weights the best are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// In each matrix by itself: the same share stays in all.
    Local,
    /// In each matrix by itself, where the matrices of one type share what stays in all layers by their mean sigmoid of scores (SMP-S).
    Shared,
    /// In all matrices together.
    Global,
    /// In every four neighbours of a row, two: what GPUs with sparse tensor cores multiply faster.
    #[serde(rename = "2:4")]
    TwoOfFour,
}

/// Chooses the weights that stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pruner {
    /// What a weight is worth.
    pub worth: Worth,
    /// Among which weights the best are chosen.
    pub budget: Budget,
    /// What scores are divided by before their sigmoid decides about shared budgets.
    pub temperature: f64,
}

impl Pruner {
    /// Sets the masks of a model anew, so that a share `keep` of the weights stays. Of weights of equal worth those stay that come first, and
    /// both zeros are equal.
    ///
    /// On CUDA kernels choose, and nothing waits for the device. They choose what [`Pruner::prune_plainly`] does there, but for two things. A
    /// matrix of n weights in a shared budget may keep one more or one less, as sums are rounded in another order: only where its share of n
    /// lies less than n * 1e-12 from a whole number, provided that libtorch's sigmoid and the kernels' are rounded alike. And worth that is not
    /// a number counts as more than any number, or as less where its sign is set; a budget that is shared by it keeps nothing.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn prune(&self, parameters: &Parameters, keep: f64) -> Result<()> {
        let masks = learnt(parameters);
        if parameters.device().is_cuda() && self.by_kernels(parameters, &masks, keep)? {
            return Ok(());
        }
        self.prune_plainly(parameters, keep)
    }

    /// The same by plain operations anywhere: what kernels are held against.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn prune_plainly(&self, parameters: &Parameters, keep: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let masks = learnt(parameters);
        let worth = masks.iter().map(|mask| self.worth(mask)).collect::<Result<Vec<_>>>()?;
        match self.budget {
            Budget::Global => return together(&masks, &worth, keep),
            Budget::TwoOfFour => return masks.iter().zip(&worth).try_for_each(|(mask, worth)| mask.set(&two_of_four(worth)?)),
            Budget::Local | Budget::Shared => {}
        }
        let shares = if self.budget == Budget::Shared { self.shares(&masks, &worth, keep)? } else { vec![keep; masks.len()] };
        let counts: Vec<i64> = shares.iter().zip(&worth).map(|(&share, worth)| count(share, worth)).collect();
        masks.iter().zip(best_of_each(&worth, &counts)?).try_for_each(|(mask, chosen)| mask.set(&chosen))
    }

    /// Sets masks by kernels; whether there are some for these.
    fn by_kernels(&self, parameters: &Parameters, masks: &[&Mask], keep: f64) -> Result<bool> {
        let budget = match self.budget {
            Budget::Local => 0,
            Budget::Shared => 1,
            Budget::Global => 2,
            Budget::TwoOfFour => return Ok(false),
        };
        let mut families: BTreeMap<String, i64> = BTreeMap::new();
        let mut pairs = Vec::with_capacity(masks.len());
        for mask in masks {
            let next = i64::try_from(families.len()).unwrap_or(i64::MAX);
            let group = *families.entry(family(&mask.name)).or_insert(next);
            let from = match self.worth {
                Worth::Score => (mask.known_scores()?, 0),
                Worth::Magnitude => (&mask.weight, mask.start),
            };
            pairs.push(Pair { from, to: (&mask.mask, mask.start), height: mask.height, group });
        }
        let choice = Choice { keep, temperature: self.temperature, budget, magnitude: i32::from(self.worth == Worth::Magnitude) };
        shim::choose(&pairs, &choice, &mut parameters.chosen().borrow_mut())
    }

    fn worth(&self, mask: &Mask) -> Result<Tensor> {
        match self.worth {
            Worth::Score => Ok(mask.known_scores()?.f_detach()?),
            Worth::Magnitude => Ok(mask.weight()?.f_abs()?.f_to_kind(Kind::Float)?),
        }
    }

    /// What share of each matrix stays, where those of one type share a budget. It may exceed one.
    fn shares(&self, masks: &[&Mask], worth: &[Tensor], keep: f64) -> Result<Vec<f64>> {
        let means = worth.iter().map(|worth| Ok(worth.f_div_scalar(self.temperature)?.f_sigmoid()?.f_mean(Kind::Double)?));
        let means = Vec::<f64>::try_from(Tensor::f_stack(&means.collect::<Result<Vec<_>>>()?, 0)?)?;
        let mut types: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for (mask, mean) in masks.iter().zip(&means) {
            let (sum, members) = types.entry(family(&mask.name)).or_default();
            *sum += mean;
            *members += 1.0;
        }
        let of = |mask: &Mask, mean: f64| types.get(&family(&mask.name)).map_or(keep, |(sum, members)| mean / sum * keep * members);
        Ok(masks.iter().zip(&means).map(|(mask, &mean)| of(mask, mean)).collect())
    }
}

/// The masks that a tuning learns.
fn learnt(parameters: &Parameters) -> Vec<&Mask> {
    parameters.masks().iter().filter(|mask| mask.learnt).collect()
}

/// How many weights a share of some is, rounded down.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn count(share: f64, worth: &Tensor) -> i64 {
    (share * worth.numel() as f64) as i64
}

/// Truth values for each of some tensors, true for as many of its largest numbers as is said, the first of equal ones.
fn best_of_each(worth: &[Tensor], counts: &[i64]) -> Result<Vec<Tensor>> {
    if !worth.first().is_some_and(|first| first.device().is_cuda()) {
        return worth.iter().zip(counts).map(|(worth, &count)| best(worth, count)).collect();
    }
    // Launches cost more than arithmetic: tensors of one size are looked at together.
    let mut sizes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    worth.iter().enumerate().for_each(|(at, worth)| sizes.entry(worth.numel()).or_default().push(at));
    let mut chosen: Vec<Option<Tensor>> = worth.iter().map(|_| None).collect();
    for places in sizes.values() {
        let rows = places.iter().map(|&at| Ok(worth[at].f_contiguous()?.f_view([-1])?)).collect::<Result<Vec<_>>>()?;
        let wanted: Vec<i64> = places.iter().map(|&at| counts[at]).collect();
        let found = best_of_rows(&Tensor::f_stack(&rows, 0)?, &wanted)?;
        for (row, &at) in (0..).zip(places) {
            chosen[at] = Some(found.f_select(0, row)?.f_view(worth[at].size().as_slice())?);
        }
    }
    Ok(chosen.into_iter().flatten().collect())
}

/// The same of rows `[rows, numbers]`, f32, by halving the range in which a row's last number is that stays: libtorch's own selection of one
/// number runs in a single block of threads, and a sort does more than is needed.
fn best_of_rows(worth: &Tensor, counts: &[i64]) -> Result<Tensor> {
    // Floating-point numbers as whole ones of the same order; both zeros are one.
    let bits = worth.f_add_scalar(0.0)?.f_view_dtype(Kind::Int)?;
    let turned = bits.f_bitwise_right_shift_tensor_scalar(31)?.f_bitwise_and(i64::from(i32::MAX))?;
    let order = bits.f_bitwise_xor_tensor(&turned)?;
    let counts = Tensor::f_from_slice(counts)?.f_to(worth.device())?.f_unsqueeze(1)?;
    let mut last = Tensor::f_full_like(&counts, i64::from(i32::MIN))?;
    for bit in (0..32).rev() {
        let higher = last.f_add_scalar(1_i64 << bit)?;
        let above = order.f_ge_tensor(&higher)?.f_sum_dim_intlist(1_i64, true, Kind::Int64)?;
        last = higher.f_where_self(&above.f_ge_tensor(&counts)?, &last)?;
    }
    let (above, equal) = (order.f_gt_tensor(&last)?, order.f_eq_tensor(&last)?);
    let missing = counts.f_sub(&above.f_sum_dim_intlist(1_i64, true, Kind::Int64)?)?;
    let first = equal.f_cumsum(1, Kind::Int64)?.f_le_tensor(&missing)?;
    Ok(above.f_logical_or(&equal.f_logical_and(&first)?)?.f_logical_and(&counts.f_gt(0)?)?)
}

/// Truth values of the shape of `worth`: true for the `count` largest, the first of equal ones.
fn best(worth: &Tensor, count: i64) -> Result<Tensor> {
    let (flat, all) = (worth.f_contiguous()?.f_view([-1])?, i64::try_from(worth.numel()).unwrap_or(i64::MAX));
    if count >= all || count <= 0 {
        return Ok(worth.f_ones_like()?.f_mul_scalar(i64::from(count > 0))?.f_to_kind(Kind::Bool)?);
    }
    let last = flat.f_kthvalue(all - count + 1, 0, true)?.0;
    let (above, equal) = (flat.f_gt_tensor(&last)?, flat.f_eq_tensor(&last)?);
    let missing = above.f_sum(Kind::Int64)?.f_neg()?.f_add_scalar(count)?;
    let first = equal.f_cumsum(0, Kind::Int64)?.f_le_tensor(&missing)?;
    Ok(above.f_logical_or(&equal.f_logical_and(&first)?)?.f_view(worth.size().as_slice())?)
}

/// Chooses among all weights.
fn together(masks: &[&Mask], worth: &[Tensor], keep: f64) -> Result<()> {
    let flat = worth.iter().map(|worth| Ok(worth.f_contiguous()?.f_view([-1])?)).collect::<Result<Vec<_>>>()?;
    let all = Tensor::f_cat(&flat, 0)?;
    let chosen = best_of_each(std::slice::from_ref(&all), &[count(keep, &all)])?.swap_remove(0);
    let mut start = 0;
    for (mask, worth) in masks.iter().zip(worth) {
        let length = i64::try_from(worth.numel()).unwrap_or(i64::MAX);
        mask.set(&chosen.f_narrow(0, start, length)?.f_view(worth.size().as_slice())?)?;
        start += length;
    }
    Ok(())
}

/// True for the two largest of every four neighbours in a row, the first of equal ones.
fn two_of_four(worth: &Tensor) -> Result<Tensor> {
    let (rows, width) = (worth.size()[0], worth.size()[1]);
    if width % 4 != 0 {
        return Err(NnError::Input(format!("a matrix with rows of {width} weights has no groups of four")));
    }
    let groups = worth.f_contiguous()?.f_view([rows, width / 4, 4])?;
    let places = groups.f_sort_stable(true, -1, true)?.1.f_narrow(2, 0, 2)?;
    let none = groups.f_zeros_like()?.f_to_kind(Kind::Bool)?;
    Ok(none.f_scatter_value(2, &places, 1)?.f_view([rows, width])?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tch::Device;

    use super::*;

    fn truths(tensor: &Tensor) -> Vec<i64> {
        Vec::try_from(tensor.to_kind(Kind::Int64).view([-1])).unwrap()
    }

    #[test]
    fn the_best_stay_and_of_equal_ones_the_first() {
        let worth = Tensor::from_slice(&[0.5_f32, -1.0, 0.5, 2.0, 0.5, 0.0]).view([2, 3]);
        assert_eq!(truths(&best(&worth, 3).unwrap()), [1, 0, 1, 1, 0, 0]);
        assert_eq!(truths(&best(&worth, 0).unwrap()), [0; 6]);
        assert_eq!(truths(&best(&worth, 9).unwrap()), [1; 6]);
        let equal = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        assert_eq!(truths(&best(&equal, 4).unwrap()), [1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn halving_finds_what_selection_finds() {
        let rows = Tensor::from_slice(&[0.5_f32, -1.0, 0.5, 2.0, 0.5, 0.0, -0.0, -3.0, 0.0, f32::MIN, f32::MAX, 1e-40]).view([2, 6]);
        for counts in [[3, 3], [0, 6], [6, 0], [1, 5], [9, 2], [2, 4]] {
            let found = best_of_rows(&rows, &counts).unwrap();
            for (row, count) in (0..).zip(counts) {
                let wanted = best(&rows.select(0, row), count).unwrap();
                assert_eq!(truths(&found.select(0, row)), truths(&wanted), "{counts:?}");
            }
        }
        tch::manual_seed(1);
        let many = Tensor::randn([3, 1000], (Kind::Float, Device::Cpu)).f_mul_scalar(8.0).unwrap().round();
        let found = best_of_rows(&many, &[100, 500, 999]).unwrap();
        for (row, count) in [(0, 100), (1, 500), (2, 999)] {
            assert_eq!(truths(&found.select(0, row)), truths(&best(&many.select(0, row), count).unwrap()));
        }
    }

    #[test]
    fn two_of_four_stay() {
        let worth = Tensor::from_slice(&[1.0_f32, 3.0, 2.0, 0.0, 5.0, 5.0, 5.0, 5.0]).view([1, 8]);
        assert_eq!(truths(&two_of_four(&worth).unwrap()), [0, 1, 1, 0, 1, 1, 0, 0]);
        assert!(two_of_four(&worth.narrow(1, 0, 6)).is_err());
    }
}
