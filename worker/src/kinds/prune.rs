//! `prune`: learns which weights of a model can be left out.

use std::path::{Path, PathBuf};

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::models::write_word_head;
use qapipe_nn::{Budget, Masking as MaskTuning, Pruner, Tuning, Worth};
use qapipe_stages::tokenizer;
use serde::Deserialize;

use super::choice::{Choice, Written};
use crate::checkpoint;
use crate::error::Error;
use crate::training::{Besides, Masking, Session, Words};

/// The parameters, as `qapipe_stages` declares them.
#[derive(Deserialize)]
struct Wanted {
    sparsity: f64,
    method: Method,
    budget: Budget,
    score_lr: f64,
    penalty: Option<f64>,
    shared_temperature: f64,
    dense_share: f64,
    settled_share: f64,
    train_head: bool,
    #[serde(default)]
    head_words: Vec<String>,
    teacher_share: f64,
    temperature: f64,
    values: Written,
    #[serde(flatten)]
    choice: Choice,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    Static,
    Movement,
    Magnitude,
}

impl Wanted {
    /// The model's folder; where a head of words is wanted, one with that.
    fn base(&self, cx: &StageCx<'_>) -> Result<PathBuf, Error> {
        let base = cx.input("model")?;
        match self.head_words.as_slice() {
            [start, end] => with_head(base, [start, end], cx.scratch()?),
            _ => Ok(base.to_path_buf()),
        }
    }

    /// What trains, where the peak learning rate of the rest is this.
    fn tuning(&self, rate: f64) -> Tuning {
        let scores = self.method != Method::Magnitude;
        Tuning::Masks(MaskTuning {
            targets: self.choice.selection(&[]),
            scores,
            weights: self.method != Method::Static,
            head: self.train_head,
            score_rate: self.score_lr / rate,
        })
    }

    /// How what stays falls.
    fn masking(&self) -> Masking {
        let worth = if self.method == Method::Magnitude { Worth::Magnitude } else { Worth::Score };
        let usual = if self.method == Method::Static { 400.0 } else { 0.0 };
        Masking {
            pruner: Pruner { worth, budget: self.budget, temperature: self.shared_temperature },
            keep: kept(self.sparsity),
            warmup: self.dense_share,
            settle: self.settled_share,
            penalty: self.penalty.unwrap_or(usual),
        }
    }
}

/// What stays of a sparsity: of 0.9 a tenth, and not a hair less, which would cost a weight where numbers of weights are rounded down.
fn kept(sparsity: f64) -> f64 {
    const PLACES: f64 = 1e12;
    ((1.0 - sparsity) * PLACES).round() / PLACES
}

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let session = Session::new(cx)?;
    let base = wanted.base(cx)?;
    if session.rate() <= 0.0 {
        return Err(StageError::failed("train.lr is 0")
            .help("static pruning trains the head at `train.lr`; `train_head = false` leaves it as it is"));
    }
    let words = Words { share: wanted.teacher_share, temperature: wanted.temperature, ..Words::default() };
    let teaching = cx.maybe_input("teacher").map(|folder| session.teacher(folder, &words)).transpose()?;
    let outcome = session.run(&base, &wanted.tuning(session.rate()), Besides { masking: Some(wanted.masking()), teaching })?;
    let parameters = outcome.model.network().parameters();
    let (density, masked) = parameters.density().map_err(Error::from)?;
    cx.reporter.log(&format!("{density:.4} of {masked} weights stay"));
    cx.reporter.measure("density", density);
    let touched = parameters.masked().map(str::to_owned).collect();
    Ok(outcome.write(&base, wanted.values.kind(), touched, cx)?)
}

/// The folder of a model whose head for masked words has become one for spans.
fn with_head(base: &Path, words: [&String; 2], scratch: &Path) -> Result<PathBuf, Error> {
    let tokenizer = tokenizer::load(base)?;
    let id = |word: &String| {
        let known = tokenizer.token_to_id(word).map(i64::from);
        known.ok_or_else(|| Error::failed(format!("head_words: the model's tokenizer has no token {word:?}")))
    };
    let folder = scratch.join("with_head");
    std::fs::create_dir(&folder).map_err(Error::io(&folder))?;
    write_word_head(base, [id(words[0])?, id(words[1])?], &folder.join(checkpoint::WEIGHTS))?;
    checkpoint::copy_tokenizer(base, &folder)?;
    checkpoint::write_config(base, &folder, |config| {
        config.insert("qa_by_words".to_owned(), true.into());
    })?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_stays_is_what_is_said() {
        for (sparsity, keep) in [(0.9, 0.1), (0.97, 0.03), (0.3, 0.7), (0.0, 1.0), (1.0, 0.0), (0.123_456_789, 0.876_543_211)] {
            assert!(super::kept(sparsity).total_cmp(&keep).is_eq(), "{sparsity}: {}", super::kept(sparsity));
        }
    }
}
