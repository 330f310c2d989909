//! Comparison with golden tensors: what the reference implementation answers for given weights and input.
//!
//! A folder holds `config.json`, `model.safetensors` and `golden.safetensors`; the last has a family's inputs and expected outputs.

mod mamba;
mod spans;
mod t5;

use std::fmt;
use std::path::{Path, PathBuf};

use tch::Tensor;

use crate::error::{NnError, Result};
use crate::generate::{Generated, Limits, greedy};
use crate::models::{MODELS, Writer, family_name, read_config};
use crate::packed::{Packed, signed};
use crate::weights::Weights;

pub(crate) use mamba::mamba;
pub(crate) use spans::spans;
pub(crate) use t5::t5;

/// Most by which a logit or a loss may differ.
pub const TOLERANCE: f64 = 1e-5;

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What was compared.
    pub what: String,
    /// The largest absolute difference.
    pub difference: f64,
    /// Most that it may be.
    pub tolerance: f64,
}

impl Check {
    /// Whether it agrees. A difference that is no number does not.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.difference <= self.tolerance
    }
}

/// What became of one folder.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It was compared.
    Checked(Vec<Check>),
    /// Its family is not built yet.
    Skipped(String),
    /// It could not be compared.
    Failed(String),
}

/// What became of every folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Each folder with its verdict, by name.
    pub folders: Vec<(PathBuf, Verdict)>,
}

impl Report {
    /// Whether something was compared, and all of it agrees.
    #[must_use]
    pub fn passed(&self) -> bool {
        let checked = |verdict: &Verdict| matches!(verdict, Verdict::Checked(checks) if !checks.is_empty());
        let fine = |verdict: &Verdict| match verdict {
            Verdict::Checked(checks) => checks.iter().all(Check::passed),
            Verdict::Skipped(_) => true,
            Verdict::Failed(_) => false,
        };
        self.folders.iter().any(|(_, verdict)| checked(verdict)) && self.folders.iter().all(|(_, verdict)| fine(verdict))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:<24} {:<18} {:>12} {:>12}  VERDICT", "MODEL", "COMPARED", "DIFFERENCE", "ALLOWED")?;
        for (folder, verdict) in &self.folders {
            let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
            match verdict {
                Verdict::Checked(checks) => {
                    for Check { what, difference, tolerance } in checks {
                        let word = if difference <= tolerance { "equal" } else { "DIFFERENT" };
                        writeln!(out, "{name:<24} {what:<18} {difference:>12.2e} {tolerance:>12.0e}  {word}")?;
                    }
                }
                Verdict::Skipped(why) => writeln!(out, "{name:<24} {:<18} {:>12} {:>12}  skipped: {why}", "-", "-", "-")?,
                Verdict::Failed(why) => writeln!(out, "{name:<24} {:<18} {:>12} {:>12}  FAILED: {why}", "-", "-", "-")?,
            }
        }
        if self.folders.is_empty() {
            writeln!(out, "no folder holds config.json, model.safetensors and golden.safetensors")
        } else {
            Ok(())
        }
    }
}

/// Compares every folder under `root` (or `root` itself) that has the three files. A folder that cannot be compared is part of the report.
///
/// # Errors
/// Where `root` cannot be listed.
pub fn check_all(root: &Path) -> Result<Report> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(root).map_err(NnError::io(root))? {
        folders.push(entry.map_err(NnError::io(root))?.path());
    }
    folders.push(root.to_path_buf());
    folders.retain(|folder| ["config.json", "model.safetensors", "golden.safetensors"].iter().all(|file| folder.join(file).is_file()));
    folders.sort();
    let verdict = |folder: PathBuf| {
        let found = check(&folder).unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        (folder, found)
    };
    Ok(Report { folders: folders.into_iter().map(verdict).collect() })
}

/// Compares one folder.
fn check(folder: &Path) -> Result<Verdict> {
    let name = family_name(&read_config(folder)?)?;
    match MODELS.iter().find(|model| model.family == name) {
        Some(model) => Ok(Verdict::Checked((model.parity)(folder)?)),
        None => Ok(Verdict::Skipped(format!("family {name} is not built yet"))),
    }
}

/// The largest absolute difference of two tensors of the same numbers.
pub(crate) fn compared(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) -> Result<Check> {
    if ours.numel() != theirs.numel() {
        return Err(NnError::Fit(format!("{what}: {} numbers, and {} in golden.safetensors", ours.numel(), theirs.numel())));
    }
    let difference = ours.f_view([-1])?.f_sub(&theirs.f_view([-1])?)?.f_abs()?.f_max()?.f_double_value(&[])?;
    Ok(Check { what: what.to_owned(), difference, tolerance })
}

/// Rows of token ids, each as long as its row of the mask has ones.
pub(crate) fn rows_of(golden: &Weights, ids: &str, mask: Option<&str>) -> Result<Vec<Vec<u32>>> {
    let rows = Vec::<Vec<i64>>::try_from(&golden.tensor(ids)?)?;
    let mask = mask.map(|mask| golden.tensor(mask).and_then(|mask| Ok(Vec::<Vec<i64>>::try_from(&mask)?))).transpose()?;
    let length = |row: usize| mask.as_ref().map_or(usize::MAX, |mask| mask[row].iter().filter(|&&one| one == 1).count());
    let unsigned = |(row, ids): (usize, Vec<i64>)| ids.into_iter().take(length(row)).map(|id| u32::try_from(id).unwrap_or(0)).collect();
    Ok(rows.into_iter().enumerate().map(unsigned).collect())
}

/// Compares greedy decoding with `gen`, whose rows begin with `before` tokens that were given, and are filled up once one of `ends` has
/// come. The difference is the number of rows that are not equal.
pub(crate) fn greedy_tokens(model: &dyn Writer, golden: &Weights, sources: &Packed, ends: &[u32], before: usize) -> Result<Check> {
    let theirs = rows_of(golden, "gen", None)?;
    let most = theirs.iter().map(|row| row.len().saturating_sub(before)).max().unwrap_or(0);
    let found = greedy(model, sources, &Limits { most: signed(most), ends: ends.to_vec(), not_first: None })?;
    let equal = |(ours, theirs): (&Generated, &Vec<u32>)| {
        let wanted = if ours.ended { ours.tokens.len() } else { most };
        ours.tokens.len() == wanted && theirs.get(before..before + wanted) == Some(ours.tokens.as_slice())
    };
    let wrong = found.len().abs_diff(theirs.len()) + found.iter().zip(&theirs).filter(|&row| !equal(row)).count();
    #[allow(clippy::cast_precision_loss)]
    Ok(Check { what: "greedy tokens".to_owned(), difference: wrong as f64, tolerance: 0.0 })
}
