//! `fine-tune`: trains all of a model.

use std::path::Path;

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::{AdamW, AnyModel, Forward, Network, Reader, Writer, device, models};
use qapipe_stages::examples::{Examples, Part};
use qapipe_stages::features::{Features, Info, InfoForm};
use qapipe_stages::postprocess::Settings;
use qapipe_stages::split::{balanced, holdout};
use qapipe_stages::tables::write_table;
use qapipe_stages::text_features::Texts;
use serde::Deserialize;

use crate::checkpoint::{self, Trained};
use crate::error::Error;
use crate::figures::{Energy, peak};
use crate::precision::Precision;
use crate::training::{Source, SpanSource, SpanTrainee, Summary, TextSource, TextTrainee, TrainValues, Trainee, train};

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
    let info = Info::open(data).map_err(Error::from)?;
    let (model, found) = models::load(base, &wanted.precision.training(place), cx.request.seed).map_err(Error::from)?;
    if !found.initialised.is_empty() {
        cx.reporter.log(&format!("new, drawn by the seed: {}", found.initialised.join(", ")));
    }
    let material = Material { base, data, info: &info, wanted: &wanted, cx };
    let (model, mut summary, energy) = match (model, &info.form) {
        (AnyModel::Reader(model), InfoForm::Spans { .. }) => material.to_point(model)?,
        (AnyModel::Writer(model), InfoForm::Texts { .. }) => material.to_write(model)?,
        (model, _) => return Err(checkpoint::other_form(&model)),
    };
    let model = model.network();
    report(&summary, model, &energy, cx)?;
    let trained =
        Trained { null_threshold: summary.kept.and_then(|kept| kept.null_threshold), parameters_trained: model.parameters().trainable() };
    save(model, base, &trained, cx.output("model")?)?;
    write_table(cx.output("log")?, &std::mem::take(&mut summary.log)).map_err(Error::from)?;
    Ok(())
}

/// A trained model, how the training went, and the energy that it took.
type Outcome = (AnyModel, Summary, Energy);

/// What a training has before it.
struct Material<'a> {
    base: &'a Path,
    data: &'a Path,
    info: &'a Info,
    wanted: &'a Wanted,
    cx: &'a StageCx<'a>,
}

/// The rows of a training, and the questions that are kept out of it.
struct Parted {
    rows: Vec<u32>,
    held_out: Vec<usize>,
}

impl Material<'_> {
    /// Trains a model that points at answers.
    fn to_point(&self, mut model: Box<dyn Reader>) -> Result<Outcome, Error> {
        let features = Features::open(self.data, Part::Train)?;
        checkpoint::check_features(&*model, self.base, self.info, features.longest())?;
        let parted = self.part(features.examples(), features.len(), |row| features.example(row))?;
        let settings = Settings::of_version(&self.info.dataset_version);
        let (forward, tokens) = (Forward::training(self.cx.request.seed), self.wanted.hints.micro_batch_tokens);
        let source = SpanSource::new(&features, &*model);
        let trainee = SpanTrainee { model: &mut *model, forward, features: &features, settings, held_out: parted.held_out, tokens };
        let (summary, energy) = self.train(trainee, &source, &parted.rows)?;
        Ok((AnyModel::Reader(model), summary, energy))
    }

    /// Trains a model that writes answers.
    fn to_write(&self, mut model: Box<dyn Writer>) -> Result<Outcome, Error> {
        let texts = Texts::open(self.data, Part::Train)?;
        let (source, target) = texts.longest();
        checkpoint::check_features(&*model, self.base, self.info, source + target)?;
        let parted = self.part(texts.examples(), texts.len(), |row| texts.example(row))?;
        let tokenizer = checkpoint::text_tokenizer(self.base, self.info)?;
        let threshold = Settings::of_version(&self.info.dataset_version).null_threshold;
        let manner = checkpoint::manner(&tokenizer, self.info, target, threshold)?;
        let source = TextSource::new(&texts, model.form());
        let (forward, tokens) = (Forward::training(self.cx.request.seed), self.wanted.hints.micro_batch_tokens);
        let trainee = TextTrainee { model: &mut *model, forward, texts: &texts, manner, held_out: parted.held_out, tokens };
        let (summary, energy) = self.train(trainee, &source, &parted.rows)?;
        Ok((AnyModel::Writer(model), summary, energy))
    }

    /// Divides the rows into those to train on and the questions that are held out.
    fn part(&self, examples: &Examples, rows: usize, question: impl Fn(usize) -> usize) -> Result<Parted, Error> {
        let share = self.wanted.train.holdout;
        let held_out = holdout(examples, share, self.cx.request.seed);
        let rows: Vec<u32> = (0..).take(rows).filter(|&row| !held_out[question(row as usize)]).collect();
        let mut held_out: Vec<usize> = (0..held_out.len()).filter(|&question| held_out[question]).collect();
        if self.wanted.train.holdout_balance {
            held_out = balanced(examples, held_out);
        }
        if held_out.is_empty() && share > 0.0 {
            let error = StageError::failed("holdout: the train part is of one paragraph, nothing of it can be held out");
            return Err(error.help("leave `holdout` out, or bring more data").into());
        }
        if rows.is_empty() {
            return Err(Error::failed("there are no windows to train on"));
        }
        Ok(Parted { rows, held_out })
    }

    /// Trains; gives what happened, and the energy that it took.
    fn train<S, T>(&self, mut trainee: T, source: &S, rows: &[u32]) -> Result<(Summary, Energy), Error>
    where
        S: Source,
        T: Trainee<Batch = S::Batch>,
    {
        let (wanted, cx, held_out) = (self.wanted, self.cx, trainee.held_out());
        let mut recipe = wanted.train.recipe(wanted.hints.micro_batch_tokens, wanted.hints.log_every, cx.request.seed);
        recipe.held_out = held_out > 0;
        let parameters = trainee.parameters();
        let place = parameters.device();
        cx.reporter.log(&format!("{} windows, {held_out} questions held out, {} parameters", rows.len(), parameters.count()));
        let mut optimiser = AdamW::new(parameters, wanted.train.optimiser())?;
        device::reset_peak_memory(place)?;
        let energy = Energy::start(crate::precision::index(place));
        let summary = train(&mut trainee, source, rows, &mut optimiser, &recipe, cx)?;
        Ok((summary, energy))
    }
}

/// Tells the figures of the action record.
#[allow(clippy::cast_precision_loss)]
fn report(summary: &Summary, model: &dyn Network, energy: &Energy, cx: &StageCx<'_>) -> Result<(), Error> {
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
fn save(model: &dyn Network, base: &Path, trained: &Trained, output: &Path) -> Result<(), Error> {
    std::fs::create_dir(output).map_err(Error::io(output))?;
    model.save(output)?;
    checkpoint::copy_tokenizer(base, output)?;
    trained.write(output)
}
