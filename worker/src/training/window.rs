//! Losses and gradient norms of the last steps, left on the device until they are looked at together.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::Error;

/// The steps since the last look. Looking once a window, not once a step, keeps the host from waiting for the device.
#[derive(Debug, Default)]
pub struct Window {
    first: u64,
    losses: Vec<Tensor>,
    norms: Vec<Tensor>,
    rates: Vec<f64>,
}

/// Steps that were not looked at yet, in numbers: floating-point ones by their bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    first: u64,
    losses: Vec<u64>,
    norms: Vec<u64>,
    rates: Vec<u64>,
}

/// A window's steps in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRow {
    /// Mean loss of the window's steps.
    pub loss: f64,
    /// Gradient norm of the last step, before clipping.
    pub norm: f64,
}

impl Window {
    /// Adds a step's loss and gradient norm, both scalars without a graph.
    pub fn push(&mut self, step: u64, rate: f64, loss: Tensor, norm: Tensor) {
        if self.losses.is_empty() {
            self.first = step;
        }
        self.losses.push(loss);
        self.norms.push(norm);
        self.rates.push(rate);
    }

    /// The steps in it, which stay there. Waits for the device.
    pub(super) fn pending(&self) -> Result<Pending, Error> {
        let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect();
        Ok(Pending { first: self.first, losses: bits(&host(&self.losses)?), norms: bits(&host(&self.norms)?), rates: bits(&self.rates) })
    }

    /// A window with steps in it.
    pub(super) fn of(pending: &Pending, place: Device) -> Result<Self, Error> {
        let numbers = |bits: &[u64]| bits.iter().map(|&bits| f64::from_bits(bits)).collect::<Vec<_>>();
        let scalar = |number: f64| Ok(Tensor::from(number).f_to_device_(place, Kind::Float, false, false)?);
        let scalars = |bits: &[u64]| numbers(bits).into_iter().map(scalar).collect::<Result<Vec<_>, Error>>();
        Ok(Self {
            first: pending.first,
            losses: scalars(&pending.losses)?,
            norms: scalars(&pending.norms)?,
            rates: numbers(&pending.rates),
        })
    }

    /// Number of steps in it.
    pub fn len(&self) -> usize {
        self.losses.len()
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.losses.is_empty()
    }

    /// Waits for the device, checks that every loss and norm is a number, and empties the window.
    ///
    /// # Errors
    /// With the first step whose loss or gradient is not finite, and its learning rate.
    pub fn look(&mut self) -> Result<WindowRow, Error> {
        let losses = host(&std::mem::take(&mut self.losses))?;
        let norms = host(&std::mem::take(&mut self.norms))?;
        let rates = std::mem::take(&mut self.rates);
        let wrong = (0..losses.len()).find(|&at| !losses[at].is_finite() || !norms[at].is_finite());
        if let Some(at) = wrong {
            let (what, value) = if losses[at].is_finite() { ("gradient norm", norms[at]) } else { ("loss", losses[at]) };
            return Err(diverged(what, value, self.first + at as u64 + 1, rates[at]));
        }
        #[allow(clippy::cast_precision_loss)]
        let loss = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        Ok(WindowRow { loss, norm: norms.last().copied().unwrap_or(0.0) })
    }
}

/// Scalars on the device as numbers, in one transfer.
fn host(scalars: &[Tensor]) -> Result<Vec<f64>, Error> {
    if scalars.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Vec::<f64>::try_from(Tensor::f_stack(scalars, 0)?.f_to_kind(Kind::Double)?.f_view([-1])?)?)
}

/// The error for a training that left the numbers.
fn diverged(what: &str, value: f64, step: u64, rate: f64) -> Error {
    let message = format!("the {what} is {value} at step {step} (learning rate {rate:.3e}): the training has diverged");
    Error::Stage(qapipe_engine::StageError::failed(message).help("try a lower lr, a longer warmup, or check the model's weights"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn scalar(value: f64) -> Tensor {
        Tensor::from(value).to_kind(Kind::Float)
    }

    #[test]
    fn means_and_empties() {
        let mut window = Window::default();
        window.push(4, 0.1, scalar(1.0), scalar(5.0));
        window.push(5, 0.1, scalar(3.0), scalar(6.0));
        assert_eq!(window.look().unwrap(), WindowRow { loss: 2.0, norm: 6.0 });
        assert!(window.is_empty());
    }

    #[test]
    fn the_first_wrong_step_is_named() {
        let mut window = Window::default();
        window.push(10, 1e-3, scalar(1.0), scalar(1.0));
        window.push(11, 2e-3, scalar(f64::NAN), scalar(1.0));
        window.push(12, 3e-3, scalar(f64::NAN), scalar(1.0));
        let text = window.look().unwrap_err().to_string();
        assert!(text.contains("loss is NaN at step 12 (learning rate 2.000e-3)"), "{text}");
    }
}
