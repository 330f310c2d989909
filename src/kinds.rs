//! The kinds of stages that this executable knows.

use clap::builder::{PossibleValue, TypedValueParser, ValueParserFactory};
use qapipe_engine::{Kinds, StageKind};

/// All kinds.
pub(crate) fn kinds() -> Kinds {
    Kinds::new(qapipe_stages::KINDS)
}

/// What a kind is, in one sentence without its full stop.
pub(crate) fn summary(kind: &dyn StageKind) -> &'static str {
    kind.doc().lines().next().unwrap_or_default().trim().trim_end_matches('.')
}

/// A kind that the user named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KindName(pub(crate) &'static dyn StageKind);

impl ValueParserFactory for KindName {
    type Parser = KindParser;

    fn value_parser() -> KindParser {
        KindParser
    }
}

/// Accepts the name of a kind, and knows them all for completions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KindParser;

impl TypedValueParser for KindParser {
    type Value = KindName;

    fn parse_ref(&self, command: &clap::Command, arg: Option<&clap::Arg>, value: &std::ffi::OsStr) -> Result<KindName, clap::Error> {
        let names = clap::builder::PossibleValuesParser::new(kinds().iter().map(StageKind::name));
        let name = names.parse_ref(command, arg, value)?;
        let kind = kinds().get(&name);
        kind.map(KindName).ok_or_else(|| clap::Error::new(clap::error::ErrorKind::InvalidValue).with_cmd(command))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(kinds().iter().map(|kind| PossibleValue::new(kind.name()).help(summary(kind)))))
    }
}
