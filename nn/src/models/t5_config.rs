//! The configuration of T5.

use serde::{Deserialize, Serialize};

use crate::error::{NnError, Result};
use crate::layers::Activation;

/// A T5's `config.json`; fields that are not here do not matter to it. What is left out is as in T5-small, Hugging Face's default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct T5Config {
    /// Names of classes that Hugging Face's libraries may make of it.
    pub architectures: Vec<String>,
    /// The family: `t5`.
    pub model_type: String,
    /// Whether there is a decoder beside the encoder: always, here.
    pub is_encoder_decoder: bool,
    /// Token ids that it knows.
    pub vocab_size: i64,
    /// Width of a token's state.
    pub d_model: i64,
    /// Width of an attention head.
    pub d_kv: i64,
    /// Width of the feed-forward part.
    pub d_ff: i64,
    /// Layers of the encoder.
    pub num_layers: i64,
    /// Layers of the decoder; as many as the encoder has where it is not said.
    pub num_decoder_layers: Option<i64>,
    /// Attention heads of a layer.
    pub num_heads: i64,
    /// Buckets of relative positions.
    pub relative_attention_num_buckets: i64,
    /// Distance from which on all share the last bucket.
    pub relative_attention_max_distance: i64,
    /// Share of states and of attention weights that training drops.
    pub dropout_rate: f64,
    /// What normalisation adds to the mean square.
    pub layer_norm_epsilon: f64,
    /// Scale of weights at random.
    pub initializer_factor: f64,
    /// The feed-forward part: `relu`, or gated as `gated-gelu`.
    pub feed_forward_proj: String,
    /// Whether the output shares the embedding's weights (version 1.0), and is scaled down for it.
    pub tie_word_embeddings: bool,
    /// The token id that pads.
    pub pad_token_id: i64,
    /// The token id that ends a text.
    pub eos_token_id: i64,
    /// The token id that a decoder begins with; the padding's where it is not said.
    pub decoder_start_token_id: Option<i64>,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            architectures: vec!["T5ForConditionalGeneration".into()],
            model_type: "t5".into(),
            is_encoder_decoder: true,
            vocab_size: 32_128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_decoder_layers: None,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            dropout_rate: 0.1,
            layer_norm_epsilon: 1e-6,
            initializer_factor: 1.0,
            feed_forward_proj: "relu".into(),
            tie_word_embeddings: true,
            pad_token_id: 0,
            eos_token_id: 1,
            decoder_start_token_id: None,
        }
    }
}

impl T5Config {
    /// T5-base, version 1.0.
    #[must_use]
    pub fn base() -> Self {
        Self { d_model: 768, d_ff: 3072, num_layers: 12, num_heads: 12, ..Self::default() }
    }

    /// Reads the text of a `config.json` and checks it.
    ///
    /// # Errors
    /// Where it is no configuration, of another family, or has a value that cannot be.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Layers of the decoder.
    #[must_use]
    pub fn decoder_layers(&self) -> i64 {
        self.num_decoder_layers.unwrap_or(self.num_layers)
    }

    /// The token id that a decoder begins with.
    #[must_use]
    pub fn start(&self) -> i64 {
        self.decoder_start_token_id.unwrap_or(self.pad_token_id)
    }

    /// Width of all heads together.
    pub(crate) fn inner(&self) -> i64 {
        self.num_heads * self.d_kv
    }

    /// The activation of the feed-forward part, and whether it is a gate.
    pub(crate) fn activation(&self) -> Result<(Activation, bool)> {
        let (name, gated) =
            self.feed_forward_proj.strip_prefix("gated-").map_or((self.feed_forward_proj.as_str(), false), |name| (name, true));
        // The gate of version 1.1 is called gelu and means the approximation by tanh.
        let name = if gated && name == "gelu" { "gelu_new" } else { name };
        let unknown = || NnError::Config {
            field: "feed_forward_proj",
            message: format!(
                "{:?} is not known; known are {}, and the same after gated-",
                self.feed_forward_proj,
                Activation::NAMES.join(", ")
            ),
        };
        Ok((Activation::named(name).ok_or_else(unknown)?, gated))
    }

    /// Refuses what cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |field, message| Err(NnError::Config { field, message });
        if self.model_type != "t5" {
            return wrong("model_type", format!("is {:?}, and must be \"t5\"", self.model_type));
        }
        if !self.is_encoder_decoder {
            return wrong("is_encoder_decoder", "an encoder on its own writes nothing; a model with a decoder is supported".into());
        }
        self.check_sizes()?;
        self.check_tokens()?;
        if self.relative_attention_num_buckets < 4 || self.relative_attention_num_buckets % 4 != 0 {
            return wrong(
                "relative_attention_num_buckets",
                format!("is {}, and must be a multiple of 4", self.relative_attention_num_buckets),
            );
        }
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets / 2 {
            return wrong("relative_attention_max_distance", "must be larger than half of relative_attention_num_buckets".into());
        }
        if !(0.0..1.0).contains(&self.dropout_rate) {
            return wrong("dropout_rate", format!("is {}, and must be at least 0 and below 1", self.dropout_rate));
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon.is_finite()) {
            return wrong("layer_norm_epsilon", "must be a positive number".into());
        }
        if !(self.initializer_factor >= 0.0 && self.initializer_factor.is_finite()) {
            return wrong("initializer_factor", "must be a number that is not negative".into());
        }
        self.activation().map(|_| ())
    }

    /// Checks the sizes: positive, and not so large that a mistake would take all memory.
    fn check_sizes(&self) -> Result<()> {
        super::check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_layers", self.num_layers),
            ("num_decoder_layers", self.decoder_layers()),
            ("num_heads", self.num_heads),
            ("relative_attention_num_buckets", self.relative_attention_num_buckets),
            ("relative_attention_max_distance", self.relative_attention_max_distance),
        ])
    }

    /// Checks that the special tokens are tokens.
    fn check_tokens(&self) -> Result<()> {
        let tokens = [("pad_token_id", self.pad_token_id), ("eos_token_id", self.eos_token_id), ("decoder_start_token_id", self.start())];
        match tokens.into_iter().find(|(_, id)| !(0..self.vocab_size).contains(id)) {
            Some((field, id)) => Err(NnError::Config { field, message: format!("{id} is not within vocab_size {}", self.vocab_size) }),
            None => Ok(()),
        }
    }

    /// Floating-point operations of reading a source and writing a target of so many tokens, one at a time with all states kept.
    #[allow(clippy::cast_precision_loss)]
    #[must_use]
    pub fn flops(&self, source: i64, target: i64) -> f64 {
        let (width, inner, ff) = (self.d_model as f64, self.inner() as f64, self.d_ff as f64);
        let (source, target) = (source as f64, target as f64);
        let gates = if self.feed_forward_proj.starts_with("gated-") { 3.0 } else { 2.0 };
        let layer = 2.0 * (4.0 * width * inner + gates * width * ff);
        let encoder = self.num_layers as f64 * (source * layer + 4.0 * source * source * inner);
        let cross = target * 4.0 * width * inner + source * 4.0 * width * inner + 4.0 * source * target * inner;
        let decoder = self.decoder_layers() as f64 * (target * layer + 2.0 * target * target * inner + cross);
        encoder + decoder + 2.0 * target * width * self.vocab_size as f64
    }
}
