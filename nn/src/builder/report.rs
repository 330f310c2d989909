//! What became of the names when weights met a model.

use std::collections::BTreeMap;

use super::Builder;
use crate::error::{NnError, Result};
use crate::parameters::{Parameters, Placement};
use crate::tuning::Tuning;

/// What became of the names when weights met a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors of the model that the file does not have, and that were initialised at random.
    pub initialised: Vec<String>,
    /// Tensors of the file that the model has no place for.
    pub unused: Vec<String>,
}

impl Builder<'_> {
    /// All parameters, where and as they are to be used, and what became of the names. `ignored` are beginnings of names that a file may
    /// have besides.
    pub(crate) fn finish(self, placement: &Placement, ignored: &[&str]) -> Result<(Parameters, LoadReport)> {
        let report = self.report(ignored)?;
        if placement.train {
            self.check_trains()?;
        }
        self.tuning.check(self.pieces.sites.iter().map(|site| (site.module(), site.role)))?;
        Ok((Parameters::new(self.pieces, &self.tuning, placement)?, report))
    }

    /// Refuses to train what cannot.
    fn check_trains(&self) -> Result<()> {
        if self.adapter.is_some() {
            return Err(NnError::Fit(
                "the model is an adapter beside frozen weights, and has to be merged before it trains further".into(),
            ));
        }
        match self.pieces.packed.first() {
            Some((name, _)) if self.tuning == Tuning::Whole => {
                Err(NnError::Fit(format!("{name} is quantized, and quantized weights do not train: adapt the model with lora-adapt")))
            }
            _ => Ok(()),
        }
    }

    fn report(&self, ignored: &[&str]) -> Result<LoadReport> {
        let Some(weights) = self.weights else { return Ok(LoadReport::default()) };
        let wrong: Vec<String> = self.wrong().into_iter().map(|(what, names)| format!("{what}: {names}")).collect();
        if !wrong.is_empty() {
            return Err(NnError::Fit(format!("{} ({})", wrong.join("; "), weights.path().display())));
        }
        let bare = |name: &str| name.strip_prefix(self.prefix).unwrap_or(name).to_owned();
        let known = |name: &&str| self.used.contains(*name) || ignored.iter().any(|start| bare(name).starts_with(start));
        let unused = weights.names().filter(|name| !known(name)).map(str::to_owned).collect();
        Ok(LoadReport { initialised: self.missing.clone(), unused })
    }

    /// What is wrong, and with which tensors.
    fn wrong(&self) -> BTreeMap<&'static str, String> {
        let optional = |name: &&String| self.optional.iter().any(|start| name.starts_with(start));
        let missing: Vec<&String> = self.missing.iter().filter(|name| !optional(name)).collect();
        let adapter = self.adapter.map(|file| file.unplaced(|name| self.places(name))).unwrap_or_default();
        let all = [
            ("missing", listed(&missing)),
            ("of another shape", listed(&self.misshapen)),
            ("of an adapter and not of the model", listed(&adapter)),
        ];
        all.into_iter().filter(|(_, names)| !names.is_empty()).collect()
    }

    /// Whether a tensor of an adapter's file has found its place.
    fn places(&self, name: &str) -> bool {
        let of_module = [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"].iter().find_map(|end| name.strip_suffix(end));
        self.used.contains(of_module.unwrap_or(name))
    }
}

/// The first few of some names, and how many more there are.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let rest = names.len().saturating_sub(SHOWN);
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}
