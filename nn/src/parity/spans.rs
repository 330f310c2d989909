//! Models that point at answers against their reference implementations.

use std::path::Path;

use tch::{Device, Kind};

use super::{Check, TOLERANCE, compared};
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::loss::span_loss;
use crate::models::{SpanLogits, load};
use crate::packed::Packed;
use crate::parameters::Placement;
use crate::weights::Weights;

/// Compares a reader: `ids`, `tt` (token types) and `am` (attention mask, padding at the end of a row) in; `start`, `end` and `loss`
/// out, the last for `start_positions` and `end_positions`.
///
/// Padding does not exist here, so logits are compared where the mask is one. The reference's loss, though, is a cross-entropy over
/// padded rows, logits of the padding included; it is compared by putting our logits into the golden rows.
pub(crate) fn spans(folder: &Path) -> Result<Vec<Check>> {
    let golden = Weights::open(&folder.join("golden.safetensors"))?;
    let (model, _) = load(folder, &Placement::inference(Device::Cpu).with_kind(Kind::Float), 0)?;
    let reader = model.into_reader()?;
    let rows = Rows::read(&golden)?;
    let logits = reader.forward(&rows.packed()?, &mut Forward::inference())?;
    let mask = golden.tensor("am")?.f_to_kind(Kind::Bool)?.f_view([-1])?;
    let mut checks = Vec::new();
    let mut whole = Vec::new();
    for (name, ours) in [("start", &logits.start), ("end", &logits.end)] {
        let theirs = golden.floats(name)?.f_view([-1])?;
        checks.push(compared(name, ours, &theirs.f_masked_select(&mask)?, TOLERANCE)?);
        whole.push(theirs.f_masked_scatter(&mask, ours)?);
    }
    if let (Some(end), Some(start)) = (whole.pop(), whole.pop()) {
        let (starts, ends) = (golden.tensor("start_positions")?, golden.tensor("end_positions")?);
        let loss = span_loss(&SpanLogits { start, end }, &rows.padded()?, &starts, &ends)?;
        checks.push(compared("loss", &loss, &golden.floats("loss")?, TOLERANCE)?);
    }
    Ok(checks)
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
