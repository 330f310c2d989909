//! What a word brings along: its vector, its characters, and whether it stands in the other text.

use tch::{Kind, Tensor};

use super::{dense, glorot};
use crate::builder::{Builder, Init, Wanted};
use crate::error::{NnError, Result};
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
    pub(super) fn forward(&self, ids: &Tensor, found: Option<&Tensor>, kind: Kind) -> Result<Tensor> {
        let mut parts = vec![Tensor::f_embedding(&self.vectors, ids, -1, false, false)?.f_to_kind(kind)?];
        if let Some(characters) = &self.characters {
            parts.push(characters.forward(ids)?);
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
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let characters = self.table.f_index_select(0, ids)?;
        let vectors = Tensor::f_embedding(&self.vectors, &characters, -1, false, false)?;
        // [tokens, windows, size, kernel], so that a character's numbers come together.
        let windows = vectors.f_unfold(1, self.kernel, 1)?.f_transpose(2, 3)?.f_flatten(2, 3)?;
        Ok(self.convolution.forward(&windows)?.f_relu()?.f_amax([1], false)?)
    }
}

/// For each token whether its word stands in the other part of its window: of the question, then of the paragraph; f32 `[tokens]`.
pub(super) fn exact_matches(question: &Packed, context: &Packed) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let padded = |packed: &Packed, none: i64| {
        let empty = Tensor::f_full([packed.sequences() * packed.width()], none, (Kind::Int64, packed.device()))?;
        Ok::<_, NnError>(empty.f_index_copy(0, &packed.slots()?, &packed.ids()?)?.f_view([packed.sequences(), packed.width()])?)
    };
    // Padding of one kind is like no word, nor like padding of the other.
    let same = padded(context, -1)?.f_unsqueeze(2)?.f_eq_tensor(&padded(question, -2)?.f_unsqueeze(1)?)?;
    let of = |table: Tensor, packed: &Packed| {
        Ok::<_, NnError>(table.f_flatten(0, 1)?.f_index_select(0, &packed.slots()?)?.f_to_kind(Kind::Float)?)
    };
    Ok((Some(of(same.f_any_dim(1, false)?, question)?), Some(of(same.f_any_dim(2, false)?, context)?)))
}
