//! What makes start and end of the answer out of states.

use std::path::Path;

use tch::{Kind, Tensor};

use crate::builder::Builder;
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::layers::{Activation, LayerNorm, Linear};
use crate::models::{BertConfig, Stored};
use crate::weights::{Weights, write};

/// A head for spans.
#[derive(Debug)]
pub(super) enum Head {
    /// One map, as BERT's authors have it.
    Spans(Linear),
    /// The head that pretraining left for masked words, of which two words are kept (static model pruning, Jiang et al. 2022,
    /// arXiv 2210.06210).
    Words(Box<WordHead>),
}

#[derive(Debug)]
pub(super) struct WordHead {
    transform: Linear,
    activation: Activation,
    norm: LayerNorm,
    words: Linear,
}

/// The modules of either.
pub(super) const MODULES: [&str; 4] = ["qa_outputs", WORDS, TRANSFORM, NORM];
const TRANSFORM: &str = "cls.predictions.transform.dense";
const NORM: &str = "cls.predictions.transform.LayerNorm";
const WORDS: &str = "qa_words";

impl Head {
    pub(super) fn new(builder: &mut Builder<'_>, config: &BertConfig) -> Result<Self> {
        let (width, deviation) = (config.hidden_size, config.initializer_range);
        if !config.qa_by_words {
            return Ok(Self::Spans(Linear::new(builder, "qa_outputs", width, 2, deviation)?));
        }
        let unknown = || NnError::Config { field: "hidden_act", message: format!("{:?} is not known", config.hidden_act) };
        Ok(Self::Words(Box::new(WordHead {
            transform: Linear::new(builder, TRANSFORM, width, width, deviation)?,
            activation: Activation::named(&config.hidden_act).ok_or_else(unknown)?,
            norm: LayerNorm::new(builder, NORM, width, config.layer_norm_eps)?,
            words: Linear::new(builder, WORDS, width, 2, deviation)?,
        })))
    }

    /// Logits of start and end of states `[tokens, hidden]`, f32 `[tokens, 2]`.
    pub(super) fn forward(&self, states: &Tensor, forward: &Forward) -> Result<Tensor> {
        match self {
            Self::Spans(map) => map.forward_f32(states),
            Self::Words(head) => {
                let states = head.activation.apply(&head.transform.forward(states, forward)?)?;
                head.words.forward_f32(&head.norm.forward(&states)?)
            }
        }
    }
}

/// Writes the weights of a pretrained BERT once more, with the head for masked words made one for spans: the logits of the token `words[0]` are
/// those of the start, of `words[1]` those of the end. The configuration has to say `qa_by_words`.
///
/// # Errors
/// Where the model has no head for masked words, or does not know the tokens.
pub fn write_word_head(base: &Path, words: [i64; 2], output: &Path) -> Result<()> {
    let weights = Stored::open(base)?.weights;
    let find = |name: &str| {
        let bare = name.strip_prefix("bert.").unwrap_or(name);
        let found = [name, bare].into_iter().find(|name| weights.contains(name)).map(str::to_owned);
        found.ok_or_else(|| NnError::Fit(format!("the model has no head for masked words: it lacks {name}")))
    };
    for needed in [format!("{TRANSFORM}.weight"), format!("{NORM}.weight")] {
        find(&needed)?;
    }
    let table = weights.floats(&find("bert.embeddings.word_embeddings.weight")?)?;
    let bias = weights.floats(&find("cls.predictions.bias")?)?;
    if words.iter().any(|word| !(0..table.size()[0].min(bias.size()[0])).contains(word)) {
        return Err(NnError::Input(format!("the model knows no tokens {words:?}")));
    }
    let chosen = Tensor::f_from_slice(&words)?;
    let mut tensors = copied(&weights)?;
    tensors.push((format!("{WORDS}.weight"), table.f_index_select(0, &chosen)?));
    tensors.push((format!("{WORDS}.bias"), bias.f_index_select(0, &chosen)?));
    write(output, tensors, &[])
}

/// All tensors of a file, floating-point numbers in f32.
fn copied(weights: &Weights) -> Result<Vec<(String, Tensor)>> {
    let of = |name: &str| {
        let tensor = weights.tensor(name)?;
        let tensor = if tensor.is_floating_point() { tensor.f_to_kind(Kind::Float)? } else { tensor };
        Ok((name.to_owned(), tensor))
    };
    weights.names().map(of).collect()
}
