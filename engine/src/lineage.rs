//! What a stage is made from, as far as the pipeline tells before anything runs.

use crate::pipeline::{Source, StageSpec};
use crate::source::{Problem, Sink};
use crate::values::Values;

/// A stage, with the stages that its inputs come from.
#[derive(Clone, Copy)]
pub struct Lineage<'a> {
    stages: &'a [StageSpec],
    stage: &'a StageSpec,
}

impl<'a> Lineage<'a> {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        self.stage.kind.name()
    }

    /// Its values.
    pub fn values(&self) -> &'a Values {
        &self.stage.values
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.stage.name
    }

    /// The stage that an input comes from; none where it is a path, or not given.
    pub fn input(&self, param: &str) -> Option<Self> {
        let input = self.stage.inputs.iter().find(|input| input.param == param)?;
        let Source::Stage { index, .. } = &input.source else { return None };
        Some(Self { stage: self.stages.get(*index)?, ..*self })
    }
}

/// Has every kind look at what its stages are made from.
pub(crate) fn check(stages: &[StageSpec], sink: &mut Sink) {
    for stage in stages {
        if let Err(invalid) = stage.kind.check_inputs(Lineage { stages, stage }) {
            let input = stage.inputs.iter().find(|input| input.param == invalid.param);
            let span = input.map_or(&stage.span, |input| &input.span);
            sink.push(span, || Problem::new(invalid.message).help(invalid.help));
        }
    }
}
