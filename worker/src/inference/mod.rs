//! Questions in, answers out: length-sorted packed batches without gradients.

mod kept;
mod pointing;
mod spent;
mod writing;

use std::cmp::Reverse;
use std::ops::Range;

pub use kept::Kept;
pub use pointing::Pointing;
pub use spent::{Spent, ask};
pub use writing::{Manner, Proposal, Sources, Writing};

use qapipe_engine::StageCx;
use qapipe_nn::{Network, device};
use qapipe_stages::examples::Examples;
use qapipe_stages::postprocess::Answer;

use crate::error::Error;
use crate::training::{BatchSize, groups};

/// A model with the questions that it answers. It reads a question in one or more windows, proposes something for each, and chooses.
pub trait Answerer {
    /// What the model makes of a window.
    type Proposal: Clone;

    /// The questions.
    fn examples(&self) -> &Examples;

    /// The model.
    fn network(&self) -> &dyn Network;

    /// The numbers of a question's windows.
    fn windows_of(&self, question: usize) -> Range<usize>;

    /// How many windows there are.
    fn windows(&self) -> usize;

    /// Tokens that a window takes in the model.
    fn length(&self, window: u32) -> usize;

    /// Most tokens in the model at once.
    fn room(&self) -> usize;

    /// What the model makes of each of some windows.
    ///
    /// # Errors
    /// What libtorch reports, and logits that are not numbers.
    fn propose(&self, windows: &[u32]) -> Result<Vec<Self::Proposal>, Error>;

    /// The answer out of what a question's windows propose.
    fn choose(&self, question: usize, proposals: &[Self::Proposal]) -> Answer;

    /// The null threshold by which it chooses.
    fn null_threshold(&self) -> f64;

    /// How it chooses besides, as JSON.
    fn manner(&self) -> String;

    /// Adds all of a question that its answer hangs on.
    fn describe(&self, question: usize, bytes: &mut Vec<u8>);

    /// Floating-point operations of one pass over the longest window.
    fn flops(&self) -> f64;

    /// Answers one question on its own, as it is timed for the latency.
    ///
    /// # Errors
    /// As [`Answerer::propose`].
    fn answer_one(&self, question: usize) -> Result<Answer, Error> {
        let windows: Vec<u32> = self.windows_of(question).map(row).collect();
        Ok(self.choose(question, &self.propose(&windows)?))
    }
}

/// Some answers, and how many of them were given now and not before.
pub struct Answered {
    /// One a question, in their order.
    pub answers: Vec<Answer>,
    /// How many were given now.
    pub now: usize,
}

/// Answers questions (rows of the examples), in their order, but for those whose answers were kept before. Their windows are read in batches,
/// the longest first: memory that does not suffice shows at once. After each batch the answers that it completes are kept, and `seen` hears how
/// many of how many windows are done.
///
/// # Errors
/// As [`Answerer::propose`], an interrupt, and what the file system says of what is kept.
pub fn answer<A: Answerer>(
    answerer: &A,
    questions: &[usize],
    mut kept: Option<Kept>,
    cx: &StageCx<'_>,
    seen: &mut dyn FnMut(u64, u64),
) -> Result<Answered, Error> {
    let all = kept.as_ref().is_some_and(Kept::is_strict).then(|| Batches::of(answerer, questions));
    let keys = kept.as_ref().map(|kept| kept.keys(answerer, questions, all.as_ref())).unwrap_or_default();
    let known = |at: usize| kept.as_ref()?.get(keys.get(at)?, answerer.null_threshold());
    let mut answers: Vec<Option<Answer>> = (0..questions.len()).map(known).collect();
    let now = answers.iter().filter(|answer| answer.is_none()).count();
    let mut open = Open::new(answerer, questions, &answers);
    let batches = all.map_or_else(|| Batches::of(answerer, &open.unanswered()), |all| all.with(&open));
    let (mut done, total) = (0, batches.windows());
    for batch in batches.iter() {
        cx.checkpoint()?;
        let found = open.take(answerer, batch, propose(answerer, batch, cx)?);
        if let Some(kept) = &mut kept {
            kept.put(found.iter().filter_map(|(at, answer)| Some((keys.get(*at)?, answer))))?;
        }
        found.into_iter().for_each(|(at, answer)| answers[at] = Some(answer));
        done += batch.len() as u64;
        seen(done, total);
    }
    if let Some(kept) = &mut kept {
        kept.finish()?;
    }
    let nothing = |(answer, &question): (Option<Answer>, &usize)| answer.unwrap_or_else(|| answerer.choose(question, &[]));
    Ok(Answered { answers: answers.into_iter().zip(questions).map(nothing).collect(), now })
}

