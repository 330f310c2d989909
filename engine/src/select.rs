//! Which stages a name or a condition means.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use crate::cell::{Asked, Cell, Setting, listed};
use crate::name::shown;
use crate::nearest::suggest;
use crate::selector::{Selector, family, pieces};

/// Something was asked for that the pipeline does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", self.message(), self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default())]
pub struct Unknown {
    /// What it would be: a stage, an axis.
    pub what: &'static str,
    /// What was asked for.
    pub name: String,
    /// The nearest name, or what there is.
    pub help: Option<String>,
}

impl Unknown {
    /// What is wrong, without help.
    #[must_use]
    pub fn message(&self) -> String {
        format!("no {} `{}`", self.what, self.name)
    }
}

/// A condition on cells: the axis has one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Where {
    /// The axis.
    pub axis: String,
    /// The values, as they stand in names of stages or as they would be written.
    pub values: Vec<String>,
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not of the form AXIS=VALUE; write for example `rank=8` or `rank=4,8`");
        let (axis, values) = text.split_once('=').ok_or_else(wrong)?;
        let values: Vec<String> = pieces(values).map(|value| value.trim().to_owned()).collect();
        if axis.trim().is_empty() || values.iter().any(String::is_empty) {
            return Err(wrong());
        }
        Ok(Self { axis: axis.trim().to_owned(), values })
    }
}

/// Stages by their names; those of a matrix also by what all of a family are called.
pub(crate) struct Directory<'a> {
    names: HashMap<&'a str, usize>,
    families: HashMap<&'a str, Vec<usize>>,
    /// What may be meant by a name that is none.
    words: Vec<&'a str>,
}

impl<'a> Directory<'a> {
    pub(crate) fn new(all: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let mut directory = Self { names: HashMap::new(), families: HashMap::new(), words: Vec::new() };
        for (name, stage) in all {
            directory.names.insert(name, stage);
            let family = family(name);
            if family.len() == name.len() {
                directory.words.push(name);
                continue;
            }
            let members = directory.families.entry(family).or_default();
            if members.is_empty() {
                directory.words.push(family);
            }
            members.push(stage);
        }
        directory
    }

    /// The stages that a name means, whose cells are these.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn find<'c>(&self, name: &str, cell: &dyn Fn(usize) -> &'c Cell) -> Result<Vec<usize>, Unknown> {
        if let Some(&stage) = self.names.get(name) {
            return Ok(vec![stage]);
        }
        let selector = Selector::parse(name);
        let family = selector.as_ref().and_then(|selector| Some((selector, self.families.get(selector.family)?)));
        let Some((selector, members)) = family else {
            let known = selector.filter(|selector| self.names.contains_key(selector.family));
            let help = match known {
                Some(Selector { family, .. }) => Some(format!("`{family}` does not hang on the matrix")),
                None => suggest(name, "stages", self.words.iter().copied()),
            };
            return Err(Unknown { what: "stage", name: shown(name), help });
        };
        let mut found = members.clone();
        for (axis, text) in &selector.settings {
            let among = || found.iter().map(|&stage| cell(stage));
            let asked = Asked::new(text);
            let help = known(axis, &[&asked], among()).err();
            found.retain(|&stage| cell(stage).get(axis).is_some_and(|setting| setting.is(&asked)));
            if found.is_empty() {
                return Err(Unknown { what: "stage", name: shown(name), help: help.and_then(|unknown| unknown.help) });
            }
        }
        Ok(found)
    }
}

/// Those of some stages that meet all conditions. A stage without the axis does not.
///
/// # Errors
/// Where none does.
pub(crate) fn among<'c>(stages: Vec<usize>, conditions: &[Where], cell: &dyn Fn(usize) -> &'c Cell) -> Result<Vec<usize>, Unknown> {
    let mut left = stages;
    for Where { axis, values } in conditions {
        let asked: Vec<Asked<'_>> = values.iter().map(|value| Asked::new(value)).collect();
        known(axis, &asked.iter().collect::<Vec<_>>(), left.iter().map(|&stage| cell(stage)))?;
        left.retain(|&stage| cell(stage).get(axis).is_some_and(|setting| asked.iter().any(|asked| setting.is(asked))));
    }
    Ok(left)
}

/// Whether some cells have this axis, and each of these values of it.
fn known<'c>(axis: &str, asked: &[&Asked<'_>], cells: impl Iterator<Item = &'c Cell>) -> Result<(), Unknown> {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut axes: Vec<&str> = Vec::new();
    let mut values: Vec<&Arc<Setting>> = Vec::new();
    for setting in cells.flat_map(|cell| &cell.0) {
        if *setting.axis != *axis {
            if seen.insert(&setting.axis) {
                axes.push(&setting.axis);
            }
        } else if seen.insert(setting.key()) {
            values.push(setting);
        }
    }
    if values.is_empty() {
        return Err(Unknown { what: "axis", name: shown(axis), help: suggest(axis, "axes", axes) });
    }
    match asked.iter().find(|asked| !values.iter().any(|setting| setting.is(asked))) {
        None => Ok(()),
        Some(asked) => {
            let help = format!("`{axis}` is one of {}", listed(values.iter().map(|setting| &***setting)));
            Err(Unknown { what: "stage with", name: shown(&format!("{axis}={}", asked.text)), help: Some(help) })
        }
    }
}
