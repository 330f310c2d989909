//! Comparison with golden tensors: what the reference implementation answers for given weights and input.
//!
//! A folder holds `config.json`, `model.safetensors` and `golden.safetensors`; the last has a family's inputs and expected outputs.

use std::fmt;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::loss::span_loss;
use crate::models::{MODELS, SpanLogits, family_name, load, read_config};
use crate::packed::Packed;
use crate::parameters::Placement;
use crate::weights::Weights;

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

/// Compares a BERT reader: `ids`, `tt` (token types) and `am` (attention mask, padding at the end of a row) in; `start`, `end` and `loss`
/// out, the last for `start_positions` and `end_positions`.
///
/// Padding does not exist here, so logits are compared where the mask is one. The reference's loss, though, is a cross-entropy over
/// padded rows, logits of the padding included; it is compared by putting our logits into the golden rows.
pub(crate) fn bert(folder: &Path) -> Result<Vec<Check>> {
    let golden = Weights::open(&folder.join("golden.safetensors"))?;
    let (reader, _) = load(folder, &Placement::inference(Device::Cpu).with_kind(Kind::Float), 0)?;
    let rows = Rows::read(&golden)?;
    let logits = reader.forward(&rows.packed()?, &mut Forward::inference())?;
    let mask = golden.tensor("am")?.f_to_kind(Kind::Bool)?.f_view([-1])?;
    let mut checks = Vec::new();
    let mut whole = Vec::new();
    for (name, ours) in [("start", &logits.start), ("end", &logits.end)] {
        let theirs = golden.floats(name)?.f_view([-1])?;
        checks.push(compared(name, ours, &theirs.f_masked_select(&mask)?)?);
        whole.push(theirs.f_masked_scatter(&mask, ours)?);
    }
    if let (Some(end), Some(start)) = (whole.pop(), whole.pop()) {
        let (starts, ends) = (golden.tensor("start_positions")?, golden.tensor("end_positions")?);
        let loss = span_loss(&SpanLogits { start, end }, &rows.padded()?, &starts, &ends)?;
        checks.push(compared("loss", &loss, &golden.floats("loss")?)?);
    }
    Ok(checks)
}

/// The largest absolute difference of two tensors of the same numbers.
fn compared(what: &str, ours: &Tensor, theirs: &Tensor) -> Result<Check> {
    if ours.numel() != theirs.numel() {
        return Err(NnError::Fit(format!("{what}: {} numbers, and {} in golden.safetensors", ours.numel(), theirs.numel())));
    }
    let difference = ours.f_view([-1])?.f_sub(&theirs.f_view([-1])?)?.f_abs()?.f_max()?.f_double_value(&[])?;
    Ok(Check { what: what.to_owned(), difference, tolerance: TOLERANCE })
}

/// Padded rows of a golden file.
struct Rows {
    ids: Vec<Vec<u32>>,
    /// Where segment 1 begins in each row.
    contexts: Vec<u32>,
    /// Tokens of each row that are no padding.
    lengths: Vec<usize>,
}

impl Rows {
    fn read(golden: &Weights) -> Result<Self> {
        let columns = ["ids", "tt", "am"].map(|name| golden.tensor(name).and_then(|tensor| Ok(Vec::<Vec<i64>>::try_from(&tensor)?)));
        let [ids, segments, mask] = columns;
        let (ids, segments, mask) = (ids?, segments?, mask?);
        let first = |row: &Vec<i64>| u32::try_from(row.iter().take_while(|&&segment| segment == 0).count()).unwrap_or(u32::MAX);
        let real = |row: &Vec<i64>| row.iter().filter(|&&one| one == 1).count();
        if mask.iter().any(|row| row.iter().take(real(row)).any(|&one| one != 1)) {
            return Err(NnError::Input("golden.safetensors: am has padding before the end of a row".into()));
        }
        let unsigned = |row: Vec<i64>| row.into_iter().map(|id| u32::try_from(id).unwrap_or(0)).collect();
        Ok(Self {
            contexts: segments.iter().map(first).collect(),
            lengths: mask.iter().map(real).collect(),
            ids: ids.into_iter().map(unsigned).collect(),
        })
    }

    /// The rows without their padding.
    fn packed(&self) -> Result<Packed> {
        let rows = self.ids.iter().zip(&self.contexts).zip(&self.lengths);
        let rows: Vec<(&[u32], u32)> = rows.map(|((ids, &context), &length)| (&ids[..length], context)).collect();
        Packed::from_sequences(&rows, Device::Cpu)
    }

    /// The rows with their padding, as if it were text.
    fn padded(&self) -> Result<Packed> {
        let rows: Vec<(&[u32], u32)> = self.ids.iter().zip(&self.contexts).map(|(ids, &context)| (ids.as_slice(), context)).collect();
        Packed::from_sequences(&rows, Device::Cpu)
    }
}
