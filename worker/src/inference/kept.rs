//! Answers that are kept one by one, whatever becomes of the stage that asked.

use std::time::{Duration, Instant};

use qapipe_cache::{Digest, Rows};
use qapipe_engine::StageCx;
use qapipe_stages::postprocess::Answer;
use serde::{Deserialize, Serialize};

use super::{Answerer, Batches};
use crate::error::Error;
use crate::precision;

/// Raised when the same model would answer the same question otherwise.
const VERSION: &str = "answers 1";

/// How often what was written is made sure to be on the disk: a process that is killed loses none of it, a machine that is may lose so much.
const SURE: Duration = Duration::from_secs(1);

/// The answers of one model, in one precision, on one sort of device, chosen in one manner.
///
/// Which of them are known shows in nothing but time. Only in the last bits, which numbers read at once with others may differ in, would it show
/// elsewhere; under `numerics = "strict"` an answer is therefore that of its question among the same others.
pub struct Kept {
    rows: Rows,
    group: Digest,
    /// Whether they are all to be given anew.
    anew: bool,
    strict: bool,
    sure: Instant,
}

/// An answer as it is kept: numbers by their bits, so that they come back as they were. What is answered follows from the threshold.
#[derive(Serialize, Deserialize)]
struct Row {
    text: String,
    score: u64,
    na_score: u64,
}

impl Kept {
    /// The answers that were kept for this model and these settings.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open<A: Answerer>(answerer: &A, cx: &StageCx<'_>) -> Result<Self, Error> {
        let parameters = answerer.network().parameters();
        let model = cx.request.inputs.get("model").map(|input| input.digest.to_string()).unwrap_or_default();
        let device = if parameters.device().is_cuda() { "cuda" } else { "cpu" };
        let parts = [VERSION, &model, device, precision::word(parameters.kind()), &answerer.manner()];
        let group = Digest::of_bytes(parts.join("\n").as_bytes());
        let rows = Rows::open(&cx.request.rows.join(group.to_string()))?;
        Ok(Self { rows, group, anew: cx.request.anew, strict: cx.request.strict, sure: Instant::now() })
    }

    /// Whether an answer hangs on what else is asked.
    pub(super) fn is_strict(&self) -> bool {
        self.strict
    }

    /// The key of each question; with the batches of all, where an answer hangs on them.
    pub(super) fn keys<A: Answerer>(&self, answerer: &A, questions: &[usize], batches: Option<&Batches>) -> Vec<Digest> {
        let beside = batches.map(|batches| beside(answerer, questions, batches)).unwrap_or_default();
        let key = |&question: &usize| {
            let mut bytes = self.group.to_string().into_bytes();
            answerer.describe(question, &mut bytes);
            answerer
                .windows_of(question)
                .filter_map(|window| beside.get(window)?.as_ref())
                .for_each(|batch| bytes.extend(batch.to_string().bytes()));
            Digest::of_bytes(&bytes)
        };
        questions.iter().map(key).collect()
    }

    /// The answer of a key, if it is known.
    pub(super) fn get(&self, key: &Digest, null_threshold: f64) -> Option<Answer> {
        let row: Row = serde_json::from_str(self.rows.get(key).filter(|_| !self.anew)?).ok()?;
        Some(Answer::new(row.text, f64::from_bits(row.score), f64::from_bits(row.na_score), null_threshold))
    }

    /// Keeps answers.
    pub(super) fn put<'a>(&mut self, answers: impl Iterator<Item = (&'a Digest, &'a Answer)>) -> Result<(), Error> {
        let row = |(key, answer): (&Digest, &Answer)| Ok((*key, stored(answer)?));
        let rows = answers.map(row).collect::<Result<Vec<_>, Error>>()?;
        self.rows.put(&rows)?;
        if self.sure.elapsed() > SURE { self.finish() } else { Ok(()) }
    }

    /// Makes sure that they are on the disk.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.sure = Instant::now();
        Ok(self.rows.sync()?)
    }
}

/// Of each window, what it is read with.
fn beside<A: Answerer>(answerer: &A, questions: &[usize], batches: &Batches) -> Vec<Option<Digest>> {
    let mut owner = vec![0; answerer.windows()];
    questions.iter().for_each(|&question| owner[answerer.windows_of(question)].fill(question));
    let mut beside = vec![None; answerer.windows()];
    for batch in batches.iter() {
        let mut bytes = Vec::new();
        batch.iter().for_each(|&window| answerer.describe(owner[window as usize], &mut bytes));
        let digest = Digest::of_bytes(&bytes);
        batch.iter().for_each(|&window| beside[window as usize] = Some(digest));
    }
    beside
}

fn stored(answer: &Answer) -> Result<String, Error> {
    let row = Row { text: answer.candidate.clone(), score: answer.score.to_bits(), na_score: answer.na_score.to_bits() };
    serde_json::to_string(&row).map_err(|e| Error::failed(format!("an answer cannot be written down: {e}")))
}
