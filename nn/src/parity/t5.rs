//! T5 against the reference implementation.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::{Check, TOLERANCE, compared, greedy_tokens, rows_of};
use crate::error::Result;
use crate::forward::Forward;
use crate::layers::Buckets;
use crate::models::{T5Config, T5ForConditionalGeneration, Writer, read_config};
use crate::packed::Packed;
use crate::pairs::{Form, Pairs};
use crate::parameters::Placement;
use crate::weights::Weights;

/// Compares a T5: `ids`, `am` (attention mask, padding at the end of a row) and `labels` (-100 does not count) in; `logits`, `loss` (mean
/// over all target tokens), `gen` (greedy tokens after the start token) and the two tables of buckets out.
pub(crate) fn t5(folder: &Path) -> Result<Vec<Check>> {
    let golden = Weights::open(&folder.join("golden.safetensors"))?;
    let config = T5Config::parse(&read_config(folder)?)?;
    let placement = Placement::inference(Device::Cpu).with_kind(Kind::Float);
    let (model, _) = T5ForConditionalGeneration::load(&Weights::open_folder(folder)?, &config, &placement, 0)?;
    let sources = rows_of(&golden, "ids", Some("am"))?;
    let targets = targets(&golden)?;
    let mut checks = vec![logits(&model, &golden, &sources, &targets)?, loss(&model, &golden, &sources, &targets)?];
    let rows: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
    checks.push(greedy_tokens(&model, &golden, &Packed::of_one_segment(&rows)?, &[1], 1)?);
    for (name, bidirectional) in [("buckets_bi", true), ("buckets_uni", false)] {
        checks.push(buckets(&config, &golden, name, bidirectional)?);
    }
    Ok(checks)
}

/// Target tokens of each row, without those that do not count.
fn targets(golden: &Weights) -> Result<Vec<Vec<u32>>> {
    let rows = Vec::<Vec<i64>>::try_from(&golden.tensor("labels")?)?;
    Ok(rows.into_iter().map(|row| row.into_iter().filter_map(|id| u32::try_from(id).ok()).collect()).collect())
}

/// Logits where targets count.
fn logits(model: &T5ForConditionalGeneration, golden: &Weights, sources: &[Vec<u32>], targets: &[Vec<u32>]) -> Result<Check> {
    let pairs = pairs(model.form(), sources, targets)?;
    let output = pairs.output.as_ref().unwrap_or(&pairs.input);
    let ours = model.forward_logits(&pairs.input, output, &mut Forward::inference())?;
    let counts = golden.tensor("labels")?.f_ge(0)?.f_unsqueeze(-1)?;
    compared("logits", &ours, &golden.floats("logits")?.f_masked_select(&counts)?, TOLERANCE)
}

fn loss(model: &T5ForConditionalGeneration, golden: &Weights, sources: &[Vec<u32>], targets: &[Vec<u32>]) -> Result<Check> {
    let scores = model.forward(&pairs(model.form(), sources, targets)?, &mut Forward::inference())?;
    compared("loss", &scores.f_mean(Kind::Float)?.f_neg()?, &golden.floats("loss")?, TOLERANCE)
}

fn pairs(form: Form, sources: &[Vec<u32>], targets: &[Vec<u32>]) -> Result<Pairs> {
    let pairs: Vec<(&[u32], &[u32])> = sources.iter().map(Vec::as_slice).zip(targets.iter().map(Vec::as_slice)).collect();
    Pairs::collate(form, &pairs)
}

/// The buckets of the distances from -200 to 200.
fn buckets(config: &T5Config, golden: &Weights, name: &str, bidirectional: bool) -> Result<Check> {
    let distances = Tensor::f_arange_start(-200, 201, (Kind::Int64, Device::Cpu))?;
    let (count, max_distance) = (config.relative_attention_num_buckets, config.relative_attention_max_distance);
    let ours = Buckets { count, max_distance, bidirectional }.of(&distances)?;
    compared(name, &ours, &golden.tensor(name)?, 0.0)
}
