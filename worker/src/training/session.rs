//! A training of a model on features, from the stage's inputs to what is kept: whatever of the model trains, and whatever it follows.

use std::collections::BTreeMap;
use std::path::Path;

use qapipe_cache::Digest;
use qapipe_engine::{NEUTRAL_HINTS, StageCx, StageError};
use qapipe_nn::{AdamW, AnyModel, Forward, Network, Reader, Tuning, Writer, device, models};
use qapipe_stages::examples::{Examples, Part};
use qapipe_stages::features::{Features, Info, InfoForm};
use qapipe_stages::postprocess::Settings;
use qapipe_stages::split::{balanced, holdout};
use qapipe_stages::tables::write_table;
use qapipe_stages::text_features::Texts;
use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind};

use super::{
    Alongside, Masking, Resume, Source, SpanSource, SpanTrainee, Summary, Teaching, TextSource, TextTrainee, TrainValues, Trainee, Words,
    train,
};
use crate::checkpoint::{self, Trained};
use crate::error::Error;
use crate::figures::{Energy, peak, reset_peak};
use crate::precision::Precision;

/// What every stage that trains is given.
#[derive(Deserialize)]
pub(super) struct SessionValues {
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
    checkpoint_seconds: u64,
}

impl Default for Hints {
    fn default() -> Self {
        Self { micro_batch_tokens: 16_384, log_every: 10, checkpoint_seconds: 120 }
    }
}

/// What a training does besides.
#[derive(Default)]
pub struct Besides<'a> {
    /// Chooses which weights stay.
    pub masking: Option<Masking>,
    /// Follows a teacher.
    pub teaching: Option<Teaching<'a>>,
}

/// What came of a training.
pub struct Outcome {
    /// The model, with the parameters to keep.
    pub model: AnyModel,
    /// How the training went.
    pub summary: Summary,
}

impl Outcome {
    /// Writes what a training gives: the model with the tokenizer that it was trained with, what it was, and the log. Weights that stay under
    /// masks are written in a kind; `touched` are the modules whose matrices were.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, base: &Path, values: Kind, touched: Vec<String>, cx: &StageCx<'_>) -> Result<(), Error> {
        let (model, output) = (self.model.network(), cx.output("model")?);
        std::fs::create_dir(output).map_err(Error::io(output))?;
        model.save_pruned(output, values)?;
        checkpoint::copy_tokenizer(base, output)?;
        Trained { touched, ..Trained::of(self, model)? }.write(output)?;
        self.write_log(cx)
    }

    /// Writes the log.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_log(&self, cx: &StageCx<'_>) -> Result<(), Error> {
        Ok(write_table(cx.output("log")?, &self.summary.log)?)
    }
}

/// A training with its inputs.
pub struct Session<'a> {
    data: &'a Path,
    info: Info,
    values: SessionValues,
    place: Device,
    cx: &'a StageCx<'a>,
}

/// The rows of a training, and the questions that are kept out of it.
struct Parted {
    rows: Vec<u32>,
    held_out: Vec<usize>,
}

impl<'a> Session<'a> {
    /// Prepares the device, and opens the features.
    ///
    /// # Errors
    /// Where the device is not there, or an input is broken.
    pub fn new(cx: &'a StageCx<'a>) -> Result<Self, Error> {
        let values: SessionValues = cx.values()?;
        let data = cx.input("data")?;
        Ok(Self { data, info: Info::open(data)?, values, place: crate::precision::prepare(cx)?, cx })
    }

    /// What was tokenized.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The peak learning rate.
    pub fn rate(&self) -> f64 {
        self.values.train.lr
    }

