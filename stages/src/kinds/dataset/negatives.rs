//! Synthetic negatives: answerable questions asked again of a paragraph that does not answer them.
//!
//! As in the study's Mamba recipe (Oxen-AI/mamba-dive), where every question comes a second time with the context of another example.
//! There the draw may hit the very context or one that holds the answer; here it may not.

use std::collections::HashSet;
use std::sync::Arc;

use qapipe_cache::Digest;
use qapipe_engine::StageCx;
use rayon::prelude::*;

use super::subset::lowest;
use crate::examples::{Part, Question};
use crate::metric::normalize;

/// What the id of a negative ends with, after the id of the question that it is made from.
const MARK: &str = "#negative";
/// Paragraphs that are drawn before all are looked through.
const TRIES: u32 = 64;

/// Adds, after each of a share of the answerable questions, the same question about a paragraph that does not hold its answers. Says
/// whether any was added.
pub(super) fn add(cx: &StageCx<'_>, questions: Vec<Question>, share: f64, seed: u64, part: Part) -> (Vec<Question>, bool) {
    let chosen = chosen(&questions, share, seed);
    if chosen.is_empty() {
        return (questions, false);
    }
    let paragraphs = Paragraphs::of(&questions);
    let negatives: Vec<Option<Question>> = questions
        .par_iter()
        .enumerate()
        .map(|(row, question)| {
            let found = chosen.contains(&row).then(|| paragraphs.foreign(question, seed))?;
            found.map(|paragraph| negative(question, paragraph))
        })
        .collect();
    let added = negatives.iter().flatten().count();
    cx.reporter.log(&format!("{}: {added} synthetic negatives", part.name()));
    if added < chosen.len() {
        let without = chosen.len() - added;
        cx.reporter.log(&format!(
            "warning: {without} answerable questions of {} got no negative: every other paragraph holds one of their answers",
            part.name()
        ));
    }
    let all = questions.into_iter().zip(negatives).flat_map(|(question, negative)| [Some(question), negative]).flatten().collect();
    (all, added > 0)
}

/// The rows of the questions that get a negative.
fn chosen(questions: &[Question], share: f64, seed: u64) -> HashSet<usize> {
    let rows: Vec<usize> = (0..questions.len()).filter(|&row| !questions[row].answers.is_empty()).collect();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    let count = (share * rows.len() as f64).round() as usize;
    lowest(&rows, count, |row| format!("{seed} negative {}", questions[row].id))
}

fn negative(question: &Question, paragraph: &Paragraph) -> Question {
    Question {
        id: format!("{}{MARK}", question.id),
        title: Arc::clone(&paragraph.title),
        context: Arc::clone(&paragraph.context),
        question: question.question.clone(),
        answers: Vec::new(),
        impossible: true,
    }
}

/// A text in the two forms in which it is compared.
struct Forms {
    /// In lower case.
    lower: String,
    /// As the metric compares it.
    normal: String,
}

impl Forms {
    fn of(text: &str) -> Self {
        Self { lower: text.trim().to_lowercase(), normal: normalize(text) }
    }

    /// Whether a text stands in this one, in either form. What is nothing in a form stands nowhere in it.
    fn holds(&self, text: &Self) -> bool {
        let holds = |whole: &str, part: &str| !part.is_empty() && whole.contains(part);
        holds(&self.lower, &text.lower) || holds(&self.normal, &text.normal)
    }
}

struct Paragraph {
    title: Arc<str>,
    context: Arc<str>,
    forms: Forms,
}

/// The distinct paragraphs of a part, in the order of their first questions.
struct Paragraphs(Vec<Paragraph>);

impl Paragraphs {
    fn of(questions: &[Question]) -> Self {
        let mut seen = HashSet::new();
        let distinct: Vec<&Question> = questions.iter().filter(|question| seen.insert(&*question.context)).collect();
        let paragraph = |question: &&Question| Paragraph {
            title: Arc::clone(&question.title),
            context: Arc::clone(&question.context),
            forms: Forms::of(&question.context),
        };
        Self(distinct.par_iter().map(paragraph).collect())
    }

    /// A paragraph that does not hold a question's answers: drawn by the seed and the question's id, of another article where one fits.
    fn foreign(&self, question: &Question, seed: u64) -> Option<&Paragraph> {
        let golds: Vec<Forms> = question.answers.iter().map(|answer| Forms::of(&answer.text)).collect();
        let fits = |paragraph: &&Paragraph| paragraph.context != question.context && !golds.iter().any(|gold| paragraph.forms.holds(gold));
        let elsewhere = |paragraph: &&Paragraph| paragraph.title != question.title && fits(paragraph);
        let drawn = |attempt: u32| self.0.get(place(&format!("{seed} negative {attempt} {}", question.id), self.0.len())?);
        let all = || {
            let (before, after) = self.0.split_at(place(&format!("{seed} negative {}", question.id), self.0.len()).unwrap_or(0));
            after.iter().chain(before)
        };
        (0..TRIES).filter_map(drawn).find(elsewhere).or_else(|| all().find(elsewhere)).or_else(|| all().find(fits))
    }
}

/// A place among `count`, which a text decides; none among none.
fn place(text: &str, count: usize) -> Option<usize> {
    let digest = Digest::of_bytes(text.as_bytes());
    let number = digest.as_bytes().first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))?;
    usize::try_from(number.checked_rem(count as u64)?).ok()
}
