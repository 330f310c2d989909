//! What scores cost.

use tch::Tensor;

use super::{Gradient, Parameters};
use crate::error::Result;
use crate::shim::{self, Pair};

impl Parameters {
    /// Adds to the gathered gradient what a loss would that is `price` times the mean over all matrices with scores of the mean sigmoid of their
    /// scores, so that scores fall unless they are of use: `price` / (matrices * n) * σ(s) σ(-s) for each of a matrix's n scores s. No graph is
    /// needed for it, and on CUDA it is one kernel. Nothing is added where there are no scores.
    ///
    /// # Errors
    /// Where there is no gradient yet.
    pub fn charge_scores(&mut self, price: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.flat()?;
        let views = self.gradient.as_ref().map_or(&[] as &[Tensor], Gradient::views);
        let with_scores = self.list.iter().zip(views).filter(|(parameter, _)| parameter.is_scores());
        let pairs = with_scores.map(|(scores, view)| Pair { from: (&scores.tensor, 0), to: (view, 0), height: scores.shape[0], group: 0 });
        let pairs: Vec<Pair<'_>> = pairs.collect();
        #[allow(clippy::cast_precision_loss)]
        let share = price / pairs.len().max(1) as f64;
        if self.placement.device.is_cuda() && shim::charge(&pairs, share, &mut self.charged)? {
            return Ok(());
        }
        pairs.iter().try_for_each(|pair| charge(pair.from.0, pair.to.0, share))
    }
}

/// Adds `price` / n σ(s) σ(-s) of n scores to their gradient. 1 - σ(s) would have few right digits where scores are large.
#[allow(clippy::cast_precision_loss)]
fn charge(scores: &Tensor, gradient: &Tensor, price: f64) -> Result<()> {
    let slope = scores.f_sigmoid()?.f_mul(&scores.f_neg()?.f_sigmoid()?)?;
    let mut gradient = gradient.shallow_clone();
    let _same = gradient.f_add_(&slope.f_mul_scalar(price / scores.numel() as f64)?)?;
    Ok(())
}