/// What the model makes of windows; where memory does not suffice for all of them, of one half and then of the other. Not where results are to
/// repeat bit for bit: what is read at once shows in the last of them.
fn propose<A: Answerer>(answerer: &A, windows: &[u32], cx: &StageCx<'_>) -> Result<Vec<A::Proposal>, Error> {
    match answerer.propose(windows) {
        Err(error) if error.is_out_of_memory() && windows.len() > 1 && !cx.request.strict => {
            device::give_back();
            let (first, rest) = windows.split_at(windows.len() / 2);
            Ok([propose(answerer, first, cx)?, propose(answerer, rest, cx)?].concat())
        }
        other => other,
    }
}

/// Windows in the order in which they are read, cut into batches.
struct Batches {
    order: Vec<u32>,
    cuts: Vec<Range<usize>>,
}

impl Batches {
    fn of<A: Answerer>(answerer: &A, questions: &[usize]) -> Self {
        let mut order: Vec<u32> = questions.iter().flat_map(|&question| answerer.windows_of(question)).map(row).collect();
        order.sort_by_key(|&window| (Reverse(answerer.length(window)), window));
        let cuts = groups(&order, &|window| answerer.length(window), BatchSize::Tokens(answerer.room()));
        Self { order, cuts }
    }

    fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.cuts.iter().map(|cut| &self.order[cut.clone()])
    }

    fn windows(&self) -> u64 {
        self.iter().map(|batch| batch.len() as u64).sum()
    }

    /// Those in which there is a window of a question without an answer, as they are.
    fn with<P: Clone>(self, open: &Open<P>) -> Self {
        let cuts = self.cuts.iter().filter(|cut| self.order[(*cut).clone()].iter().any(|&window| open.wants(window))).cloned().collect();
        Self { cuts, ..self }
    }
}

/// Questions that wait for some of their windows.
struct Open<P> {
    /// Of each window, the question that it is of, by its place among those that are asked; none where that has its answer.
    question: Vec<Option<usize>>,
    /// The questions that are asked.
    asked: Vec<usize>,
    /// How many windows a question still waits for.
    missing: Vec<usize>,
    proposals: Vec<Option<P>>,
}

impl<P: Clone> Open<P> {
    fn new<A: Answerer<Proposal = P>>(answerer: &A, questions: &[usize], answers: &[Option<Answer>]) -> Self {
        let mut question = vec![None; answerer.windows()];
        let mut missing = vec![0; questions.len()];
        for (at, _) in answers.iter().enumerate().filter(|(_, answer)| answer.is_none()) {
            let windows = answerer.windows_of(questions[at]);
            missing[at] = windows.len();
            question[windows].fill(Some(at));
        }
        Self { question, asked: questions.to_vec(), missing, proposals: vec![None; answerer.windows()] }
    }

    /// The questions that have no answer yet.
    fn unanswered(&self) -> Vec<usize> {
        self.asked.iter().zip(&self.missing).filter(|(_, missing)| **missing > 0).map(|(&question, _)| question).collect()
    }

    /// Takes what the windows of a batch propose; gives the answers that are complete with it, each with the place of its question.
    fn take<A: Answerer<Proposal = P>>(&mut self, answerer: &A, batch: &[u32], found: Vec<P>) -> Vec<(usize, Answer)> {
        let mut complete = Vec::new();
        for (&window, proposal) in batch.iter().zip(found) {
            let window = window as usize;
            let Some(at) = self.question[window] else { continue };
            self.proposals[window] = Some(proposal);
            self.missing[at] -= 1;
            if self.missing[at] == 0 {
                let windows = answerer.windows_of(self.asked[at]);
                let own: Vec<P> = self.proposals[windows].iter_mut().filter_map(Option::take).collect();
                complete.push((at, answerer.choose(self.asked[at], &own)));
            }
        }
        complete
    }

    /// Whether a window is one of a question without an answer.
    fn wants(&self, window: u32) -> bool {
        self.question.get(window as usize).is_some_and(Option::is_some)
    }
}

/// A window's number as batches hold it. Tables have fewer rows than that.
#[allow(clippy::cast_possible_truncation)]
fn row(row: usize) -> u32 {
    row as u32
}
