//! Which matrices a stage's method touches, and in what its file is written.

use qapipe_nn::{Role, Selection};
use serde::Deserialize;
use tch::Kind;

/// `targets`, `exclude` and `roles`, as `qapipe_stages` declares them.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice {
    targets: Vec<String>,
    exclude: Vec<String>,
    roles: Vec<Role>,
}

impl Choice {
    /// The choice that they stand for, where nothing is named with `usual` as targets.
    pub(super) fn selection(&self, usual: &[&str]) -> Selection {
        let targets = if self.targets.is_empty() { usual.iter().map(|&name| name.to_owned()).collect() } else { self.targets.clone() };
        Selection { targets, exclude: self.exclude.clone(), roles: self.roles.clone() }
    }
}

/// A kind of floating-point number that tensors are written in.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Written {
    Float32,
    Float16,
    Bfloat16,
}

impl Written {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Float32 => Kind::Float,
            Self::Float16 => Kind::Half,
            Self::Bfloat16 => Kind::BFloat16,
        }
    }
}
