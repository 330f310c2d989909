//! `prompt`: asks a model, with examples in the prompt.

use std::cmp::Reverse;
use std::time::Instant;

use qapipe_cache::{Digest, Rows};
use qapipe_engine::{StageCx, StageError};
use qapipe_nn::Writer;
use qapipe_stages::evaluate::{Prediction, prediction_rows, score_all};
use qapipe_stages::examples::{Examples, Info, Part};
use qapipe_stages::form::Form;
use qapipe_stages::postprocess::{Answer, Settings};
use qapipe_stages::prompts::{Prompting, shots};
use qapipe_stages::tables::write_table;
use qapipe_stages::template::Template;
use qapipe_stages::tokenizer::TextTokenizer;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{weight_bytes, without_end};
use crate::error::Error;
use crate::figures::{Energy, peak, reset_peak};
use crate::inference::{Manner, Proposal};
use crate::precision::{self, Precision};
use crate::training::{BatchSize, groups};
use crate::warm::Warm;

/// The parameters, as `qapipe_stages` declares them.
#[derive(Deserialize)]
struct Wanted {
    shots: usize,
    context: bool,
    template: Option<String>,
    header: String,
    separator: String,
    no_answer: String,
    #[serde(default = "line")]
    stop: Vec<String>,
    max_answer_length: usize,
    max_length: usize,
    null_threshold: f64,
    precision: Precision,
    #[serde(default)]
    hints: Hints,
}

/// A line is an answer.
fn line() -> Vec<String> {
    vec!["\n".to_owned()]
}

#[derive(Deserialize)]
#[serde(default)]
struct Hints {
    batch_tokens: usize,
}

impl Default for Hints {
    fn default() -> Self {
        Self { batch_tokens: 32_768 }
    }
}

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>, warm: &Warm) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let (folder, data) = (cx.input("model")?, cx.input("data")?);
    let place = precision::prepare(cx)?;
    let (model, _) = warm.load(folder, &wanted.precision.inference(place), cx.request.seed).map_err(Error::from)?;
    let writes = |error| StageError::from(Error::from(error)).help("give a model that writes, T5 or Mamba");
    let model = model.into_writer().map_err(writes)?;
    wanted.check_room(&*model)?;
    let tokenizer = TextTokenizer::open(folder, Form::of(folder).map_err(Error::from)?).map_err(Error::from)?;
    let none = || StageError::failed("the data has no dev part to ask").help("give the dataset stage a `dev` file");
    let asked = Examples::open_part(data, Part::Dev).map_err(Error::from)?.ok_or_else(none)?;
    let prompts = wanted.prompts(data, &asked, &tokenizer, cx)?;
    let manner = wanted.manner(&tokenizer, data)?;
    let answers = Asking { model: &*model, manner, prompts, tokens: wanted.hints.batch_tokens, cx }.answers()?;
    let predictions: Vec<Prediction> = answers.into_iter().map(Prediction::from).collect();
    let scores = score_all(&asked, &predictions);
    write_table(cx.output("predictions")?, &prediction_rows(&asked, &predictions, &scores)).map_err(Error::from)?;
    report(&*model, weight_bytes(folder)?, cx);
    Ok(())
}

impl Wanted {
    /// Refuses prompts that the model has no room for.
    fn check_room(&self, model: &dyn Writer) -> Result<(), StageError> {
        let longest = i64::try_from(self.max_length + self.max_answer_length).unwrap_or(i64::MAX);
        match model.max_tokens() {
            Some(most) if longest > most => {
                let message = format!("prompts of max_length with their answers may have {longest} tokens, the model takes at most {most}");
                Err(StageError::failed(message).help(format!("lower `max_length` to {} or less", most - longest + self.max_length as i64)))
            }
            _ => Ok(()),
        }
    }

    /// The words of a prompt.
    fn prompting(&self, form: Form) -> Result<Prompting, Error> {
        // As T5 was pretrained to read; with examples, something has to tell a paragraph from its answer.
        let usual = match (form, self.context, self.shots > 0) {
            (Form::Causal, false, _) => "Q: {question}\nA:",
            (Form::Causal, true, _) | (_, true, false) => form.template(),
            (_, true, true) => "question: {question} context: {context} answer:",
            (_, false, false) => "question: {question}",
            (_, false, true) => "question: {question} answer:",
        };
        let template = Template::parse(self.template.as_deref().unwrap_or(usual));
        Ok(Prompting {
            header: self.header.clone(),
            template: template.map_err(|wrong| Error::failed(format!("template: {wrong}")))?,
            separator: self.separator.clone(),
            no_answer: self.no_answer.clone(),
        })
    }

