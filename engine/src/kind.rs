//! The interface that a kind of stage implements.

use crate::artifact::OutputSpec;
use crate::context::StageCx;
use crate::error::StageError;
use crate::lineage::Lineage;
use crate::param::Param;
use crate::values::Values;

/// One kind of stage: `tokenize`, `fine-tune`, … Implementations are unit structs in a static slice.
pub trait StageKind: Send + Sync {
    /// The word after `kind =`.
    fn name(&self) -> &'static str;

    /// Raised whenever the same parameters and inputs would give another result; enters the fingerprint.
    fn version(&self) -> u32;

    /// Help: the first line says in one sentence what the stage does; more paragraphs may follow.
    fn doc(&self) -> &'static str;

    /// The parameters, in the order in which help lists them.
    fn params(&self) -> &'static [Param];

    /// What a stage with these values gives; never empty. The first is what `@stage` means.
    fn outputs(&self, values: &Values) -> Vec<OutputSpec>;

    /// Checks what a table of types cannot say (two parameters that exclude each other). Does no IO.
    fn check(&self, _values: &Values) -> Result<(), Invalid> {
        Ok(())
    }

    /// Checks what a stage's inputs are made from, which only the whole pipeline tells: the model of a stage that quantizes must not come from
    /// another one. Does no IO.
    fn check_inputs(&self, _stage: Lineage<'_>) -> Result<(), Invalid> {
        Ok(())
    }

    /// Whether the kind draws random numbers: then the seed enters the fingerprint.
    fn seeded(&self) -> bool {
        false
    }

    /// Where a stage of this kind runs, as a rule; `place_of` decides for one stage.
    fn place(&self) -> Place {
        Place::Here
    }

    /// Where a stage with these values runs: the kind's place, unless the values ask for less.
    fn place_of(&self, _values: &Values) -> Place {
        self.place()
    }

    /// Runs one stage: reads `cx`'s inputs, writes every output. Not called where `place_of` says `Place::Worker`: a kind that always does has
    /// nothing to say here.
    fn run(&self, _cx: &StageCx<'_>) -> Result<(), StageError> {
        Err(StageError::bug(format!("{} runs in a worker", self.name())))
    }
}

/// Where a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this process, on one thread of the budget.
    Here,
    /// In a worker process that has loaded libtorch, alone on the machine's threads or on its GPU.
    Worker,
}

/// Why values of the right types still make no stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The parameter to point at, as a dotted path; empty points at the stage.
    pub param: String,
    /// A lowercase fragment: what is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Invalid {
    /// What is wrong with `param`.
    pub fn new(param: &str, message: impl Into<String>) -> Self {
        Self { param: param.to_owned(), message: message.into(), help: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl std::fmt::Debug for dyn StageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
