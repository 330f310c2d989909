//! The official SQuAD metric, version 2.0.
//!
//! The same figures as `evaluate-v2.0.py` (Rajpurkar, Jia, Liang 2018, "Know What You Don't Know"), down to what Python calls a
//! space and a word.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::python;

/// Text as the metric compares it: lower case, without ASCII punctuation, without articles, single spaces.
pub fn normalize(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut kept = String::with_capacity(plain.len());
    for token in python::split(&without_articles(&plain)) {
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(token);
    }
    kept
}

/// Puts a space for every run of word characters that is an article.
fn without_articles(text: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let mut done = 0;
    for (start, end) in python::words(text) {
        if matches!(&text[start..end], "a" | "an" | "the") {
            kept.push_str(&text[done..start]);
            kept.push(' ');
            done = end;
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    kept.push_str(&text[done..]);
    Cow::Owned(kept)
}

/// 1 where two normalized texts are equal, else 0.
fn exact(prediction: &str, gold: &str) -> f64 {
    f64::from(u8::from(prediction == gold))
}

/// Overlap of the tokens of two normalized texts: the harmonic mean of precision and recall; where one has none, whether both have none.
fn overlap(prediction: &str, gold: &str) -> f64 {
    let tokens = |text: &str| text.split(' ').filter(|token| !token.is_empty()).count();
    let (predicted, wanted) = (tokens(prediction), tokens(gold));
    if predicted == 0 || wanted == 0 {
        return f64::from(u8::from(predicted == wanted));
    }
    let mut left: HashMap<&str, u32> = HashMap::new();
    for token in gold.split(' ') {
        *left.entry(token).or_default() += 1;
    }
    let mut same = 0_u32;
    for token in prediction.split(' ') {
        if let Some(count) = left.get_mut(token).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    if same == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "answers are short")]
    let (precision, recall) = (f64::from(same) / predicted as f64, f64::from(same) / wanted as f64);
    2.0 * precision * recall / (precision + recall)
}

/// How good one answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scored {
    /// 1 or 0.
    pub exact: f64,
    /// 0 to 1.
    pub f1: f64,
    /// Whether the question has a gold answer.
    pub has_answer: bool,
    /// What answering nothing would get, 0 or 1: also right where every gold answer normalizes to nothing.
    pub abstaining: f64,
}

impl Scored {
    /// What it is if nothing is answered instead.
    #[must_use]
    pub fn abstained(self) -> Self {
        Self { exact: self.abstaining, f1: self.abstaining, ..self }
    }
}

/// Scores an answer against all gold answers. Gold answers that normalize to nothing do not count; where none is left, the right
/// answer is none.
pub fn score<'a>(prediction: &str, golds: impl ExactSizeIterator<Item = &'a str>) -> Scored {
    let has_answer = golds.len() > 0;
    let prediction = normalize(prediction);
    let mut golds: Vec<String> = golds.map(normalize).filter(|gold| !gold.is_empty()).collect();
    if golds.is_empty() {
        golds.push(String::new());
    }
    let best = |of: fn(&str, &str) -> f64| golds.iter().map(|gold| of(&prediction, gold)).fold(0.0, f64::max);
    let abstaining = exact("", &golds[0]);
    Scored { exact: best(exact), f1: best(overlap), has_answer, abstaining }
}

/// Means over a group of questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Means {
    /// Mean exact match, in percent.
    pub exact: f64,
    /// Mean F1, in percent.
    pub f1: f64,
    /// Questions.
    pub total: usize,
}

impl Means {
    /// Means of these scores; nothing where there is none.
    pub fn of<'a>(scores: impl Iterator<Item = &'a Scored>) -> Option<Self> {
        let (mut exact, mut f1, mut total) = (0.0, 0.0, 0_usize);
        for score in scores {
            exact += score.exact;
            f1 += score.f1;
            total += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "no data set is that large")]
        let percent = |sum: f64| 100.0 * sum / total as f64;
        (total > 0).then(|| Self { exact: percent(exact), f1: percent(f1), total })
    }
}

/// What the official script prints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Over all questions; zeros where there is none.
    pub all: Means,
    /// Over the questions with a gold answer.
    pub has_answer: Option<Means>,
    /// Over the questions without one.
    pub no_answer: Option<Means>,
}

/// Sums scores up.
pub fn summary(scores: &[Scored]) -> Summary {
    Summary {
        all: Means::of(scores.iter()).unwrap_or(Means { exact: 0.0, f1: 0.0, total: 0 }),
        has_answer: Means::of(scores.iter().filter(|score| score.has_answer)),
        no_answer: Means::of(scores.iter().filter(|score| !score.has_answer)),
    }
}

/// The figure that always answering nothing gets, in percent: the same for exact match and F1.
pub fn always_abstain(scores: &[Scored]) -> f64 {
    let right: f64 = scores.iter().map(|score| score.abstaining).sum();
    #[expect(clippy::cast_precision_loss, reason = "no data set is that large")]
    let total = scores.len().max(1) as f64;
    100.0 * right / total
}

/// One question for the sweep of thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Abstention {
    /// Score of the answer that would be given, 0 to 1.
    pub score: f64,
    /// How strongly the question looks unanswerable.
    pub na_score: f64,
    /// Whether it has a gold answer.
    pub has_answer: bool,
    /// Whether the answer that would be given is none.
    pub empty: bool,
}

impl Abstention {
    /// What is gained by giving the answer instead of none.
    fn gain(&self) -> f64 {
        match (self.has_answer, self.empty) {
            (true, _) => self.score,
            (false, false) => -1.0,
            (false, true) => 0.0,
        }
    }
}

/// The best mean score over all thresholds, in percent, and the threshold: answers whose `na_score` does not exceed it are given.
/// The sort is stable and only strict gains move the threshold, as in `find_best_thresh`.
pub fn best_threshold(questions: &[Abstention]) -> (f64, f64) {
    let mut order: Vec<&Abstention> = questions.iter().collect();
    order.sort_by(|a, b| a.na_score.partial_cmp(&b.na_score).unwrap_or(std::cmp::Ordering::Equal));
    #[expect(clippy::cast_precision_loss, reason = "no data set is that large")]
    let mut current = questions.iter().filter(|question| !question.has_answer).count() as f64;
    let (mut best, mut threshold) = (current, 0.0);
    for question in order {
        current += question.gain();
        if current > best {
            (best, threshold) = (current, question.na_score);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "no data set is that large")]
    let percent = 100.0 * best / questions.len().max(1) as f64;
    (percent, threshold)
}

/// The threshold with the best mean score, for use on other questions: answers whose `na_score` does not exceed it are given. Unlike
/// the official sweep it may lie below every score, where abstaining always is best, and never between two that are equal.
pub fn tuned_threshold(questions: &[Abstention]) -> f64 {
    let mut order: Vec<&Abstention> = questions.iter().collect();
    order.sort_by(|a, b| a.na_score.total_cmp(&b.na_score));
    let mut threshold = order.first().map_or(0.0, |least| least.na_score - 1.0);
    let (mut gained, mut best) = (0.0, 0.0);
    for equal in order.chunk_by(|a, b| a.na_score.total_cmp(&b.na_score).is_eq()) {
        gained += equal.iter().map(|question| question.gain()).sum::<f64>();
        if gained > best {
            (best, threshold) = (gained, equal[0].na_score);
        }
    }
    threshold
}
