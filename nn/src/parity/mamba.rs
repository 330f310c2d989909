//! Mamba against the reference implementation.

use std::path::Path;

use tch::{Device, Kind};

use super::{Check, TOLERANCE, compared, greedy_tokens, rows_of};
use crate::error::Result;
use crate::forward::Forward;
use crate::models::{MambaConfig, MambaForCausalLm, Writer, read_config};
use crate::packed::Packed;
use crate::pairs::Pairs;
use crate::parameters::Placement;
use crate::weights::Weights;

/// Most by which a logit may differ: what comes late in a sequence has passed through many sums.
const LOGITS: f64 = 10.0 * TOLERANCE;

/// Compares a Mamba: `ids` in; `logits`, `loss` (mean over all tokens but the first of each row, whose labels are the ids) and `gen` (the
/// first row and greedy tokens) out.
pub(crate) fn mamba(folder: &Path) -> Result<Vec<Check>> {
    let golden = Weights::open(&folder.join("golden.safetensors"))?;
    let config = MambaConfig::parse(&read_config(folder)?)?;
    let placement = Placement::inference(Device::Cpu).with_kind(Kind::Float);
    let (model, _) = MambaForCausalLm::load(&Weights::open_folder(folder)?, &config, &placement, 0)?;
    let ids = rows_of(&golden, "ids", None)?;
    let rows: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let packed = Packed::of_one_segment(&rows)?;
    let logits = model.forward_logits(&packed, &mut Forward::inference())?;
    let mut checks = vec![compared("logits", &logits, &golden.floats("logits")?, LOGITS)?];
    let pairs: Vec<(&[u32], &[u32])> = rows.iter().map(|row| row.split_at(1)).collect();
    let scores = model.forward(&Pairs::collate(model.form(), &pairs)?, &mut Forward::inference())?;
    checks.push(compared("loss", &scores.f_mean(Kind::Float)?.f_neg()?, &golden.floats("loss")?, TOLERANCE)?);
    let ends: Vec<u32> = config.eos_token_id.and_then(|id| u32::try_from(id).ok()).into_iter().collect();
    checks.push(greedy_tokens(&model, &golden, &Packed::of_one_segment(&rows[..1])?, &ends, rows[0].len())?);
    Ok(checks)
}
