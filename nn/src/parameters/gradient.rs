//! Gradients, gathered.

use tch::Tensor;

use super::Parameters;
use crate::error::{NnError, Result};
use crate::shim;

/// Gathered gradients.
#[derive(Debug)]
pub(super) struct Gradient {
    flat: Tensor,
    views: Vec<Tensor>,
    empty: bool,
}

impl Gradient {
    /// That of each parameter, in the order of parameters.
    pub(super) fn views(&self) -> &[Tensor] {
        &self.views
    }
}

impl Parameters {
    /// The gathered f32 gradient of a tensor by its Hugging Face name, on the host.
    ///
    /// # Errors
    /// Where there is none of that name, or no gradient yet.
    pub fn gradient(&self, name: &str) -> Result<Tensor> {
        let gradient = self.gradient.as_ref().filter(|gradient| !gradient.empty);
        let gradient = gradient.ok_or_else(|| NnError::Input("there is no gradient yet".into()))?;
        self.named(name, |parameter| parameter.view(&gradient.flat))
    }

    /// Goes back through the graph of a loss and gathers the gradients, on top of those that are there since the last step.
    ///
    /// # Errors
    /// What libtorch reports, out of memory among it.
    pub fn backward(&mut self, loss: &Tensor) -> Result<()> {
        loss.f_backward()?;
        self.collect()
    }

    /// Drops all gradients.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn zero_grad(&mut self) -> Result<()> {
        self.collect()?;
        if let Some(gradient) = &mut self.gradient {
            gradient.empty = true;
        }
        Ok(())
    }

    /// Gathers what the last backward pass left at the leaves.
    pub(crate) fn collect(&mut self) -> Result<()> {
        if !self.placement.train {
            return Ok(());
        }
        let mut gradient = match self.gradient.take() {
            Some(gradient) => gradient,
            None => self.fresh_gradient()?,
        };
        let leaves: Vec<&Tensor> = self.list.iter().map(|parameter| &parameter.tensor).collect();
        let found = shim::collect_gradients(&leaves, &gradient.views, &gradient.flat, !gradient.empty)?;
        gradient.empty &= found == 0;
        self.gradient = Some(gradient);
        Ok(())
    }

    fn fresh_gradient(&self) -> Result<Gradient> {
        let _guard = tch::no_grad_guard();
        let flat = self.master.f_zeros_like()?;
        let views = self.list.iter().map(|parameter| parameter.view(&flat)).collect::<Result<_>>()?;
        Ok(Gradient { flat, views, empty: true })
    }

    /// Marks the gathered gradient as used up.
    pub(crate) fn clear(&mut self) {
        if let Some(gradient) = &mut self.gradient {
            gradient.empty = true;
        }
    }

    /// The flat masters and the flat gathered gradient.
    pub(crate) fn flat(&mut self) -> Result<(&Tensor, &Tensor)> {
        self.collect()?;
        let gradient = self.gradient.as_ref().filter(|gradient| !gradient.empty);
        let gradient = gradient.ok_or_else(|| NnError::Input("there is no gradient; backward comes before the step".into()))?;
        Ok((&self.master, &gradient.flat))
    }
}
