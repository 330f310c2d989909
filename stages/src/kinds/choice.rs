//! Choosing the matrices that a method touches.

use qapipe_engine::{Accepts, ArtifactType, Default, Param, Ty};

/// A reference to a model, all of which is read.
pub(super) const A_MODEL: Ty = Ty::Ref(Accepts { types: &[ArtifactType::MODEL], part: &[] });

const PATTERNS: Ty = Ty::List(&Ty::Str);

/// Which matrices a method touches, by name.
pub(super) const TARGETS: Param = Param::optional(
    "targets",
    PATTERNS,
    "Matrices to touch, by module: a whole name, its end after a dot (`query`, `SelfAttention.q`), or either with `*` for any text; all of `roles` \
     where it is left out.",
);
/// Which it leaves.
pub(super) const EXCLUDE: Param = Param::optional("exclude", PATTERNS, "Matrices to leave as they are, by the same patterns.");
/// Which it touches by what they are for.
pub(super) const ROLES: Param = Param::optional(
    "roles",
    Ty::List(&Ty::Choice(&["projection", "recurrent", "vector", "head"])),
    "Sorts to touch without `targets`: projection (maps states), recurrent (of an LSTM), vector (gives one number), head (answers); the first two \
     where it is left out.",
);
/// The kind of floating-point number that a file's tensors are written in.
pub(super) const fn written_in(name: &'static str, default: &'static str, doc: &'static str) -> Param {
    Param::with(name, Ty::Choice(&["float32", "float16", "bfloat16"]), Default::Str(default), doc)
}
