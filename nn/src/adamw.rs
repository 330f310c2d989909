//! AdamW, fused.

use std::path::Path;

use tch::{Kind, Tensor};

use crate::error::{NnError, Result};
use crate::parameters::{Parameters, Segment};
use crate::shim::{self, Rates};
use crate::weights::{Weights, wide, write};

/// What AdamW is set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Decoupled weight decay, on all parameters but biases and norms.
    pub weight_decay: f64,
    /// A share of the sum of squares of the same parameters that belongs to the loss.
    pub l2: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, l2: 0.0 }
    }
}

/// AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) over a model's parameters, with clipping by the global norm. Neither waits for
/// the device.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    first: Tensor,
    second: Tensor,
    /// The number of the step, f32, on the device: libtorch's kernel reads it there.
    counter: Tensor,
    steps: u64,
    /// What the next step divides the gradient by.
    divisor: Option<Tensor>,
}

impl AdamW {
    /// An optimiser for these parameters, at its beginning.
    ///
    /// # Errors
    /// Where the device has no memory for its two moments.
    pub fn new(parameters: &Parameters, config: AdamWConfig) -> Result<Self> {
        let counter = Tensor::f_zeros([] as [i64; 0], (Kind::Float, parameters.device()))?;
        Ok(Self { config, first: parameters.zeros()?, second: parameters.zeros()?, counter, steps: 0, divisor: None })
    }

    /// How many steps were taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Adds the gradient of the sum of squares to the gathered one, once a step; nothing where `l2` is zero.
    ///
    /// # Errors
    /// Where there is no gradient.
    pub fn regularise(&self, parameters: &mut Parameters) -> Result<()> {
        let (_guard, split) = (tch::no_grad_guard(), parameters.decaying());
        if self.config.l2 > 0.0 && split > 0 {
            let (master, gradient) = parameters.flat()?;
            let _same = gradient.f_narrow(0, 0, split)?.f_add_(&master.f_narrow(0, 0, split)?.f_mul_scalar(2.0 * self.config.l2)?)?;
        }
        Ok(())
    }

    /// Sees to it that the next step takes the gradient at a norm of at most `most` (none where that is not positive; Pascanu et al.
    /// 2013). Gives the norm before, a scalar on the device.
    ///
    /// # Errors
    /// Where there is no gradient.
    pub fn clip_grad_norm(&mut self, parameters: &mut Parameters, most: f64) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (_, gradient) = parameters.flat()?;
        let norm = gradient.f_norm()?;
        self.divisor = if most > 0.0 { Some(norm.f_add_scalar(1e-6)?.f_div_scalar(most)?.f_clamp_min(1.0)?) } else { None };
        Ok(norm)
    }

    /// Takes a step, renews the working copies, and drops the gradients.
    ///
    /// # Errors
    /// Where there is no gradient.
    pub fn step(&mut self, parameters: &mut Parameters, rate: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        #[allow(clippy::cast_precision_loss)]
        let _same = self.counter.f_fill_(self.steps as f64)?;
        let (segments, divisor) = (parameters.segments().to_vec(), self.divisor.take());
        let (master, gradient) = parameters.flat()?;
        for Segment { start, length, decay, rate: factor } in segments {
            let AdamWConfig { beta1, beta2, epsilon, weight_decay, .. } = self.config;
            let part = |flat: &Tensor| flat.f_narrow(0, start, length);
            let tensors = [&part(master)?, &part(gradient)?, &part(&self.first)?, &part(&self.second)?, &self.counter];
            let rates = Rates { rate: rate * factor, beta1, beta2, decay: if decay { weight_decay } else { 0.0 }, epsilon };
            shim::fused_adamw(tensors, rates, divisor.as_ref())?;
        }
        parameters.clear();
        parameters.renew()
    }

    /// Writes the moments and the number of steps as a safetensors file, for a training that goes on.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, parameters: &Parameters, path: &Path) -> Result<()> {
        let mut tensors = parameters.parts_of(&self.first, FIRST)?;
        tensors.extend(parameters.parts_of(&self.second, SECOND)?);
        write(path, wide(tensors)?, &[(STEPS, self.steps.to_string())])
    }

    /// Goes on where [`AdamW::save`] left off.
    ///
    /// # Errors
    /// Where the file is of another model.
    pub fn load(&mut self, parameters: &Parameters, path: &Path) -> Result<()> {
        let weights = Weights::open(path)?;
        let text = weights.metadata().get("qapipe").cloned().unwrap_or_default();
        let values: std::collections::BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
        let steps = values.get(STEPS).and_then(|steps| steps.parse().ok());
        self.steps = steps.ok_or_else(|| NnError::Fit(format!("{} holds no optimiser state", path.display())))?;
        parameters.read_flat(&weights, FIRST, &self.first)?;
        parameters.read_flat(&weights, SECOND, &self.second)
    }
}

/// What stands before the names of the means of gradients, and of squared gradients, in a file; and the name of the number of steps.
const FIRST: &str = "exp_avg.";
const SECOND: &str = "exp_avg_sq.";
const STEPS: &str = "steps";