    /// Every question's prompt, in tokens.
    fn prompts(
        &self,
        data: &std::path::Path,
        asked: &Examples,
        tokenizer: &TextTokenizer,
        cx: &StageCx<'_>,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let prompting = self.prompting(tokenizer.form())?;
        let shots = self.shots(data, asked, &prompting, tokenizer, cx)?;
        let prompt = |row: usize| {
            let text = prompting.prompt(&shots, &prompting.question(asked, row));
            if row == 0 {
                cx.reporter.log(&format!("the first prompt:\n{text}"));
            }
            let ids = [tokenizer.before(), &tokenizer.ids(&text)?, tokenizer.after()].concat();
            if ids.is_empty() {
                let message = format!("question {}: the prompt is empty", asked.id(row));
                return Err(Error::Stage(StageError::failed(message).help("write words around {question} into `template`, or a `header`")));
            }
            if ids.len() <= self.max_length {
                return Ok(ids);
            }
            let message = format!("question {}: the prompt has {} tokens, max_length is {}", asked.id(row), ids.len(), self.max_length);
            Err(Error::Stage(StageError::failed(message).help("raise `max_length`, or lower `shots`")))
        };
        (0..asked.len()).map(prompt).collect()
    }

    /// The examples that every prompt has.
    fn shots(
        &self,
        data: &std::path::Path,
        asked: &Examples,
        prompting: &Prompting,
        tokenizer: &TextTokenizer,
        cx: &StageCx<'_>,
    ) -> Result<Vec<String>, Error> {
        if self.shots == 0 {
            return Ok(Vec::new());
        }
        let none = || {
            StageError::failed("the data has no train part to take examples from")
                .help("give the dataset stage a `train` file, or set `shots = 0`")
        };
        let train = Examples::open_part(data, Part::Train)?.ok_or_else(none)?;
        // A quarter of the prompt is left to the question.
        let room = self.max_length * 3 / 4 / self.shots;
        let fit = |row: usize| Ok(tokenizer.ids(&prompting.shot(&train, row))?.len() <= room);
        let chosen = shots(&train, asked, self.shots, cx.request.seed, &fit)?;
        cx.reporter.log(&format!("examples: {}", chosen.iter().map(|&row| train.id(row)).collect::<Vec<_>>().join(", ")));
        Ok(chosen.into_iter().map(|row| prompting.shot(&train, row)).collect())
    }

    /// How answers are written.
    fn manner<'a>(&self, tokenizer: &'a TextTokenizer, data: &std::path::Path) -> Result<Manner<'a>, Error> {
        let always = Settings::of_version(&Info::open(data)?.version).null_threshold;
        let space = tokenizer.form() == Form::Causal && self.prompting(tokenizer.form())?.spaced();
        Ok(Manner {
            tokenizer,
            most: self.max_answer_length + 1,
            ends: tokenizer.ends(&self.stop)?,
            stops: self.stop.clone(),
            no_answer: without_end(&tokenizer.target(&self.no_answer, space, self.max_answer_length + 1)?),
            no_answer_text: self.no_answer.clone(),
            null_threshold: if always == f64::INFINITY { always } else { self.null_threshold },
        })
    }
}

/// A model with the prompts that it answers.
struct Asking<'a> {
    model: &'a dyn Writer,
    manner: Manner<'a>,
    prompts: Vec<Vec<u32>>,
    tokens: usize,
    cx: &'a StageCx<'a>,
}

/// A proposal as it is kept: numbers by their bits, so that they come back as they were.
#[derive(Serialize, Deserialize)]
struct Kept {
    text: String,
    score: u64,
    null: u64,
}

