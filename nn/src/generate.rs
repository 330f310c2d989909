//! Greedy decoding: of every text in a batch the likeliest next token, until each has ended.

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::models::Writer;
use crate::packed::Packed;

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
    /// The logarithm of its probability, the end token's included.
    pub log_probability: f64,
    /// The logarithm of the probability that [`Limits::not_first`] had come first; zero where there is none.
    pub not_first: f64,
}

/// Goes on with every source, on the model's device, token by token.
///
/// # Errors
/// Where a source is beyond what the model takes, `most` is not positive, the logits are no numbers, and what libtorch reports.
pub fn greedy(model: &dyn Writer, sources: &Packed, limits: &Limits) -> Result<Vec<Generated>> {
    let _guard = tch::no_grad_guard();
    if limits.most < 1 {
        return Err(NnError::Input("there is no room for a token".into()));
    }
    let mut run = Run::new(model, sources, limits)?;
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
    decoding: Box<dyn crate::models::Decoding + 'a>,
    ends: Tensor,
    not_first: Option<i64>,
    done: Tensor,
    tokens: Vec<Tensor>,
    scores: Vec<Tensor>,
    first: Option<Tensor>,
}

impl<'a> Run<'a> {
    fn new(model: &'a dyn Writer, sources: &Packed, limits: &Limits) -> Result<Self> {
        let ends: Vec<i64> = limits.ends.iter().map(|&id| i64::from(id)).collect();
        Ok(Self {
            decoding: model.start(sources, limits.most)?,
            ends: Tensor::f_from_slice(&ends)?.f_to(sources.device())?,
            not_first: limits.not_first.map(i64::from),
            done: Tensor::f_zeros([sources.sequences()], (Kind::Bool, sources.device()))?,
            tokens: Vec::new(),
            scores: Vec::new(),
            first: None,
        })
    }

    fn step(&mut self) -> Result<()> {
        let logits = self.decoding.next(self.tokens.last())?;
        let all = logits.f_logsumexp([-1_i64], false)?;
        if let (Some(banned), true) = (self.not_first, self.tokens.is_empty()) {
            self.first = Some(logits.f_select(1, banned)?.f_sub(&all)?);
            let _same = logits.f_select(1, banned)?.f_fill_(f64::NEG_INFINITY)?;
        }
        let (best, token) = logits.f_max_dim(-1, false)?;
        let score = best.f_sub(&all)?;
        self.scores.push(score.f_masked_fill(&self.done, 0.0)?);
        self.done = self.done.f_logical_or(&Tensor::f_isin(&token, &self.ends, false, false)?)?;
        self.tokens.push(token);
        Ok(())
    }

    /// The texts, up to where each ended.
    fn finish(self, limits: &Limits) -> Result<Vec<Generated>> {
        let tokens = Vec::<Vec<i64>>::try_from(Tensor::f_stack(&self.tokens, 1)?.f_to(Device::Cpu)?)?;
        let scores =
            Vec::<f64>::try_from(Tensor::f_stack(&self.scores, 1)?.f_sum_dim_intlist(1_i64, false, Kind::Double)?.f_to(Device::Cpu)?)?;
        let first = match &self.first {
            Some(first) => Vec::<f64>::try_from(first.f_to_kind(Kind::Double)?.f_to(Device::Cpu)?)?,
            None => vec![0.0; tokens.len()],
        };
        if scores.iter().chain(&first).any(|score| score.is_nan()) {
            return Err(NnError::Input("the model gives logits that are not numbers: its weights are broken".into()));
        }
        let rows = tokens.into_iter().zip(scores).zip(first);
        Ok(rows.map(|((tokens, log_probability), not_first)| generated(&tokens, limits, log_probability, not_first)).collect())
    }
}

/// One text out of a row of tokens.
fn generated(tokens: &[i64], limits: &Limits, log_probability: f64, not_first: f64) -> Generated {
    let ids: Vec<u32> = tokens.iter().map(|&id| u32::try_from(id).unwrap_or(u32::MAX)).collect();
    let end = ids.iter().position(|id| limits.ends.contains(id));
    let tokens = ids[..end.map_or(ids.len(), |end| end + 1)].to_vec();
    Generated { tokens, ended: end.is_some(), log_probability, not_first }
}
