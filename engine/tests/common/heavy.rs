//! A toy kind that runs in a worker, never here.

#[path = "plain.rs"]
mod plain;

use plain::{Plain, plain};
use qapipe_engine::{Accepts, Default, Param, Place, Ty};

const ANYTHING: Accepts = Accepts { types: &[], part: &[] };

const COUNT: Ty = Ty::Int { min: 1, max: 64 };

const PARAMS: &[Param] = &[
    Param::with("text", Ty::Str, Default::Str(""), "Something."),
    Param::optional("of", Ty::List(&Ty::Ref(ANYTHING)), "What it reads."),
    Param::hint("batch", COUNT, Default::Int(1), "Rows."),
    Param::hint("checkpoint_seconds", COUNT, Default::Int(1), "Seconds."),
    Param::hint("peak", Ty::Int { min: 0, max: i64::MAX }, Default::Int(0), "MiB of memory that it says it held of its GPU."),
];

/// Runs in a worker.
pub const HEAVY: Plain =
    Plain { seeded: true, place: Place::Worker, ..plain("heavy", PARAMS, |_| panic!("a worker kind never runs here")) };
