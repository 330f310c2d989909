//! What a word brings along: its vector, its characters, and whether it stands in the other text.

use tch::{Device, Kind, Tensor};

use super::{dense, glorot};
use crate::builder::{Builder, Init, Wanted};
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::layers::Linear;
use crate::models::LstmConfig;
use crate::packed::Packed;

/// Name of the words' vectors.
pub(super) const WORDS: &str = "words.weight";
/// Name of the table of each word's characters.
pub(super) const CHARACTERS: &str = "characters.table";

/// Vectors of words.
#[derive(Debug)]
pub(super) struct Words {
    vectors: Tensor,
    characters: Option<Characters>,
}

impl Words {
    pub(super) fn new(builder: &mut Builder<'_>, config: &LstmConfig) -> Result<Self> {
        let shape = [config.vocab_size, config.word_size];
        let init = Init::Normal(0.1);
        let vectors = if config.train_words {
            builder.tensor(&Wanted { names: &[WORDS.to_owned()], shape: &shape, inits: &[init], decay: false })?
        } else {
            builder.frozen(WORDS, &shape, init)?
        };
        let characters = if config.has_characters() { Some(Characters::new(builder, config)?) } else { None };
        Ok(Self { vectors, characters })
    }

    /// Of words `[tokens]` what goes into the first LSTM, `[tokens, input]`. `found`: one for those that stand in the other text, `[tokens]`.
    pub(super) fn forward(&self, ids: &Tensor, found: Option<&Tensor>, kind: Kind, forward: &Forward) -> Result<Tensor> {
        let mut parts = vec![Tensor::f_embedding(&self.vectors, ids, -1, false, false)?.f_to_kind(kind)?];
        if let Some(characters) = &self.characters {
            parts.push(characters.forward(ids, forward)?);
        }
        if let Some(found) = found {
            parts.push(found.f_to_kind(kind)?.f_unsqueeze(1)?);
        }
        Ok(Tensor::f_cat(&parts, 1)?)
    }
}

/// Features of a word out of its characters: a convolution and the greatest value over the word (Kim 2014, arXiv 1408.5882).
#[derive(Debug)]
struct Characters {
    /// Each word's characters, i32 `[words, word length]`.
    table: Tensor,
    vectors: Tensor,
    /// From the vectors of neighbouring characters, one after the other, to the features.
    convolution: Linear,
    kernel: i64,
}

impl Characters {
    fn new(builder: &mut Builder<'_>, config: &LstmConfig) -> Result<Self> {
        let (size, kernel) = (config.character_size, config.character_kernel);
        let table = builder.table(CHARACTERS, &[config.vocab_size, config.word_length])?;
        let shape = [config.character_vocab_size, size];
        let names = ["characters.weight".to_owned()];
        let vectors =
            builder.tensor(&Wanted { names: &names, shape: &shape, inits: &[glorot(config.character_vocab_size, size)], decay: false })?;
        let convolution = dense(builder, "characters.convolution", size * kernel, config.character_filters)?;
        Ok(Self { table, vectors, convolution, kernel })
    }

    /// Of words `[tokens]`: `[tokens, features]`.
    fn forward(&self, ids: &Tensor, forward: &Forward) -> Result<Tensor> {
        let vectors = looked_up(&self.vectors, &self.table.f_index_select(0, ids)?)?;
        // [tokens, windows, size, kernel], so that a character's numbers come together.
        let windows = vectors.f_unfold(1, self.kernel, 1)?.f_transpose(2, 3)?.f_flatten(2, 3)?;
        Ok(self.convolution.forward(&windows, forward)?.f_relu()?.f_amax([1], false)?)
    }
}

/// Vectors of characters `[tokens, word length]`. On CUDA as a product with ones and zeros: there are few characters, and libtorch's gradient
/// of an embedding adds up all that one of them gets, padding above all, one after the other.
fn looked_up(vectors: &Tensor, characters: &Tensor) -> Result<Tensor> {
    match vectors.device() {
        Device::Cpu => Ok(Tensor::f_embedding(vectors, characters, -1, false, false)?),
        _ => by_product(vectors, characters),
    }
}

fn by_product(vectors: &Tensor, characters: &Tensor) -> Result<Tensor> {
    let all = Tensor::f_arange(vectors.size()[0], (characters.kind(), characters.device()))?;
    Ok(characters.f_unsqueeze(-1)?.f_eq_tensor(&all)?.f_to_kind(vectors.kind())?.f_matmul(vectors)?)
}

/// For each token whether its word stands in the other part of its window: of the question, then of the paragraph; f32 `[tokens]`.
pub(super) fn exact_matches(question: &Packed, context: &Packed) -> Result<(Tensor, Tensor)> {
    let padded = |packed: &Packed, none: i64| {
        let empty = Tensor::f_full([packed.sequences() * packed.width()], none, (Kind::Int64, packed.device()))?;
        Ok::<_, NnError>(empty.f_index_copy(0, &packed.slots()?, &packed.ids()?)?.f_view([packed.sequences(), packed.width()])?)
    };
    // Padding of one kind is like no word, nor like padding of the other.
    let same = padded(context, -1)?.f_unsqueeze(2)?.f_eq_tensor(&padded(question, -2)?.f_unsqueeze(1)?)?;
    let of = |table: Tensor, packed: &Packed| {
        Ok::<_, NnError>(table.f_flatten(0, 1)?.f_index_select(0, &packed.slots()?)?.f_to_kind(Kind::Float)?)
    };
    Ok((of(same.f_any_dim(1, false)?, question)?, of(same.f_any_dim(2, false)?, context)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_product_with_ones_and_zeros_is_an_embedding() {
        let table = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([4, 3]);
        let characters = Tensor::from_slice(&[3_i32, 0, 1, 3, 3, 2]).view([2, 3]);
        let weight = Tensor::arange(18, (Kind::Float, Device::Cpu)).view([2, 3, 3]);
        let pass = |way: fn(&Tensor, &Tensor) -> Result<Tensor>| {
            let vectors = table.copy().set_requires_grad(true);
            let found = way(&vectors, &characters).unwrap();
            (&found * &weight).sum(Kind::Float).backward();
            (Vec::<f32>::try_from(found.view(-1)).unwrap(), Vec::<f32>::try_from(vectors.grad().view(-1)).unwrap())
        };
        assert_eq!(pass(by_product), pass(looked_up));
    }
}
