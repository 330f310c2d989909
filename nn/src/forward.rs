//! One value for all that a pass through a model may depend on besides its input: mode and randomness.

use tch::{Device, NoGradGuard, Tensor};

use crate::error::Result;
use crate::layers::{Heads, Look};
use crate::packed::Packed;
use crate::recorder::Recorder;
use crate::shim;
use crate::watch::Watch;

/// How a model runs: for answers, or for training with dropout and gradients.
///
/// The random numbers of a training pass depend on the seed and on the number of the pass alone: a training that goes on at pass `n`
/// draws what an uninterrupted one draws there, and nothing needs to be stored.
#[derive(Clone, Debug)]
pub struct Forward {
    train: bool,
    seed: u64,
    pass: u64,
    watch: Option<Watch>,
    recorder: Option<Recorder>,
}

impl Forward {
    /// Answers: no dropout, no gradients.
    #[must_use]
    pub fn inference() -> Self {
        Self { train: false, seed: 0, pass: 0, watch: None, recorder: None }
    }

    /// Training: dropout as the model has it, gradients.
    #[must_use]
    pub fn training(seed: u64) -> Self {
        Self { train: true, seed, pass: 0, watch: None, recorder: None }
    }

    /// Answers, and remembers what goes into the matrices.
    #[must_use]
    pub fn watching(watch: &Watch) -> Self {
        Self { watch: Some(watch.clone()), ..Self::inference() }
    }

    /// Tells that states `[tokens, in]` go into a matrix.
    pub(crate) fn see(&self, matrix: &str, states: &Tensor) -> Result<()> {
        self.watch.as_ref().map_or(Ok(()), |watch| watch.add(matrix, states))
    }

    /// The same, and hands what layers make to a recorder.
    #[must_use]
    pub fn recording(self, recorder: &Recorder) -> Self {
        Self { recorder: Some(recorder.clone()), ..self }
    }

    /// Tells that a stack of layers reads sequences, beginning with states `[tokens, width]`.
    pub(crate) fn enter(&self, packed: &Packed, states: &Tensor) {
        if let Some(recorder) = &self.recorder {
            recorder.enter(packed, states);
        }
    }

    /// Tells that states `[tokens, width]` come out of a layer of that stack.
    pub(crate) fn leave(&self, states: &Tensor) {
        if let Some(recorder) = &self.recorder {
            recorder.leave(states);
        }
    }

    /// Tells that a layer of that stack looks at its own sequences.
    pub(crate) fn look(&self, heads: &Heads, look: &Look<'_>) {
        if let Some(recorder) = &self.recorder {
            recorder.look(heads, look);
        }
    }

    /// Sets the number of the next pass, where a training goes on.
    #[must_use]
    pub fn at_pass(mut self, pass: u64) -> Self {
        self.pass = pass;
        self
    }

    /// The number of the next pass: how many training passes there were.
    #[must_use]
    pub fn pass(&self) -> u64 {
        self.pass
    }

    /// Whether this is training.
    #[must_use]
    pub fn is_training(&self) -> bool {
        self.train
    }

    /// Keeps libtorch from recording a graph, where there is nothing to train.
    pub(crate) fn guard(&self) -> Option<NoGradGuard> {
        if self.train { None } else { Some(tch::no_grad_guard()) }
    }

    /// Begins a pass: seeds what dropout draws from, and forgets what an earlier one left. Every model's `forward` calls it once.
    pub(crate) fn begin(&mut self, device: Device) -> Result<()> {
        if let Some(recorder) = &self.recorder {
            drop(recorder.take());
        }
        if self.train {
            shim::seed(device, mix(self.seed, self.pass))?;
            self.pass += 1;
        }
        Ok(())
    }

    /// The share that dropout takes in this mode.
    pub(crate) fn share(&self, share: f64) -> f64 {
        if self.train { share } else { 0.0 }
    }

    /// Drops a share of the values and scales the rest (Srivastava et al. 2014); all stay in inference.
    pub(crate) fn dropout(&self, states: Tensor, share: f64) -> Result<Tensor> {
        if self.train && share > 0.0 { Ok(states.f_dropout(share, true)?) } else { Ok(states) }
    }

    /// Drops the same share of the features of all tokens of a sequence, `[tokens, features]`, and scales the rest (Gal and Ghahramani
    /// 2016, arXiv 1512.05287); all stay in inference.
    pub(crate) fn dropout_alike(&self, states: &Tensor, packed: &Packed, share: f64) -> Result<Tensor> {
        if !self.train || share <= 0.0 {
            return Ok(states.shallow_clone());
        }
        let whole = Tensor::f_ones([packed.sequences(), states.size()[1]], (states.kind(), states.device()))?;
        Ok(states.f_mul(&whole.f_dropout(share, true)?.f_index_select(0, packed.sequence_of_tokens()?)?)?)
    }
}

/// A seed out of a seed and a number: neighbours give unrelated ones (the finaliser of SplitMix64, Steele et al. 2014).
pub(crate) fn mix(seed: u64, number: u64) -> u64 {
    let mut value = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
