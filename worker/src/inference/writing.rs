//! Answers that a model writes.

use std::ops::Range;

use qapipe_nn::{Generated, Limits, Network, Packed, Writer, greedy, greedy_beside};
use qapipe_stages::examples::Examples;
use qapipe_stages::metric::normalize;
use qapipe_stages::postprocess::Answer;
use qapipe_stages::refusal;
use qapipe_stages::text_features::Texts;
use qapipe_stages::tokenizer::TextTokenizer;
use serde_json::json;

use super::Answerer;
use crate::error::Error;

/// How answers are written, and when there is none.
#[derive(Clone)]
pub struct Manner<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a TextTokenizer,
    /// Most tokens that are written, the end token among them.
    pub most: usize,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
    /// Texts that end an answer, where one holds more than a token.
    pub stops: Vec<String>,
    /// What the model writes where there is no answer, in tokens, without what ends it.
    pub no_answer: Vec<u32>,
    /// The same as text.
    pub no_answer_text: String,
    /// Abstain where the logarithm of the probability of no answer exceeds the best answer's by more than this.
    pub null_threshold: f64,
}

/// Questions as texts to read, in one or more pieces.
pub trait Sources {
    /// The questions.
    fn examples(&self) -> &Examples;

    /// The numbers of a question's texts.
    fn texts_of(&self, question: usize) -> Range<usize>;

    /// How many texts there are.
    fn texts(&self) -> usize;

    /// A text, in tokens.
    fn source(&self, text: usize) -> &[u32];

    /// Tokens of the longest text.
    fn longest(&self) -> usize {
        (0..self.texts()).map(|text| self.source(text).len()).max().unwrap_or(0)
    }
}

impl Sources for Texts {
    fn examples(&self) -> &Examples {
        self.examples()
    }

    fn texts_of(&self, question: usize) -> Range<usize> {
        self.texts_of(question)
    }

    fn texts(&self) -> usize {
        self.len()
    }

    fn source(&self, text: usize) -> &[u32] {
        self.source(text)
    }
}

/// A model with the texts that it answers.
pub struct Writing<'a> {
    /// The model.
    pub model: &'a dyn Writer,
    /// The texts.
    pub texts: &'a dyn Sources,
    /// How answers are written.
    pub manner: Manner<'a>,
    /// Tokens of an answer, for the count of operations.
    pub written: usize,
    /// Most tokens in the model at once.
    pub tokens: usize,
}

/// What a model makes of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposal {
    /// What it writes; nothing where that means that there is no answer.
    pub text: String,
    /// The logarithm of the probability of what it writes.
    pub score: f64,
    /// The logarithm of the probability of no answer.
    pub null: f64,
}

impl Answerer for Writing<'_> {
    type Proposal = Proposal;

    fn examples(&self) -> &Examples {
        self.texts.examples()
    }

    fn network(&self) -> &dyn Network {
        self.model
    }

    fn windows_of(&self, question: usize) -> Range<usize> {
        self.texts.texts_of(question)
    }

    fn windows(&self) -> usize {
        self.texts.texts()
    }

    /// What is written takes room as well.
    fn length(&self, window: u32) -> usize {
        self.texts.source(window as usize).len() + self.manner.most
    }

    fn room(&self) -> usize {
        self.tokens
    }

    fn propose(&self, windows: &[u32]) -> Result<Vec<Proposal>, Error> {
        let sources: Vec<&[u32]> = windows.iter().map(|&window| self.texts.source(window as usize)).collect();
        self.manner.propose(self.model, &sources)
    }

    fn choose(&self, _question: usize, proposals: &[Proposal]) -> Answer {
        self.manner.choose(proposals)
    }

    fn null_threshold(&self) -> f64 {
        self.manner.null_threshold
    }

    fn manner(&self) -> String {
        let Manner { most, ends, stops, no_answer, no_answer_text, .. } = &self.manner;
        json!({ "most": most, "ends": ends, "stops": stops, "no_answer": no_answer, "no_answer_text": no_answer_text }).to_string()
    }

    fn describe(&self, question: usize, bytes: &mut Vec<u8>) {
        for text in self.texts.texts_of(question) {
            let source = self.texts.source(text);
            bytes.extend(source.len().to_le_bytes());
            bytes.extend(source.iter().flat_map(|id| id.to_le_bytes()));
        }
    }

    fn flops(&self) -> f64 {
        let count = |tokens: usize| i64::try_from(tokens).unwrap_or(i64::MAX);
        self.model.flops(count(self.texts.longest()), count(self.written))
    }
}