    /// A teacher for these features.
    ///
    /// # Errors
    /// Where it is of another tokenizer, or cannot answer yet.
    pub fn teacher<'t>(&self, folder: &Path, words: &'t Words) -> Result<Teaching<'t>, Error> {
        let longest = match &self.info.form {
            InfoForm::Spans { .. } => Features::open(self.data, Part::Train)?.longest(),
            InfoForm::Texts { .. } => {
                let (source, target) = Texts::open(self.data, Part::Train)?.longest();
                source + target
            }
        };
        Teaching::open(folder, &self.info, longest, &self.values.precision.inference(self.place), words)
    }

    /// Trains the model of a folder, and tells the figures of the action record.
    ///
    /// # Errors
    /// Where the model does not fit the features or the tuning, and as [`train`].
    pub fn run(&self, base: &Path, tuning: &Tuning, besides: Besides<'_>) -> Result<Outcome, Error> {
        let (model, found) = models::load_tuned(base, &self.values.precision.training(self.place), self.cx.request.seed, tuning)?;
        if !found.initialised.is_empty() {
            self.cx.reporter.log(&format!("new, drawn by the seed: {}", found.initialised.join(", ")));
        }
        let (model, summary, energy) = match (model, &self.info.form) {
            (AnyModel::Reader(model), InfoForm::Spans { .. }) => self.to_point(base, model, besides)?,
            (AnyModel::Writer(model), InfoForm::Texts { .. }) => self.to_write(base, model, besides)?,
            (model, _) => return Err(checkpoint::other_form(&model).into()),
        };
        self.report(&summary, model.network(), &energy)?;
        Ok(Outcome { model, summary })
    }

    /// Trains a model that points at answers.
    fn to_point(&self, base: &Path, mut model: Box<dyn Reader>, besides: Besides<'_>) -> Result<(AnyModel, Summary, Energy), Error> {
        let features = Features::open(self.data, Part::Train)?;
        checkpoint::check_features(&*model, base, &self.info, features.longest())?;
        let parted = self.part(features.examples(), features.len(), |row| features.example(row))?;
        let settings = Settings::of_version(&self.info.dataset_version);
        let (forward, tokens) = (self.forward(&besides), self.values.hints.micro_batch_tokens);
        let source = SpanSource::new(&features, &*model);
        let (held_out, teaching) = (parted.held_out, besides.teaching);
        let trainee = SpanTrainee { model: &mut *model, forward, features: &features, settings, held_out, tokens, teaching };
        let (summary, energy) = self.train(trainee, &source, &parted.rows, besides.masking)?;
        Ok((AnyModel::Reader(model), summary, energy))
    }

    /// Trains a model that writes answers.
    fn to_write(&self, base: &Path, mut model: Box<dyn Writer>, besides: Besides<'_>) -> Result<(AnyModel, Summary, Energy), Error> {
        let texts = Texts::open(self.data, Part::Train)?;
        let (source, target) = texts.longest();
        checkpoint::check_features(&*model, base, &self.info, source + target)?;
        let parted = self.part(texts.examples(), texts.len(), |row| texts.example(row))?;
        let tokenizer = checkpoint::text_tokenizer(base, &self.info)?;
        let threshold = Settings::of_version(&self.info.dataset_version).null_threshold;
        let manner = checkpoint::manner(&tokenizer, &self.info, target, threshold)?;
        let source = TextSource::new(&texts, model.form());
        let (forward, tokens) = (self.forward(&besides), self.values.hints.micro_batch_tokens);
        let (held_out, teaching) = (parted.held_out, besides.teaching);
        let trainee = TextTrainee { model: &mut *model, forward, texts: &texts, manner, held_out, tokens, teaching };
        let (summary, energy) = self.train(trainee, &source, &parted.rows, besides.masking)?;
        Ok((AnyModel::Writer(model), summary, energy))
    }

    /// How the model runs in its training.
    fn forward(&self, besides: &Besides<'_>) -> Forward {
        let forward = Forward::training(self.cx.request.seed);
        match &besides.teaching {
            Some(teaching) => teaching.student(forward),
            None => forward,
        }
    }

    /// Divides the rows into those to train on and the questions that are held out.
    fn part(&self, examples: &Examples, rows: usize, question: impl Fn(usize) -> usize) -> Result<Parted, Error> {
        let share = self.values.train.holdout;
        let held_out = holdout(examples, share, self.cx.request.seed);
        let rows: Vec<u32> = (0..).take(rows).filter(|&row| !held_out[question(row as usize)]).collect();
        let mut held_out: Vec<usize> = (0..held_out.len()).filter(|&question| held_out[question]).collect();
        if self.values.train.holdout_balance {
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
    fn train<S, T>(&self, mut trainee: T, source: &S, rows: &[u32], masking: Option<Masking>) -> Result<(Summary, Energy), Error>
    where
        S: Source,
        T: Trainee<Batch = S::Batch>,
    {
        let (values, cx, held_out) = (&self.values, self.cx, trainee.held_out());
        let mut recipe = values.train.recipe(values.hints.micro_batch_tokens, values.hints.log_every, cx.request.seed);
        recipe.held_out = held_out > 0;
        let parameters = trainee.parameters();
        let place = parameters.device();
        let (all, moving) = (parameters.count(), parameters.trainable());
        let trained = if moving == all { String::new() } else { format!(", {moving} of them trained") };
        cx.reporter.log(&format!("{} windows, {held_out} questions held out, {all} parameters{trained}", rows.len()));
        let mut optimiser = AdamW::new(parameters, values.train.optimiser())?;
        reset_peak(place)?;
        let energy = Energy::start(crate::precision::index(place));
        // Where a training is cut off within an epoch, its evaluations lie otherwise than a longer one's.
        let alike = recipe.steps.is_none() || recipe.evaluations == 0;
        let goes_on = recipe.has_no_end() && masking.is_none() && alike;
        let resume = Resume::open(cx, &self.identity(goes_on)?, values.hints.checkpoint_seconds, goes_on);
        let summary = train(&mut trainee, source, rows, &mut optimiser, &recipe, Alongside { masking, resume }, cx)?;
        Ok((summary, energy))
    }

    /// What a training is: all that its steps hang on, and how long it is only where they hang on that.
    fn identity(&self, goes_on: bool) -> Result<Digest, Error> {
        let request = &self.cx.request;
        let mut values = request.values.0.clone();
        values.retain(|name, _| !request.inputs.contains_key(name));
        let mut drop = |table: &str, names: &[&str]| {
            if let Some(table) = values.get_mut(table).and_then(Value::as_object_mut) {
                table.retain(|name, _| !names.contains(&name.as_str()));
            }
        };
        drop("hints", &NEUTRAL_HINTS);
        if goes_on {
            drop("train", &["epochs", "steps"]);
        }
        let kind = qapipe_stages::KINDS.iter().find(|kind| kind.name() == request.kind);
        let inputs: BTreeMap<&String, &Digest> = request.inputs.iter().map(|(name, input)| (name, &input.digest)).collect();
        let place = if self.place.is_cuda() { "cuda" } else { "cpu" };
        let exactly = request.strict.then(|| (crate::precision::name(self.place), request.threads, device::LIBTORCH));
        let parts = (&request.kind, kind.map(|kind| kind.version()), values, inputs, request.seed, place, exactly);
        let text = serde_json::to_vec(&parts).map_err(|error| Error::failed(format!("the training cannot be described: {error}")))?;
        Ok(Digest::of_bytes(&text))
    }

    /// Tells the figures of the action record.
    #[allow(clippy::cast_precision_loss)]
    fn report(&self, summary: &Summary, model: &dyn Network, energy: &Energy) -> Result<(), Error> {
        let reporter = self.cx.reporter;
        reporter.measure("train_seconds", summary.seconds);
        reporter.measure("examples_per_second", summary.examples as f64 / summary.seconds.max(1e-9));
        if let Some(bytes) = peak(model.parameters().device())? {
            reporter.measure("peak_memory_bytes", bytes as f64);
        }
        // What earlier executions of it took is not known.
        if let Some(joules) = energy.joules().filter(|_| summary.whole) {
            reporter.measure("energy_joules", joules);
        }
        Ok(())
    }
}
