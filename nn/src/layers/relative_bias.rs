//! T5's relative positions.

use tch::{Device, Kind, Tensor};

use crate::builder::{Builder, Init, Wanted};
use crate::error::Result;

/// A learnt number for each head and each bucket of distances, added to the attention's scores (Raffel et al. 2020, arXiv 1910.10683).
#[derive(Debug)]
pub(crate) struct RelativeBias {
    weight: Tensor,
    /// The bucket of each distance from minus `reach` to `reach`; beyond, the last one holds.
    buckets: Tensor,
    reach: i64,
}

/// How distances are put into buckets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    pub(crate) count: i64,
    pub(crate) max_distance: i64,
    /// Whether what comes later has buckets of its own; otherwise it shares that of distance 0.
    pub(crate) bidirectional: bool,
}

impl Buckets {
    /// The bucket of each distance (key minus query), i64: near ones have their own, farther ones share by logarithm.
    ///
    /// The logarithm is taken in f32, as the models were trained with: at powers its rounding decides.
    pub(crate) fn of(self, distances: &Tensor) -> Result<Tensor> {
        let (count, offset, steps) = if self.bidirectional {
            let half = self.count / 2;
            (half, distances.f_gt(0)?.f_to_kind(Kind::Int64)?.f_mul_scalar(half)?, distances.f_abs()?)
        } else {
            (self.count, distances.f_zeros_like()?, distances.f_neg()?.f_clamp_min(0)?)
        };
        let exact = count / 2;
        #[allow(clippy::cast_precision_loss)]
        let (near, far) = (exact as f64, (self.max_distance as f64 / exact as f64).ln());
        let ratio = steps.f_to_kind(Kind::Float)?.f_div_scalar(near)?.f_log()?.f_div_scalar(far)?;
        let large =
            ratio.f_mul_scalar(count - exact)?.f_clamp_min(0)?.f_to_kind(Kind::Int64)?.f_add_scalar(exact)?.f_clamp_max(count - 1)?;
        Ok(steps.f_where_self(&steps.f_lt(exact)?, &large)?.f_add(&offset)?)
    }
}

impl RelativeBias {
    /// `prefix.weight` on disk, `[buckets, heads]`, drawn from N(0, deviation).
    pub(crate) fn new(builder: &mut Builder<'_>, prefix: &str, buckets: Buckets, heads: i64, deviation: f64) -> Result<Self> {
        let names = [format!("{prefix}.weight")];
        let wanted = Wanted { names: &names, shape: &[buckets.count, heads], inits: &[Init::Normal(deviation)], decay: true };
        let reach = buckets.max_distance;
        let distances = Tensor::f_arange_start(-reach, reach + 1, (Kind::Int64, Device::Cpu))?;
        Ok(Self { weight: builder.tensor(&wanted)?, buckets: buckets.of(&distances)?, reach })
    }

    /// Puts what does not train on the device of what does, once that is known.
    pub(crate) fn settle(&mut self, device: Device) -> Result<()> {
        self.buckets = self.buckets.f_to(device)?;
        Ok(())
    }

    /// The bias between queries at `first` and after and keys from the beginning: `[1, heads, queries, keys]`.
    pub(crate) fn table(&self, first: i64, queries: i64, keys: i64) -> Result<Tensor> {
        // Along a diagonal all are equal: the distances are one row, read from a place that moves by one a query.
        let place = (Kind::Int64, self.weight.device());
        let distances = Tensor::f_arange_start(1 - first - queries, keys - first, place)?;
        let known = distances.f_clamp(-self.reach, self.reach)?.f_add_scalar(self.reach)?;
        let row = Tensor::f_embedding(&self.weight, &self.buckets.f_index_select(0, &known)?, -1, false, false)?;
        Ok(row.f_transpose(0, 1)?.f_unfold(1, keys, 1)?.f_flip([1])?.f_unsqueeze(0)?)
    }
}