impl Manner<'_> {
    /// What the model makes of each of some texts.
    ///
    /// # Errors
    /// What libtorch reports, and logits that are not numbers.
    pub fn propose(&self, model: &dyn Writer, sources: &[&[u32]]) -> Result<Vec<Proposal>, Error> {
        let packed = Packed::of_one_segment(sources)?.to_device(model.parameters().device())?;
        let most = i64::try_from(self.most).unwrap_or(i64::MAX);
        let limits = Limits { most, ends: self.ends.clone(), not_first: None };
        let (written, nulls) = if self.no_answer.is_empty() {
            // Where no answer is the end at once, forbidding it gives the best answer and the probability of none in one go.
            let written = greedy(model, &packed, &Limits { not_first: Some(self.tokenizer.end()), ..limits })?;
            let nulls = written.iter().map(|text| text.not_first).collect();
            (written, nulls)
        } else {
            greedy_beside(model, &packed, &limits, &self.no_answer)?
        };
        written.iter().zip(nulls).map(|(text, null)| self.proposal(text, null)).collect()
    }

    /// What was written, as an answer or as none.
    fn proposal(&self, written: &Generated, null: f64) -> Result<Proposal, Error> {
        let ids = match written.tokens.split_last() {
            Some((last, before)) if *last == self.tokenizer.end() => before,
            _ => &written.tokens,
        };
        let whole = self.tokenizer.text(ids)?;
        let text = self.before_stops(&whole).trim();
        let score = if self.stopped(&whole) { self.score_to_stop(written)? } else { written.log_probability };
        let text = if self.is_none(text) { String::new() } else { text.to_owned() };
        Ok(Proposal { text, score, null })
    }

    /// A text up to the first of the stops in it.
    fn before_stops<'t>(&self, text: &'t str) -> &'t str {
        let end = self.stops.iter().filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len());
        &text[..end]
    }

    fn stopped(&self, text: &str) -> bool {
        self.stops.iter().any(|stop| text.contains(stop.as_str()))
    }

    /// The logarithm of the probability of what was written up to the token that completes a stop: what a model goes on with after it is no
    /// part of its answer.
    fn score_to_stop(&self, written: &Generated) -> Result<f64, Error> {
        for end in 1..written.tokens.len() {
            if self.stopped(&self.tokenizer.text(&written.tokens[..end])?) {
                return Ok(written.scores[..end].iter().sum());
            }
        }
        Ok(written.log_probability)
    }

    /// Whether a text says that there is no answer: in one of the usual ways, or in the words that were agreed on.
    fn is_none(&self, text: &str) -> bool {
        refusal::is(text) || normalize(text) == normalize(self.before_stops(&self.no_answer_text))
    }

    /// Chooses between what was written for the windows of a question and no answer: the least probability of none counts, as with
    /// windows to point into.
    #[must_use]
    pub fn choose(&self, proposals: &[Proposal]) -> Answer {
        let null = proposals.iter().map(|proposal| proposal.null).fold(f64::INFINITY, f64::min);
        let best = proposals.iter().filter(|proposal| !proposal.text.is_empty()).max_by(|a, b| a.score.total_cmp(&b.score));
        let Some(best) = best else { return nothing(null) };
        let na_score = null - best.score;
        Answer::new(best.text.clone(), best.score, na_score, self.null_threshold)
    }
}

/// The answer where nothing else was written: how much likelier nothing is than all else.
fn nothing(null: f64) -> Answer {
    let null = if null.is_finite() { null.min(0.0) } else { 0.0 };
    let other = (-null.exp_m1()).max(f64::MIN_POSITIVE).ln();
    Answer { text: String::new(), candidate: String::new(), score: null, na_score: null - other }
}
