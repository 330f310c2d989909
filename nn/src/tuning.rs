//! What of a model trains, and in what form: all of it, adapters beside frozen weights, or masks over them.

use crate::error::{NnError, Result};
use crate::select::{Role, Selection};

/// What of a model trains.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Tuning {
    /// All of its parameters.
    #[default]
    Whole,
    /// Adapters of low rank beside frozen weights.
    Adapters(Lora),
    /// What decides which weights stay, with or without the weights.
    Masks(Masking),
}

/// Adapters of low rank (LoRA, Hu et al. 2021, arXiv 2106.09685): y = W x + s B A dropout(x).
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// Rows of A and columns of B.
    pub rank: i64,
    /// Numerator of the scale s.
    pub alpha: f64,
    /// Share of the input that A does not see in training.
    pub dropout: f64,
    /// Whether s is alpha / √rank (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732) rather than alpha / rank.
    pub rank_stabilised: bool,
    /// Whether each row's length trains apart from its direction (DoRA, Liu et al. 2024, arXiv 2402.09353).
    pub decomposed: bool,
    /// Which matrices have adapters.
    pub targets: Selection,
    /// Whether the head trains as well, as it is.
    pub head: bool,
}

impl Lora {
    /// The scale s of its adapters.
    #[must_use]
    pub fn scale(&self) -> f64 {
        scale(self.alpha, self.rank, self.rank_stabilised)
    }
}

/// What B A is multiplied with: alpha / rank, or alpha / √rank.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn scale(alpha: f64, rank: i64, rank_stabilised: bool) -> f64 {
    let rank = rank as f64;
    alpha / if rank_stabilised { rank.sqrt() } else { rank }
}

/// Which weights stay, while it is being learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Masking {
    /// Which matrices are masked.
    pub targets: Selection,
    /// Whether each weight has a score that trains.
    pub scores: bool,
    /// Whether the weights train.
    pub weights: bool,
    /// Whether the head trains, where the weights do not.
    pub head: bool,
    /// What the learning rate of scores is to that of the rest.
    pub score_rate: f64,
}

impl Tuning {
    /// Whether a tensor that is no matrix to be touched trains: `head` says whether it belongs to the head.
    pub(crate) fn trains(&self, head: bool) -> bool {
        match self {
            Self::Whole => true,
            Self::Adapters(lora) => head && lora.head,
            Self::Masks(masking) => masking.weights || (head && masking.head),
        }
    }

    /// Which matrices the method touches, where it touches some.
    pub(crate) fn targets(&self) -> Option<&Selection> {
        match self {
            Self::Whole => None,
            Self::Adapters(lora) => Some(&lora.targets),
            Self::Masks(masking) => Some(&masking.targets),
        }
    }

    /// The adapters that a matrix gets.
    pub(crate) fn adapters(&self, module: &str, role: Role) -> Option<&Lora> {
        match self {
            Self::Adapters(lora) if lora.targets.takes(module, role) => Some(lora),
            _ => None,
        }
    }

    /// The mask that a matrix gets.
    pub(crate) fn mask(&self, module: &str, role: Role) -> Option<&Masking> {
        match self {
            Self::Masks(masking) if masking.targets.takes(module, role) => Some(masking),
            _ => None,
        }
    }

    /// Refuses a method that would touch nothing of a model with these matrices.
    pub(crate) fn check<'a>(&self, modules: impl Iterator<Item = (&'a str, Role)> + Clone) -> Result<()> {
        match self.targets() {
            Some(targets) => targets.check(modules).map_err(NnError::Fit),
            None => Ok(()),
        }
    }
}
