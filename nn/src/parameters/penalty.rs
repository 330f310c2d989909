//! What scores cost.

use tch::Tensor;

use super::{Parameter, Parameters};
use crate::error::Result;

impl Parameters {
    /// Adds to the gathered gradient what a loss would that is `price` times the mean over all matrices with scores of the mean sigmoid of their
    /// scores, so that scores fall unless they are of use: `price` / (matrices * n) * σ(s) σ(-s) for each of a matrix's n scores s. No graph is
    /// needed for it. Nothing is added where there are no scores.
    ///
    /// # Errors
    /// Where there is no gradient yet.
    pub fn charge_scores(&mut self, price: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let (master, gradient) = self.flat()?;
        let (master, gradient) = (master.shallow_clone(), gradient.shallow_clone());
        let scores: Vec<&Parameter> = self.list.iter().filter(|parameter| parameter.is_scores()).collect();
        #[allow(clippy::cast_precision_loss)]
        let share = |parameter: &Parameter| price / (scores.len() as f64 * parameter.numel() as f64);
        scores.iter().try_for_each(|one| charge(&one.view(&master)?, &one.view(&gradient)?, share(one)))
    }
}

/// Adds `price` σ(s) σ(-s) to a gradient. 1 - σ(s) would have few right digits where scores are large.
fn charge(scores: &Tensor, gradient: &Tensor, price: f64) -> Result<()> {
    let slope = scores.f_sigmoid()?.f_mul(&scores.f_neg()?.f_sigmoid()?)?;
    let mut gradient = gradient.shallow_clone();
    let _same = gradient.f_add_(&slope.f_mul_scalar(price)?)?;
    Ok(())
}
