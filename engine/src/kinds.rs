//! The kinds of stage that a pipeline may use.

use crate::check::{COMMON_SEED, hints, takes_seed};
use crate::kind::StageKind;
use crate::nearest::nearest;
use crate::param::{Param, Role};

/// All that may be written in a stage of a kind: the parameters that it declares, the seed if it takes one, then the hints,
/// those that every kind takes included.
pub fn accepted(kind: &dyn StageKind) -> Vec<Param> {
    let declared = kind.params().iter().filter(|param| param.role == Role::Param).copied();
    declared.chain(takes_seed(kind).then_some(COMMON_SEED)).chain(hints(kind)).collect()
}

/// The kinds of stage that a pipeline may use, in the order in which help lists them.
#[derive(Clone, Copy)]
pub struct Kinds(&'static [&'static dyn StageKind]);

impl Kinds {
    /// These kinds.
    pub const fn new(kinds: &'static [&'static dyn StageKind]) -> Self {
        Self(kinds)
    }

    /// The kind of this name.
    pub fn get(&self, name: &str) -> Option<&'static dyn StageKind> {
        self.iter().find(|kind| kind.name() == name)
    }

    /// All kinds.
    pub fn iter(&self) -> impl Iterator<Item = &'static dyn StageKind> + Clone + use<> {
        self.0.iter().copied()
    }

    /// The name that `name` was probably meant to be.
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.iter().map(StageKind::name))
    }
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(StageKind::name)).finish()
    }
}
