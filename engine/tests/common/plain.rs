//! Toy kinds that differ by no more than what they take, give and do.

use qapipe_engine::{ArtifactType, OutputSpec, Param, Place, StageCx, StageError, StageKind, Values};

/// A kind by its parts.
pub struct Plain {
    pub name: &'static str,
    pub params: &'static [Param],
    pub outputs: &'static [(&'static str, ArtifactType)],
    pub seeded: bool,
    pub place: Place,
    pub run: fn(&StageCx<'_>) -> Result<(), StageError>,
}

/// One that runs here, draws no random numbers, and gives the file `y`.
pub const fn plain(name: &'static str, params: &'static [Param], run: fn(&StageCx<'_>) -> Result<(), StageError>) -> Plain {
    Plain { name, params, outputs: &[("y", ArtifactType::FILE)], seeded: false, place: Place::Here, run }
}

impl StageKind for Plain {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "A toy."
    }

    fn params(&self) -> &'static [Param] {
        self.params
    }

    fn outputs(&self, _: &Values) -> Vec<OutputSpec> {
        self.outputs.iter().map(|&(name, artifact)| OutputSpec::new(name, artifact)).collect()
    }

    fn seeded(&self) -> bool {
        self.seeded
    }

    fn place(&self) -> Place {
        self.place
    }

    fn run(&self, cx: &StageCx<'_>) -> Result<(), StageError> {
        (self.run)(cx)
    }
}