impl Asking<'_> {
    /// The answers, in the order of the questions. Those that are known are not asked again; every batch is kept when it is done.
    fn answers(&self) -> Result<Vec<Answer>, Error> {
        let group = self.group()?;
        let mut rows = Rows::open(&self.cx.request.rows.join(group.to_string()))?;
        let keys: Vec<Digest> = self.prompts.iter().map(|prompt| key(&group, prompt)).collect();
        let known = |row: usize| rows.get(&keys[row]).filter(|_| !self.cx.request.anew).and_then(restored);
        let mut proposals: Vec<Option<Proposal>> = (0..keys.len()).map(known).collect();
        let length = |row: u32| self.prompts[row as usize].len() + self.manner.most;
        let mut order: Vec<u32> = (0..).zip(&proposals).filter(|(_, known)| known.is_none()).map(|(row, _)| row).collect();
        order.sort_by_key(|&row| (Reverse(length(row)), row));
        self.cx.reporter.log(&format!("{} questions, {} of them answered before", keys.len(), keys.len() - order.len()));
        let (energy, started) = (Energy::start(precision::index(self.model.parameters().device())), Instant::now());
        reset_peak(self.model.parameters().device())?;
        let mut done = 0;
        for range in groups(&order, &length, BatchSize::Tokens(self.tokens)) {
            self.cx.checkpoint()?;
            let batch = &order[range];
            let sources: Vec<&[u32]> = batch.iter().map(|&row| self.prompts[row as usize].as_slice()).collect();
            let found = self.manner.propose(self.model, &sources)?;
            let kept = batch.iter().zip(&found).map(|(&row, found)| Ok((keys[row as usize], stored(found)?)));
            rows.put(&kept.collect::<Result<Vec<_>, Error>>()?)?;
            batch.iter().zip(found).for_each(|(&row, found)| proposals[row as usize] = Some(found));
            done += batch.len() as u64;
            self.cx.reporter.progress(done, order.len() as u64, "questions", "");
        }
        self.spent(order.len(), started, &energy)?;
        Ok(proposals.into_iter().map(|proposal| self.manner.choose(&Vec::from_iter(proposal))).collect())
    }

    /// Tells what asking took, where all was asked.
    #[allow(clippy::cast_precision_loss)]
    fn spent(&self, asked: usize, started: Instant, energy: &Energy) -> Result<(), Error> {
        if asked < self.prompts.len() {
            return Ok(());
        }
        let seconds = started.elapsed().as_secs_f64();
        self.cx.reporter.measure("evaluate_seconds", seconds);
        self.cx.reporter.measure("throughput", asked as f64 / seconds.max(1e-9));
        if let Some(bytes) = peak(self.model.parameters().device())? {
            self.cx.reporter.measure("peak_memory_bytes", bytes as f64);
        }
        if let Some(joules) = energy.joules() {
            self.cx.reporter.measure("energy_joules", joules);
        }
        Ok(())
    }

    /// What all answers have in common: the model, what it computes in and on, and how it writes.
    fn group(&self) -> Result<Digest, Error> {
        let model = self.cx.request.inputs.get("model").map(|input| input.digest.to_string());
        let parameters = self.model.parameters();
        let manner = &self.manner;
        let device = if parameters.device().is_cuda() { "cuda" } else { "cpu" };
        let kind = precision::word(parameters.kind());
        let parts = ("prompt 1", model, device, kind, manner.most, &manner.ends, &manner.stops, &manner.no_answer);
        let text = serde_json::to_string(&parts).map_err(|e| Error::failed(format!("the settings cannot be written down: {e}")))?;
        Ok(Digest::of_bytes(text.as_bytes()))
    }
}

/// The key of a prompt.
fn key(group: &Digest, prompt: &[u32]) -> Digest {
    let bytes: Vec<u8> = group.to_string().into_bytes().into_iter().chain(prompt.iter().flat_map(|id| id.to_le_bytes())).collect();
    Digest::of_bytes(&bytes)
}

fn stored(proposal: &Proposal) -> Result<String, Error> {
    let kept = Kept { text: proposal.text.clone(), score: proposal.score.to_bits(), null: proposal.null.to_bits() };
    serde_json::to_string(&kept).map_err(|e| Error::failed(format!("an answer cannot be written down: {e}")))
}

fn restored(text: &str) -> Option<Proposal> {
    let kept: Kept = serde_json::from_str(text).ok()?;
    Some(Proposal { text: kept.text, score: f64::from_bits(kept.score), null: f64::from_bits(kept.null) })
}

/// Tells what the model is.
#[allow(clippy::cast_precision_loss)]
fn report(model: &dyn Writer, bytes: u64, cx: &StageCx<'_>) {
    let parameters = model.parameters();
    cx.reporter.fact("dtype", precision::word(parameters.kind()));
    for (name, count) in [("parameters", parameters.count()), ("resident_bytes", parameters.resident_bytes()), ("bytes", bytes)] {
        cx.reporter.measure(name, count as f64);
    }
}
