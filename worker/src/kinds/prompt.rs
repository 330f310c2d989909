//! `prompt`: asks a model, with examples in the prompt.

use std::ops::Range;

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::Writer;
use qapipe_stages::evaluate::{prediction_rows, score_all};
use qapipe_stages::examples::{Examples, Info, Part};
use qapipe_stages::form::Form;
use qapipe_stages::postprocess::Settings;
use qapipe_stages::prompts::{Prompting, shots};
use qapipe_stages::tables::write_table;
use qapipe_stages::template::Template;
use qapipe_stages::tokenizer::TextTokenizer;
use serde::Deserialize;

use crate::checkpoint::{weight_bytes, without_end};
use crate::error::Error;
use crate::inference::{Manner, Sources, Writing, ask};
use crate::precision::{self, Precision};
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
    let (model, _) = warm.load(folder, &wanted.precision.inference(place), cx.request.seed)?;
    let writes = |error| StageError::from(Error::from(error)).help("give a model that writes, T5 or Mamba");
    let model = model.into_writer().map_err(writes)?;
    wanted.check_room(&*model)?;
    let tokenizer = TextTokenizer::open(folder, Form::of(folder).map_err(Error::from)?).map_err(Error::from)?;
    let none = || StageError::failed("the data has no dev part to ask").help("give the dataset stage a `dev` file");
    let asked = Examples::open_part(data, Part::Dev).map_err(Error::from)?.ok_or_else(none)?;
    let prompts = wanted.prompts(data, &asked, &tokenizer, cx)?;
    let manner = wanted.manner(&tokenizer, data)?;
    let (texts, written, tokens) = (Prompts { asked, prompts }, wanted.max_answer_length, wanted.hints.batch_tokens);
    let (predictions, _) = ask(&Writing { model: &*model, texts: &texts, manner, written, tokens }, "questions", cx)?;
    let (asked, scores) = (&texts.asked, score_all(&texts.asked, &predictions));
    write_table(cx.output("predictions")?, &prediction_rows(asked, &predictions, &scores)).map_err(Error::from)?;
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

/// Questions as prompts.
struct Prompts {
    asked: Examples,
    prompts: Vec<Vec<u32>>,
}

impl Sources for Prompts {
    fn examples(&self) -> &Examples {
        &self.asked
    }

    fn texts_of(&self, question: usize) -> Range<usize> {
        question..question + 1
    }

    fn texts(&self) -> usize {
        self.prompts.len()
    }

    fn source(&self, text: usize) -> &[u32] {
        &self.prompts[text]
    }
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
