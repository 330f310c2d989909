//! The configuration of BERT.

use serde::{Deserialize, Serialize};

use crate::error::{NnError, Result};
use crate::layers::Activation;

/// A BERT-type encoder's `config.json`; fields that are not here do not matter to it. What is left out is as in BERT-base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BertConfig {
    /// Names of classes that Hugging Face's libraries may make of it.
    pub architectures: Vec<String>,
    /// The family: `bert`.
    pub model_type: String,
    /// Token ids that it knows.
    pub vocab_size: i64,
    /// Width of a token's state.
    pub hidden_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Attention heads of a layer; they share the width.
    pub num_attention_heads: i64,
    /// Width of the feed-forward part.
    pub intermediate_size: i64,
    /// Activation of the feed-forward part.
    pub hidden_act: String,
    /// Share of states that training drops.
    pub hidden_dropout_prob: f64,
    /// Share of attention weights that training drops.
    pub attention_probs_dropout_prob: f64,
    /// Longest sequence.
    pub max_position_embeddings: i64,
    /// Segments that it tells apart.
    pub type_vocab_size: i64,
    /// Standard deviation of weights at random.
    pub initializer_range: f64,
    /// What layer normalisation adds to the variance.
    pub layer_norm_eps: f64,
    /// The token id that pads.
    pub pad_token_id: Option<i64>,
    /// How positions enter: `absolute`.
    pub position_embedding_type: String,
    /// Whether it sees only what comes before: not here.
    pub is_decoder: bool,
    /// Whether the answer is read off by the head for masked words: the logits of one word are those of the start, of another those of the end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub qa_by_words: bool,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            architectures: vec!["BertForQuestionAnswering".into()],
            model_type: "bert".into(),
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".into(),
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: Some(0),
            position_embedding_type: "absolute".into(),
            is_decoder: false,
            qa_by_words: false,
        }
    }
}

impl BertConfig {
    /// Reads the text of a `config.json` and checks it.
    ///
    /// # Errors
    /// With the field that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Checks that a model can be made of it.
    ///
    /// # Errors
    /// With the first field that is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |field, message: String| Err(NnError::Config { field, message });
        if self.model_type != "bert" {
            return wrong("model_type", format!("is {:?}, and this reads bert", self.model_type));
        }
        self.check_sizes()?;
        if self.hidden_size % self.num_attention_heads != 0 {
            let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
            return wrong("num_attention_heads", format!("{heads} heads do not divide hidden_size {hidden}"));
        }
        if Activation::named(&self.hidden_act).is_none() {
            return wrong("hidden_act", format!("{:?} is not known; known are {}", self.hidden_act, Activation::NAMES.join(", ")));
        }
        for (field, share) in
            [("hidden_dropout_prob", self.hidden_dropout_prob), ("attention_probs_dropout_prob", self.attention_probs_dropout_prob)]
        {
            if !(0.0..1.0).contains(&share) {
                return wrong(field, format!("is {share}, and must be at least 0 and below 1"));
            }
        }
        if self.pad_token_id.is_some_and(|id| !(0..self.vocab_size).contains(&id)) {
            return wrong("pad_token_id", format!("is not within vocab_size {}", self.vocab_size));
        }
        if self.position_embedding_type != "absolute" {
            return wrong("position_embedding_type", format!("{:?} is not supported; absolute is", self.position_embedding_type));
        }
        if self.is_decoder {
            return wrong("is_decoder", "a decoder cannot point at answers; only encoders are supported".into());
        }
        Ok(())
    }

    /// Floating-point operations of a forward pass with the head over sequences of these lengths: a multiplication and an addition are two.
    #[allow(clippy::cast_precision_loss)]
    #[must_use]
    pub fn flops(&self, lengths: &[i64]) -> f64 {
        let BertConfig { hidden_size, intermediate_size, num_hidden_layers, .. } = *self;
        let (hidden, inner, layers) = (hidden_size as f64, intermediate_size as f64, num_hidden_layers as f64);
        let tokens = lengths.iter().map(|&length| length as f64).sum::<f64>();
        let pairs = lengths.iter().map(|&length| (length * length) as f64).sum::<f64>();
        let linear = 2.0 * tokens * (4.0 * hidden * hidden + 2.0 * hidden * inner);
        layers * (linear + 4.0 * pairs * hidden) + 4.0 * tokens * hidden
    }

    /// Checks the sizes: positive, and not so large that a mistake would take all memory.
    fn check_sizes(&self) -> Result<()> {
        super::check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ])?;
        let wrong = |field, message: &str| Err(NnError::Config { field, message: message.into() });
        if !(self.initializer_range >= 0.0 && self.initializer_range.is_finite()) {
            return wrong("initializer_range", "must be a number that is not negative");
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps.is_finite()) {
            return wrong("layer_norm_eps", "must be a positive number");
        }
        Ok(())
    }
}
