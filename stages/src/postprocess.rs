//! From the logits of windows to an answer, as Hugging Face's `postprocess_qa_predictions` does it.

use crate::python;

/// How answers are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Best starts and best ends that are paired in each window, and spans that are kept a question.
    pub n_best: usize,
    /// Longest answer, in tokens.
    pub max_answer_length: usize,
    /// Abstain where the null answer's score exceeds the best span's by more than this.
    pub null_threshold: f64,
}

impl std::default::Default for Settings {
    fn default() -> Self {
        Self { n_best: 20, max_answer_length: 30, null_threshold: 0.0 }
    }
}

impl Settings {
    /// The defaults for a version of SQuAD: in 1.1 every question has an answer, and one is always given, as Hugging Face's run_qa does
    /// without `--version_2_with_negative`.
    pub fn of_version(version: &str) -> Self {
        let null_threshold = if version.starts_with("1.") { f64::INFINITY } else { 0.0 };
        Self { null_threshold, ..Self::default() }
    }
}

/// A window with its logits.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// How well each token begins the answer; the first is the null answer.
    pub start: &'a [f32],
    /// How well each token ends it.
    pub end: &'a [f32],
    /// Position of the first context token.
    pub context_start: usize,
    /// First code point of each context token, and one past its last; as [`crate::features::Features::offsets`] gives them.
    pub offsets: (&'a [u32], &'a [u32]),
}

/// A span that may be the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Start logit and end logit.
    pub logits: (f32, f32),
    /// First code point in the context.
    pub start: u32,
    /// One past the last code point.
    pub end: u32,
}

impl Span {
    fn score(&self) -> f32 {
        self.logits.0 + self.logits.1
    }
}

/// What one window has to say: little enough to be kept until the other windows of the question have been seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Score of the null answer here.
    pub null: (f32, f32),
    /// The best spans, best first.
    pub spans: Vec<Span>,
}

/// The best spans of a window. Equal logits count in the order of the tokens.
pub fn propose(window: &Window<'_>, settings: &Settings) -> Proposal {
    let null = (window.start.first().copied().unwrap_or(0.0), window.end.first().copied().unwrap_or(0.0));
    let (firsts, lasts) = window.offsets;
    let mut spans = Vec::new();
    let ends = best(window.end, settings.n_best);
    let inside = |token: usize| token.checked_sub(window.context_start).filter(|&at| at < firsts.len());
    for &start in &best(window.start, settings.n_best) {
        let Some(first) = inside(start) else { continue };
        for &end in &ends {
            let Some(last) = inside(end) else { continue };
            if end < start || end - start + 1 > settings.max_answer_length {
                continue;
            }
            spans.push(Span { logits: (window.start[start], window.end[end]), start: firsts[first], end: lasts[last] });
        }
    }
    // A stable sort: what is cut here could not be among the best of all windows either.
    spans.sort_by(|a, b| b.score().total_cmp(&a.score()));
    spans.truncate(settings.n_best);
    Proposal { null, spans }
}

/// Positions of the largest numbers, largest first; of equal ones the earlier first.
fn best(logits: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let by = |&a: &usize, &b: &usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b));
    if count < order.len() {
        order.select_nth_unstable_by(count, by);
        order.truncate(count);
    }
    order.sort_unstable_by(by);
    order
}

/// The answer to one question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// What is answered; empty for nothing.
    pub text: String,
    /// The best span's text, answered or not.
    pub candidate: String,
    /// The best span's score: start logit and end logit together.
    pub score: f64,
    /// By how much the null answer's score exceeds the best span's (`null_odds`): what a sweep of thresholds sorts by.
    pub na_score: f64,
}

impl Answer {
    /// A candidate, where the null answer's score does not exceed its own by more than a threshold; else nothing.
    pub fn new(candidate: String, score: f64, na_score: f64, null_threshold: f64) -> Self {
        let text = if na_score > null_threshold { String::new() } else { candidate.clone() };
        Self { text, candidate, score, na_score }
    }
}

/// Chooses between the spans of all windows of a question, in order, and no answer.
///
/// As upstream, the null score is the least over the windows, and where no window proposes anything the candidate is the word
/// `empty` with score 0.
pub fn answer(context: &str, proposals: &[Proposal], settings: &Settings) -> Answer {
    let null_score = |proposal: &Proposal| proposal.null.0 + proposal.null.1;
    let null = proposals.iter().map(null_score).fold(None, |least: Option<f32>, score| Some(least.map_or(score, |least| least.min(score))));
    let null = null.unwrap_or(0.0);
    let mut pool: Vec<Span> = proposals.iter().flat_map(|proposal| &proposal.spans).copied().collect();
    pool.sort_by(|a, b| b.score().total_cmp(&a.score()));
    pool.truncate(settings.n_best);
    let texts = pool.iter().map(|span| (span, python::slice(context, span.start as usize, span.end as usize)));
    let (candidate, logits) =
        texts.into_iter().find(|(_, text)| !text.is_empty()).map_or(("empty", (0.0, 0.0)), |(span, text)| (text, span.logits));
    let na_score = f64::from(null - logits.0 - logits.1);
    Answer::new(candidate.to_owned(), f64::from(logits.0 + logits.1), na_score, settings.null_threshold)
}
