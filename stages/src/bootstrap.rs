//! Bootstrap intervals (Efron 1979): how far a mean would move with other questions of the same sort.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// Seed of the draws. It is fixed: an interval is a property of the scores.
const SEED: u64 = 0x5eed_ab1e;

/// The 95 % percentile interval of the mean of `values` over `resamples` resamples; nothing without values or resamples.
pub fn interval(values: &[f64], resamples: u32) -> Option<(f64, f64)> {
    if values.is_empty() || resamples == 0 {
        return None;
    }
    let mut means: Vec<f64> = (0..resamples).into_par_iter().map(|resample| resampled_mean(values, resample)).collect();
    means.sort_by(f64::total_cmp);
    Some((percentile(&means, 0.025), percentile(&means, 0.975)))
}

/// The mean of as many draws as there are values. Every resample has a stream of its own, so that threads do not matter.
#[expect(clippy::cast_precision_loss, reason = "no data set is that large")]
fn resampled_mean(values: &[f64], resample: u32) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    random.set_stream(u64::from(resample));
    let sum: f64 = (0..values.len()).map(|_| values[below(&mut random, values.len())]).sum();
    sum / values.len() as f64
}

/// A number below `limit`, by multiplication (Lemire 2019, without rejection: the bias is below 1e-9 for a few thousand questions).
pub(crate) fn below(random: &mut ChaCha8Rng, limit: usize) -> usize {
    let wide = u128::from(random.next_u64()) * limit as u128;
    usize::try_from(wide >> 64).unwrap_or(0)
}

/// A percentile of sorted numbers, interpolated linearly.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small count")]
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}
