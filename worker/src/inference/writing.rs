//! Answers that a model writes.

use std::cmp::Reverse;

use qapipe_engine::StageCx;
use qapipe_nn::{Forward, Generated, Limits, Network, Packed, Pairs, Writer, greedy};
use qapipe_stages::examples::Examples;
use qapipe_stages::postprocess::Answer;
use qapipe_stages::refusal;
use qapipe_stages::text_features::Texts;
use qapipe_stages::tokenizer::TextTokenizer;
use tch::{Device, Kind};

use super::{Answerer, row};
use crate::error::Error;
use crate::training::{BatchSize, groups};

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
    /// What the model writes where there is no answer, the end token last.
    pub no_answer: Vec<u32>,
    /// Abstain where the logarithm of the probability of no answer exceeds the best answer's by more than this.
    pub null_threshold: f64,
}

/// A model with the texts that it answers.
pub struct Writing<'a> {
    /// The model.
    pub model: &'a dyn Writer,
    /// The texts.
    pub texts: &'a Texts,
    /// How answers are written.
    pub manner: Manner<'a>,
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
    fn examples(&self) -> &Examples {
        self.texts.examples()
    }

    fn network(&self) -> &dyn Network {
        self.model
    }

    fn answer(&self, questions: &[usize], cx: &StageCx<'_>, seen: &mut dyn FnMut(u64, u64)) -> Result<Vec<Answer>, Error> {
        let length = |row: u32| self.texts.source(row as usize).len() + self.manner.most;
        let mut order: Vec<u32> = questions.iter().flat_map(|&question| self.texts.texts_of(question)).map(row).collect();
        order.sort_by_key(|&row| (Reverse(length(row)), row));
        let mut proposals: Vec<Option<Proposal>> = vec![None; self.texts.len()];
        let mut done = 0;
        for range in groups(&order, &length, BatchSize::Tokens(self.tokens)) {
            cx.checkpoint()?;
            let batch = &order[range];
            let sources: Vec<&[u32]> = batch.iter().map(|&row| self.texts.source(row as usize)).collect();
            for (&row, proposal) in batch.iter().zip(self.manner.propose(self.model, &sources)?) {
                proposals[row as usize] = Some(proposal);
            }
            done += batch.len() as u64;
            seen(done, order.len() as u64);
        }
        let own = |question: usize| proposals[self.texts.texts_of(question)].iter().flatten().cloned().collect::<Vec<_>>();
        Ok(questions.iter().map(|&question| self.manner.choose(&own(question))).collect())
    }

    fn answer_one(&self, question: usize) -> Result<Answer, Error> {
        let sources: Vec<&[u32]> = self.texts.texts_of(question).map(|row| self.texts.source(row)).collect();
        Ok(self.manner.choose(&self.manner.propose(self.model, &sources)?))
    }

    fn flops(&self) -> f64 {
        let (source, target) = self.texts.longest();
        let count = |tokens: usize| i64::try_from(tokens).unwrap_or(i64::MAX);
        self.model.flops(count(source), count(target))
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
        // Where no answer is the end at once, forbidding it gives the best answer and the probability of none in one go.
        let at_once = self.no_answer == [self.tokenizer.end()];
        let not_first = at_once.then(|| self.tokenizer.end());
        let written = greedy(model, &packed, &Limits { most, ends: self.ends.clone(), not_first })?;
        let nulls = if at_once { written.iter().map(|text| text.not_first).collect() } else { self.nulls(model, sources)? };
        written.iter().zip(nulls).map(|(text, null)| self.proposal(text, null)).collect()
    }

    /// The logarithm of the probability that nothing is answered to each of some texts.
    fn nulls(&self, model: &dyn Writer, sources: &[&[u32]]) -> Result<Vec<f64>, Error> {
        let pairs: Vec<(&[u32], &[u32])> = sources.iter().map(|&source| (source, self.no_answer.as_slice())).collect();
        let pairs = Pairs::collate(model.form(), &pairs)?.to_device(model.parameters().device())?;
        let sums = pairs.sums(&model.forward(&pairs, &mut Forward::inference())?)?;
        Ok(Vec::<f64>::try_from(sums.f_to_device_(Device::Cpu, Kind::Double, false, false)?)?)
    }

    /// What was written, as an answer or as none.
    fn proposal(&self, written: &Generated, null: f64) -> Result<Proposal, Error> {
        let ids = match written.tokens.split_last() {
            Some((last, before)) if *last == self.tokenizer.end() => before,
            _ => &written.tokens,
        };
        let text = self.tokenizer.text(ids)?;
        let end = self.stops.iter().filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len());
        let text = text[..end].trim();
        let text = if refusal::is(text) { String::new() } else { text.to_owned() };
        Ok(Proposal { text, score: written.log_probability, null })
    }

    /// Chooses between what was written for the windows of a question and no answer: the least probability of none counts, as with
    /// windows to point into.
    #[must_use]
    pub fn choose(&self, proposals: &[Proposal]) -> Answer {
        let null = proposals.iter().map(|proposal| proposal.null).fold(f64::INFINITY, f64::min);
        let best = proposals.iter().filter(|proposal| !proposal.text.is_empty()).max_by(|a, b| a.score.total_cmp(&b.score));
        let Some(best) = best else { return nothing(null) };
        let na_score = null - best.score;
        let text = if na_score > self.null_threshold { String::new() } else { best.text.clone() };
        Answer { text, candidate: best.text.clone(), score: best.score, na_score }
    }
}

/// The answer where nothing else was written: how much likelier nothing is than all else.
fn nothing(null: f64) -> Answer {
    let null = if null.is_finite() { null.min(0.0) } else { 0.0 };
    let other = (-null.exp_m1()).max(f64::MIN_POSITIVE).ln();
    Answer { text: String::new(), candidate: String::new(), score: null, na_score: null - other }
}
