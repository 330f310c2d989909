//! Greedy decoding: of every text in a batch the likeliest next token, until each has ended.

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::models::{Decoding, Writer, check_ids};
use crate::packed::{Packed, signed};

/// Tokens between two looks at whether all texts have ended: on CUDA a look waits for the device.
const LOOK_EVERY: i64 = 4;

/// When decoding ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens that are written.
    pub most: i64,
    /// Tokens that end a text: the end token, and what holds a stop string. They count for the text's probability.
    pub ends: Vec<u32>,
    /// A token that may not come first; its probability there is told. For a model whose answer of nothing is its end token, this gives
    /// the best answer and the probability of none at once.
    pub not_first: Option<u32>,
}

/// A text that was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// Its tokens, the one that ended it among them.
    pub tokens: Vec<u32>,
    /// Whether it ended by itself.
    pub ended: bool,
    /// The logarithm of its probability, the end token's included: the sum of `scores`.
    pub log_probability: f64,
    /// The logarithm of the probability of each of its tokens, given those before.
    pub scores: Vec<f64>,
    /// The logarithm of the probability that [`Limits::not_first`] had come first; zero where there is none.
    pub not_first: f64,
}

/// Goes on with every source, on the model's device, token by token.
///
/// # Errors
/// Where a source is beyond what the model takes, `most` is not positive, the logits are no numbers, and what libtorch reports.
pub fn greedy(model: &dyn Writer, sources: &Packed, limits: &Limits) -> Result<Vec<Generated>> {
    let _guard = tch::no_grad_guard();
    write(Run::new(model, sources, limits, limits.most)?, sources, limits)
}

/// As [`greedy`], and for each source the logarithm of the probability that it goes on with `text` instead, up to and with the likeliest of the
/// tokens that end a text: what is written and `text` are measured alike, and every source is read once.
///
/// # Errors
/// As [`greedy`], and where `text` has a token that the model does not know.
pub fn greedy_beside(model: &dyn Writer, sources: &Packed, limits: &Limits, text: &[u32]) -> Result<(Vec<Generated>, Vec<f64>)> {
    let _guard = tch::no_grad_guard();
    check_ids(text.iter().copied().max().map_or(0, i64::from), model.vocabulary())?;
    let run = Run::new(model, sources, limits, limits.most.max(signed(text.len() + 1)))?;
    let beside = run.likelihoods(text)?;
    Ok((write(run, sources, limits)?, beside))
}

/// Writes until every text has ended.
fn write(mut run: Run<'_>, sources: &Packed, limits: &Limits) -> Result<Vec<Generated>> {
    for step in 0..limits.most {
        run.step()?;
        let look = sources.device() == Device::Cpu || (step + 1) % LOOK_EVERY == 0;
        if look && run.done.f_all()?.f_int64_value(&[])? == 1 {
            break;
        }
    }
    run.finish(limits)
}

/// Texts under way. Everything stays on the device until the end.
struct Run<'a> {
    decoding: Box<dyn Decoding + 'a>,
    /// Which tokens end a text, bool `[vocabulary]`.
    ends: Tensor,
    not_first: Option<i64>,
    done: Tensor,
    tokens: Vec<Tensor>,
    scores: Vec<Tensor>,
    first: Option<Tensor>,
}

impl<'a> Run<'a> {
    /// Reads the sources; there is room for `most` tokens.
    fn new(model: &'a dyn Writer, sources: &Packed, limits: &Limits, most: i64) -> Result<Self> {
        if limits.most < 1 {
            return Err(NnError::Input("there is no room for a token".into()));
        }
        let mut ends = vec![false; usize::try_from(model.vocabulary()).unwrap_or(0)];
        limits.ends.iter().for_each(|&id| ends.iter_mut().skip(id as usize).take(1).for_each(|end| *end = true));
        Ok(Self {
            decoding: model.start(sources, most)?,
            ends: Tensor::f_from_slice(&ends)?.f_to(sources.device())?,
            not_first: limits.not_first.map(i64::from),
            done: Tensor::f_zeros([sources.sequences()], (Kind::Bool, sources.device()))?,
            tokens: Vec::new(),
            scores: Vec::new(),
            first: None,
        })
    }

    /// The logarithm of the probability that each source goes on with a text and then ends, before anything is written.
    fn likelihoods(&self, text: &[u32]) -> Result<Vec<f64>> {
        let mut decoding = self.decoding.fork()?;
        let rows = self.done.size()[0];
        let mut sum = Tensor::f_zeros([rows], (Kind::Double, self.done.device()))?;
        let mut last = None;
        for &id in text {
            let scores = decoding.next(last.as_ref())?.f_log_softmax(-1, Kind::Float)?;
            sum = sum.f_add(&scores.f_select(1, i64::from(id))?.f_to_kind(Kind::Double)?)?;
            last = Some(Tensor::f_full([rows], i64::from(id), (Kind::Int64, self.done.device()))?);
        }
        let scores = decoding.next(last.as_ref())?.f_log_softmax(-1, Kind::Float)?;
        let end = scores.f_masked_fill(&self.ends.f_logical_not()?, f64::NEG_INFINITY)?.f_amax([-1_i64], false)?;
        Ok(Vec::<f64>::try_from(sum.f_add(&end.f_to_kind(Kind::Double)?)?.f_to(Device::Cpu)?)?)
    }

    fn step(&mut self) -> Result<()> {
        let scores = self.decoding.next(self.tokens.last())?.f_log_softmax(-1, Kind::Float)?;
        if let (Some(banned), true) = (self.not_first, self.tokens.is_empty()) {
            let mut column = scores.f_select(1, banned)?;
            self.first = Some(column.f_to_kind(Kind::Double)?);
            let _same = column.f_fill_(f64::NEG_INFINITY)?;
        }
        let (score, token) = scores.f_max_dim(-1, false)?;
        self.done = self.done.f_logical_or(&self.ends.f_index_select(0, &token)?)?;
        self.scores.push(score);
        self.tokens.push(token);
        Ok(())
    }

    /// The texts, up to where each ended.
    fn finish(self, limits: &Limits) -> Result<Vec<Generated>> {
        let tokens = Vec::<Vec<i64>>::try_from(Tensor::f_stack(&self.tokens, 1)?.f_to(Device::Cpu)?)?;
        let scores = Vec::<Vec<f64>>::try_from(Tensor::f_stack(&self.scores, 1)?.f_to_kind(Kind::Double)?.f_to(Device::Cpu)?)?;
        let first = match &self.first {
            Some(first) => Vec::<f64>::try_from(first.f_to(Device::Cpu)?)?,
            None => vec![0.0; tokens.len()],
        };
        if scores.iter().flatten().chain(&first).any(|score| score.is_nan()) {
            return Err(NnError::Input("the model gives logits that are not numbers: its weights are broken".into()));
        }
        let rows = tokens.iter().zip(&scores).zip(first);
        Ok(rows.map(|((tokens, scores), not_first)| generated(tokens, scores, limits, not_first)).collect())
    }
}

/// One text out of a row of tokens with the logarithms of their probabilities.
fn generated(tokens: &[i64], scores: &[f64], limits: &Limits, not_first: f64) -> Generated {
    let ids: Vec<u32> = tokens.iter().map(|&id| u32::try_from(id).unwrap_or(u32::MAX)).collect();
    let end = ids.iter().position(|id| limits.ends.contains(id));
    let length = end.map_or(ids.len(), |end| end + 1);
    let scores = scores[..length].to_vec();
    Generated { tokens: ids[..length].to_vec(), ended: end.is_some(), log_probability: scores.iter().sum(), scores, not_first }
}
