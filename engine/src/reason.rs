//! Why a stage has to run, in words.

use std::fmt;

use serde_json::Value;

use crate::fingerprint::Facets;
use crate::pipeline::{Source, StageSpec};

/// Why a stage has to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It never ran under this name.
    New,
    /// The user asked for it.
    Forced,
    /// Its stored result is damaged.
    Damaged,
    /// Its result is no longer in the store.
    Missing,
    /// What it is made from changed; never empty.
    Changed(Vec<Change>),
}

/// One facet that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the facet: `params.train.lr`, `input.model`, `seed`.
    pub facet: String,
    /// Its value before; none if it was at its default or absent.
    pub before: Option<String>,
    /// Its value now; none if it is at its default or absent.
    pub now: Option<String>,
    /// For an input, where it comes from: `@base` or a path.
    pub from: Option<String>,
}

impl Reason {
    /// What differs between the facets of an earlier result and those of now.
    pub(crate) fn between(before: &Facets, now: &Facets, spec: &StageSpec) -> Self {
        let changes = changes(before, now, spec);
        if changes.is_empty() { Self::Missing } else { Self::Changed(changes) }
    }
}

/// All differences, parameters first, since they are what users edit.
pub(crate) fn changes(before: &Facets, now: &Facets, spec: &StageSpec) -> Vec<Change> {
    let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
    let mut changes: Vec<Change> = names
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| Change {
            facet: name.clone(),
            before: before.get(name).cloned(),
            now: now.get(name).cloned(),
            from: name.strip_prefix("input.").and_then(|param| origin(spec, param)),
        })
        .collect();
    changes.sort_by_key(|change| (change.facet.starts_with("input."), change.facet.clone()));
    changes
}

/// Where two lists of one length differ in a single element: its index.
pub(crate) fn only_part(change: &Change) -> Option<usize> {
    only_element(change.before.as_deref()?, change.now.as_deref()?).map(|(index, ..)| index)
}

fn origin(spec: &StageSpec, param: &str) -> Option<String> {
    let input = spec.inputs.iter().find(|input| input.param == param)?;
    match &input.source {
        Source::Path(path) => Some(path.display().to_string()),
        Source::Stage { .. } => Some(spec.values.text(param).unwrap_or("another stage").to_owned()),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new stage"),
            Self::Forced => f.write_str("forced"),
            Self::Damaged => f.write_str("stored result damaged"),
            Self::Missing => f.write_str("result not in the store"),
            Self::Changed(changes) => {
                let more = changes.len().saturating_sub(1);
                changes.first().map_or(Ok(()), |change| change.fmt(f))?;
                if more > 0 { write!(f, " (+{more} more)") } else { Ok(()) }
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.facet.starts_with("input.") {
            return match (&self.from, &self.before, &self.now) {
                (Some(from), Some(_), Some(_)) => write!(f, "{} changed ({from})", self.facet),
                (_, _, None) => write!(f, "{} removed", self.facet),
                (_, None, _) => write!(f, "{} added", self.facet),
                _ => write!(f, "{} changed", self.facet),
            };
        }
        let Difference { place, before, now } = Difference::of(self.before.as_deref(), self.now.as_deref());
        write!(f, "{}{place} {before} -> {now}", self.facet)
    }
}

/// Two values as short texts in which the difference can be seen.
struct Difference {
    /// Where in a list the values differ: `[2]`.
    place: String,
    before: String,
    now: String,
}

impl Difference {
    fn of(before: Option<&str>, now: Option<&str>) -> Self {
        let (Some(before), Some(now)) = (before, now) else {
            let text = |value: Option<&str>| value.map_or_else(|| "default".to_owned(), |value| cut(value, 0));
            return Self { place: String::new(), before: text(before), now: text(now) };
        };
        if let Some((index, before, now)) = only_element(before, now) {
            let inner = Self::of(Some(&before), Some(&now));
            return Self { place: format!("[{index}]{}", inner.place), ..inner };
        }
        let same = before.chars().zip(now.chars()).take_while(|(a, b)| a == b).count();
        Self { place: String::new(), before: cut(before, same), now: cut(now, same) }
    }
}

/// Where two lists of one length differ in a single element: its index and the two.
fn only_element(before: &str, now: &str) -> Option<(usize, String, String)> {
    let list = |text: &str| serde_json::from_str::<Vec<Value>>(text).ok();
    let (before, now) = (list(before)?, list(now)?);
    let mut differing = before.iter().zip(&now).enumerate().filter(|(_, (a, b))| a != b);
    let (index, (a, b)) = differing.next()?;
    (before.len() == now.len() && differing.next().is_none()).then(|| (index, a.to_string(), b.to_string()))
}

/// Cuts a long value, in whole characters, to what stands around the first difference.
fn cut(value: &str, same: usize) -> String {
    const MOST: usize = 40;
    const BEFORE: usize = 8;
    let length = value.chars().count();
    if length <= MOST {
        return value.to_owned();
    }
    let skipped = if same < MOST / 2 { 0 } else { same - BEFORE };
    let text: String = value.chars().skip(skipped).take(MOST).collect();
    let (head, tail) = (if skipped > 0 { "…" } else { "" }, if skipped + MOST < length { "…" } else { "" });
    format!("{head}{text}{tail}")
}
