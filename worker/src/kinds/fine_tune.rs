//! `fine-tune`: trains all of a model.

use std::path::Path;

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::{AdamW, Forward, Reader, device, models};
use qapipe_stages::examples::Part;
use qapipe_stages::features::{self, Features};
use qapipe_stages::postprocess::Settings;
use qapipe_stages::split::holdout;
use qapipe_stages::tables::write_table;
use serde::Deserialize;

use crate::checkpoint::{self, Trained};
use crate::error::Error;
use crate::figures::{Energy, peak};
use crate::precision::Precision;
use crate::training::{SpanSource, SpanTrainee, Summary, TrainValues, train};

/// The parameters, as `qapipe_stages` declares them.
#[derive(Deserialize)]
struct Wanted {
    train: TrainValues,
    precision: Precision,
    #[serde(default)]
    hints: Hints,
}

#[derive(Deserialize)]
#[serde(default)]
struct Hints {
    micro_batch_tokens: usize,
    log_every: u64,
}

impl Default for Hints {
    fn default() -> Self {
        Self { micro_batch_tokens: 16_384, log_every: 10 }
    }
}

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let (base, data) = (cx.input("model")?, cx.input("data")?);
    let place = crate::precision::prepare(cx)?;
    let features = Features::open(data, Part::Train).map_err(Error::from)?;
    let info = features::Info::open(data).map_err(Error::from)?;
    let mut model = open(base, &info, &features, wanted.precision.training(place), cx)?;
    let held_out = holdout(features.examples(), wanted.train.holdout, cx.request.seed);
    let settings = Settings::of_version(&info.dataset_version);
    let (mut summary, energy) = trained(model.as_mut(), &features, &held_out, settings, &wanted, cx)?;
    report(&summary, model.as_ref(), &energy, cx)?;
    let trained =
        Trained { null_threshold: summary.kept.and_then(|kept| kept.null_threshold), parameters_trained: model.parameters().trainable() };
    save(model.as_ref(), base, &trained, cx.output("model")?)?;
    write_table(cx.output("log")?, &std::mem::take(&mut summary.log)).map_err(Error::from)?;
    Ok(())
}

/// Loads the model, and checks that the windows are of its tokenizer and not too long for it.
fn open(
    base: &Path,
    info: &features::Info,
    features: &Features,
    placement: qapipe_nn::Placement,
    cx: &StageCx<'_>,
) -> Result<Box<dyn Reader>, Error> {
    let (model, found) = models::load(base, &placement, cx.request.seed)?;
    if !found.initialised.is_empty() {
        cx.reporter.log(&format!("new, drawn by the seed: {}", found.initialised.join(", ")));
    }
    checkpoint::check_features(model.network(), base, info, features)?;
    Ok(model.into_reader()?)
}

/// Trains the model; gives what happened, and the energy that it took.
fn trained(
    model: &mut dyn Reader,
    features: &Features,
    held_out: &[bool],
    settings: Settings,
    wanted: &Wanted,
    cx: &StageCx<'_>,
) -> Result<(Summary, Energy), Error> {
    let rows: Vec<u32> = (0..).take(features.len()).filter(|&row| !held_out[features.example(row as usize)]).collect();
    let held_out: Vec<usize> = (0..held_out.len()).filter(|&question| held_out[question]).collect();
    if held_out.is_empty() && wanted.train.holdout > 0.0 {
        let error = StageError::failed("holdout: the train part is of one paragraph, nothing of it can be held out");
        return Err(error.help("leave `holdout` out, or bring more data").into());
    }
    if rows.is_empty() {
        return Err(Error::failed("there are no windows to train on"));
    }
    let mut recipe = wanted.train.recipe(wanted.hints.micro_batch_tokens, wanted.hints.log_every, cx.request.seed);
    recipe.held_out = !held_out.is_empty();
    let place = model.parameters().device();
    cx.reporter.log(&format!("{} windows, {} questions held out, {} parameters", rows.len(), held_out.len(), model.parameters().count()));
    let mut optimiser = AdamW::new(model.parameters(), wanted.train.optimiser())?;
    let forward = Forward::training(cx.request.seed);
    device::reset_peak_memory(place)?;
    let energy = Energy::start(crate::precision::index(place));
    let mut trainee = SpanTrainee { model, forward, features, settings, held_out, tokens: wanted.hints.micro_batch_tokens };
    let summary = train(&mut trainee, &SpanSource::new(features), &rows, &mut optimiser, &recipe, cx)?;
    Ok((summary, energy))
}

/// Tells the figures of the action record.
#[allow(clippy::cast_precision_loss)]
fn report(summary: &Summary, model: &dyn Reader, energy: &Energy, cx: &StageCx<'_>) -> Result<(), Error> {
    cx.reporter.measure("train_seconds", summary.seconds);
    cx.reporter.measure("examples_per_second", summary.examples as f64 / summary.seconds.max(1e-9));
    if let Some(bytes) = peak(model.parameters().device())? {
        cx.reporter.measure("peak_memory_bytes", bytes as f64);
    }
    if let Some(joules) = energy.joules() {
        cx.reporter.measure("energy_joules", joules);
    }
    Ok(())
}

/// Writes the model with the tokenizer that it was trained with.
fn save(model: &dyn Reader, base: &Path, trained: &Trained, output: &Path) -> Result<(), Error> {
    std::fs::create_dir(output).map_err(Error::io(output))?;
    model.save(output)?;
    checkpoint::copy_tokenizer(base, output)?;
    trained.write(output)
}
