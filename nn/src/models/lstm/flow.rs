//! Attention by trilinear scores: w·[a; b; a∘b] for each two tokens (Seo et al. 2017, arXiv 1611.01603).

use tch::{Kind, Tensor};

use super::glorot;
use crate::builder::{Builder, Wanted};
use crate::error::Result;
use crate::forward::Forward;
use crate::layers::Linear;
use crate::packed::Packed;

/// Scores of pairs of tokens.
#[derive(Debug)]
pub(super) struct Flow {
    first: Linear,
    second: Linear,
    product: Tensor,
}

/// States with the sequences that they are of.
pub(super) type Read<'a> = (&'a Tensor, &'a Packed);

impl Flow {
    pub(super) fn new(builder: &mut Builder<'_>, prefix: &str, width: i64) -> Result<Self> {
        let init = glorot(width, 1);
        let mut part = |name: &str| Linear::drawn(builder, &format!("{prefix}.{name}"), (width, 1), init, false);
        let (first, second) = (part("first")?, part("second")?);
        let names = [format!("{prefix}.product")];
        let product = builder.tensor(&Wanted { names: &names, shape: &[width], inits: &[init], decay: true })?;
        Ok(Self { first, second, product })
    }

    /// Scores of all pairs, f32 `[sequences, first's width, second's width]`.
    fn scores(&self, first: &Tensor, second: &Tensor) -> Result<Tensor> {
        let products = first.f_mul(&self.product)?.f_matmul(&second.f_transpose(1, 2)?)?;
        let sums = self
            .first
            .forward(first, &Forward::inference())?
            .f_add(&self.second.forward(second, &Forward::inference())?.f_transpose(1, 2)?)?;
        Ok(products.f_to_kind(Kind::Float)?.f_add(&sums)?)
    }

    /// What a paragraph sees in the question, and what of the paragraph the question sees: each `[tokens of the paragraph, width]`.
    pub(super) fn both_ways(&self, question: Read<'_>, context: Read<'_>) -> Result<(Tensor, Tensor)> {
        let (asked, read) = (table(question)?, table(context)?);
        let scores = self.scores(&read, &asked)?.f_masked_fill(&hidden(question.1)?, f64::NEG_INFINITY)?;
        let kind = read.kind();
        let seen = scores.f_softmax(-1, Kind::Float)?.f_to_kind(kind)?.f_matmul(&asked)?;
        let best = scores.f_amax([-1], true)?.f_transpose(1, 2)?.f_masked_fill(&hidden(context.1)?, f64::NEG_INFINITY)?;
        let chosen = best.f_softmax(-1, Kind::Float)?.f_to_kind(kind)?.f_matmul(&read)?;
        let chosen = chosen.f_expand_as(&read)?;
        Ok((packed(&seen, context.1)?, packed(&chosen, context.1)?))
    }

    /// What each token sees in the others of its sequence, `[tokens, width]`.
    pub(super) fn within(&self, context: Read<'_>) -> Result<Tensor> {
        let read = table(context)?;
        let itself = Tensor::f_eye(context.1.width(), (Kind::Bool, read.device()))?;
        // Where there is nobody else, a token sees itself.
        let alone = f64::from(f32::MIN) / 2.0;
        let scores = self.scores(&read, &read)?.f_masked_fill(&itself, alone)?;
        let scores = scores.f_masked_fill(&hidden(context.1)?, f64::NEG_INFINITY)?;
        packed(&scores.f_softmax(-1, Kind::Float)?.f_to_kind(read.kind())?.f_matmul(&read)?, context.1)
    }
}

/// States as a padded table, `[sequences, width, features]`.
pub(super) fn table((states, packed): Read<'_>) -> Result<Tensor> {
    Ok(packed.spread(&states.f_unsqueeze(1)?)?.f_squeeze_dim(1)?)
}

/// A padded table's states, `[tokens, features]`.
fn packed(table: &Tensor, packed: &Packed) -> Result<Tensor> {
    Ok(packed.gather(&table.f_unsqueeze(1)?)?.f_squeeze_dim(1)?)
}

/// Which places hold no token, bool `[sequences, 1, width]`.
pub(super) fn hidden(packed: &Packed) -> Result<Tensor> {
    Ok(packed.mask()?.f_squeeze_dim(1)?.f_logical_not()?)
}
