//! How a stage kind declares its parameters: one table that checking, help, the JSON schema, completions and the canonical form share.

use crate::artifact::ArtifactType;

/// One parameter of a stage kind.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Key in the stage's TOML table.
    pub name: &'static str,
    /// What it accepts.
    pub ty: Ty,
    /// What holds when it is not given.
    pub default: Default,
    /// Whether it determines the result.
    pub role: Role,
    /// One sentence for help, with the unit.
    pub doc: &'static str,
}

/// What a parameter accepts.
#[derive(Clone, Copy, Debug)]
pub enum Ty {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds, both inclusive.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A number (whole numbers too) within bounds, both inclusive.
    Float {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// Any text.
    Str,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A file or folder, relative to the pipeline's folder; its content, not its name, enters the fingerprint.
    /// With `hub` also `hub:REPO[@REVISION]`, whose text enters the fingerprint.
    Path {
        /// Whether `hub:…` is accepted.
        hub: bool,
    },
    /// `@stage` or `@stage.output`.
    Ref(Accepts),
    /// `@stage`, `@stage.output`, or a path.
    RefOrPath(Accepts),
    /// A list of values of one type.
    List(&'static Ty),
    /// A table of values of one type, keyed by names that the user chooses.
    Map(&'static Ty),
    /// A table with declared keys.
    Table(&'static [Param]),
    /// The first of these that fits.
    OneOf(&'static [Ty]),
}

/// Which artifacts a reference may name, and what of them the stage reads.
#[derive(Clone, Copy, Debug)]
pub struct Accepts {
    /// Accepted types; empty accepts all.
    pub types: &'static [ArtifactType],
    /// Top-level names of the folder artifact that the stage reads; the fingerprint takes only these. Empty means all of it.
    pub part: &'static [&'static str],
}

/// What holds when a parameter is not given.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// Leaving it out is an error.
    Required,
    /// It is then absent, and the stage sees no value.
    Absent,
    /// This truth value.
    Bool(bool),
    /// This whole number.
    Int(i64),
    /// This number.
    Float(f64),
    /// This text.
    Str(&'static str),
    /// For `Ty::Table`: the table with all of its own defaults.
    Table,
}

/// Whether a parameter determines the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Enters the fingerprint.
    Param,
    /// Does not: given under `hints = { … }`.
    Hint,
}

impl Param {
    /// A parameter that must be given.
    pub const fn required(name: &'static str, ty: Ty, doc: &'static str) -> Self {
        Self { name, ty, default: Default::Required, role: Role::Param, doc }
    }

    /// A parameter that may be left out and is then absent.
    pub const fn optional(name: &'static str, ty: Ty, doc: &'static str) -> Self {
        Self { name, ty, default: Default::Absent, role: Role::Param, doc }
    }

    /// A parameter with a default.
    pub const fn with(name: &'static str, ty: Ty, default: Default, doc: &'static str) -> Self {
        Self { name, ty, default, role: Role::Param, doc }
    }

    /// A hint: changes how fast or where, never what.
    pub const fn hint(name: &'static str, ty: Ty, default: Default, doc: &'static str) -> Self {
        Self { name, ty, default, role: Role::Hint, doc }
    }
}
