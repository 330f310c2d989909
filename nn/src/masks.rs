//! Which weights of a matrix stay.

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::shim;

/// A matrix with weights left out: W ∘ M, where M may hang on scores that train.
#[derive(Debug)]
pub(crate) struct Masked {
    /// W, `[out, in]`.
    weight: Tensor,
    /// M, truth values `[out, in]`.
    mask: Tensor,
    /// Numbers for each weight of some rows, f32 `[height, in]`, that train, with the first of these rows; one below the other.
    scores: Vec<(i64, Tensor)>,
}

impl Masked {
    pub(crate) fn new(weight: Tensor, mask: Tensor, scores: Vec<(i64, Tensor)>) -> Self {
        Self { weight, mask, scores }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.weight.kind()
    }

    /// W ∘ M. Its gradient goes to the weights that stay, and straight through to the scores of all: dS = dW' ∘ W (Bengio et al. 2013,
    /// arXiv 1308.3432).
    pub(crate) fn value(&self) -> Result<Tensor> {
        let scores: Vec<_> = self.scores.iter().map(|(start, scores)| (*start, scores)).collect();
        shim::masked(&self.weight, &self.mask, &scores)
    }
}

/// A mask that a model has, by the name of its tensor.
#[derive(Debug)]
pub(crate) struct Mask {
    pub(crate) name: String,
    pub(crate) start: i64,
    pub(crate) height: i64,
    /// What the layer holds, too: of all rows.
    pub(crate) weight: Tensor,
    pub(crate) mask: Tensor,
    /// Of these rows alone.
    pub(crate) scores: Option<Tensor>,
    /// Whether a tuning chooses what stays; else it stays as it was stored.
    pub(crate) learnt: bool,
}

impl Mask {
    /// Its weights, `[height, in]`.
    pub(crate) fn weight(&self) -> Result<Tensor> {
        Ok(self.weight.f_detach()?.f_narrow(0, self.start, self.height)?)
    }

    /// Their scores, `[height, in]`.
    pub(crate) fn known_scores(&self) -> Result<&Tensor> {
        self.scores.as_ref().ok_or_else(|| NnError::Input(format!("{} has no scores", self.name)))
    }

    /// Sets which of them stay.
    pub(crate) fn set(&self, mask: &Tensor) -> Result<()> {
        self.mask()?.f_copy_(mask)?;
        Ok(())
    }

    /// Moves it to a device.
    pub(crate) fn settle(&self, device: Device) -> Result<()> {
        let mut mask = self.mask.shallow_clone();
        Ok(mask.f_set_data(&self.mask.f_to(device)?)?)
    }

    /// Which of them stay, `[height, in]`.
    pub(crate) fn mask(&self) -> Result<Tensor> {
        Ok(self.mask.f_narrow(0, self.start, self.height)?)
    }
}
