//! A toy kind that runs in a worker, never here.

use qapipe_engine::{Accepts, ArtifactType, Default, OutputSpec, Param, Place, StageCx, StageError, StageKind, Ty, Values};

/// Runs in a worker.
pub struct Heavy;

const ANYTHING: Accepts = Accepts { types: &[], part: &[] };

const COUNT: Ty = Ty::Int { min: 1, max: 64 };

const PARAMS: &[Param] = &[
    Param::with("text", Ty::Str, Default::Str(""), "Something."),
    Param::optional("of", Ty::List(&Ty::Ref(ANYTHING)), "What it reads."),
    Param::hint("batch", COUNT, Default::Int(1), "Rows."),
    Param::hint("checkpoint_seconds", COUNT, Default::Int(1), "Seconds."),
    Param::hint("peak", Ty::Int { min: 0, max: i64::MAX }, Default::Int(0), "MiB of memory that it says it held of its GPU."),
];

impl StageKind for Heavy {
    fn name(&self) -> &'static str {
        "heavy"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Runs elsewhere."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("y", ArtifactType::FILE)]
    }

    fn seeded(&self) -> bool {
        true
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn run(&self, _: &StageCx<'_>) -> Result<(), StageError> {
        panic!("a worker kind never runs here")
    }
}
