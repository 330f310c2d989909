//! The configuration of the LSTMs.

use serde::{Deserialize, Serialize};

use super::check_sizes;
use crate::error::{NnError, Result};

/// How a paragraph learns of the question, and of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LstmAttention {
    /// Each token of the paragraph looks at the question by dot products (Luong, Pham, Manning 2015, arXiv 1508.04025).
    #[default]
    Dot,
    /// The same with several heads (Vaswani et al. 2017, arXiv 1706.03762), and a residual.
    MultiHead,
    /// As `Dot`, and then the paragraph looks at itself with several heads, and a residual.
    SelfAttention,
    /// Attention in both directions (Seo et al. 2017, arXiv 1611.01603), and then of the paragraph to itself as in Clark and Gardner
    /// 2018 (arXiv 1710.10723).
    Bidaf,
}

/// How the answer is found among the states of the paragraph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LstmHead {
    /// Each position has a score of its own.
    #[default]
    Flatten,
    /// The greatest value of each feature over all positions decides which position it is: it can learn only where answers usually are.
    MaxPooling,
    /// As `Flatten`, after one more LSTM for the start, and one for the end that knows of the start (Clark and Gardner 2018).
    Span,
}

/// Shape of an LSTM that points at answers. What is left out is as in the first of the study's four.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LstmConfig {
    /// The family: `lstm`.
    pub model_type: String,
    /// Words that it knows.
    pub vocab_size: i64,
    /// Width of a word's vector.
    pub word_size: i64,
    /// Whether the words' vectors train.
    pub train_words: bool,
    /// Characters that it tells apart, padding included; without characters 0.
    pub character_vocab_size: i64,
    /// Width of a character's vector.
    pub character_size: i64,
    /// Features that a word gets from its characters.
    pub character_filters: i64,
    /// Characters that a feature sees at once.
    pub character_kernel: i64,
    /// Characters of a word that are looked at.
    pub word_length: i64,
    /// Whether a token knows if its word stands in the other text as well (Chen et al. 2017, arXiv 1704.00051).
    pub exact_match: bool,
    /// Width of an LSTM's state in each direction.
    pub hidden_size: i64,
    /// LSTMs between the attention and the head.
    pub num_hidden_layers: i64,
    /// Whether what goes into these is added to what comes out.
    pub residual: bool,
    /// How the paragraph learns of the question.
    pub attention: LstmAttention,
    /// Heads of an attention with several.
    pub num_attention_heads: i64,
    /// How the answer is found.
    pub head: LstmHead,
    /// Tokens of the paragraph that can be an answer, but for the head `Span`, which can point anywhere.
    pub positions: i64,
    /// Share of what goes into each LSTM that training drops: the same features for all tokens of a sequence.
    pub dropout_rate: f64,
}

impl Default for LstmConfig {
    fn default() -> Self {
        Self {
            model_type: "lstm".into(),
            vocab_size: 50_000,
            word_size: 100,
            train_words: true,
            character_vocab_size: 0,
            character_size: 16,
            character_filters: 100,
            character_kernel: 5,
            word_length: 16,
            exact_match: false,
            hidden_size: 128,
            num_hidden_layers: 1,
            residual: false,
            attention: LstmAttention::Dot,
            num_attention_heads: 4,
            head: LstmHead::Flatten,
            positions: 350,
            dropout_rate: 0.2,
        }
    }
}

impl LstmConfig {
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
        if self.model_type != "lstm" {
            return wrong("model_type", format!("is {:?}, and this reads lstm", self.model_type));
        }
        self.check_all_sizes()?;
        let (states, heads) = (self.states(), self.num_attention_heads);
        if states % heads != 0 {
            return wrong("num_attention_heads", format!("{heads} heads do not divide the states of {states}"));
        }
        if !(0.0..1.0).contains(&self.dropout_rate) {
            return wrong("dropout_rate", format!("is {}, and must be at least 0 and below 1", self.dropout_rate));
        }
        if self.has_characters() && self.character_kernel > self.word_length {
            let (kernel, length) = (self.character_kernel, self.word_length);
            return wrong("character_kernel", format!("is {kernel}, but only {length} characters of a word are looked at (word_length)"));
        }
        if self.has_characters() && self.character_vocab_size < 2 {
            return wrong("character_vocab_size", "must be 0 for a model without characters, or at least 2".into());
        }
        Ok(())
    }

    fn check_all_sizes(&self) -> Result<()> {
        check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("word_size", self.word_size),
            ("character_vocab_size", self.character_vocab_size.max(1)),
            ("character_size", self.character_size),
            ("character_filters", self.character_filters),
            ("character_kernel", self.character_kernel),
            ("word_length", self.word_length),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("positions", self.positions),
        ])
    }

    /// Whether words are looked at by their characters, too.
    #[must_use]
    pub fn has_characters(&self) -> bool {
        self.character_vocab_size != 0
    }

    /// Width of the states, both directions together.
    #[must_use]
    pub fn states(&self) -> i64 {
        2 * self.hidden_size
    }

    /// Width of what goes into the first LSTM.
    #[must_use]
    pub fn input(&self) -> i64 {
        self.word_size + if self.has_characters() { self.character_filters } else { 0 } + i64::from(self.exact_match)
    }

    /// Floating-point operations of a forward pass over windows of these lengths, as if all of them were paragraph: a multiplication and
    /// an addition are two.
    #[allow(clippy::cast_precision_loss)]
    #[must_use]
    pub fn flops(&self, lengths: &[i64]) -> f64 {
        let tokens = lengths.iter().map(|&length| length as f64).sum::<f64>();
        let pairs = lengths.iter().map(|&length| (length * length) as f64).sum::<f64>();
        let (hidden, states) = (self.hidden_size as f64, self.states() as f64);
        let lstm = |width: f64| 2.0 * tokens * 8.0 * hidden * (width + hidden);
        let map = |width: f64| 2.0 * tokens * width * states;
        let windows = (self.word_length - self.character_kernel + 1).max(0) as f64;
        let convolution = (self.character_size * self.character_kernel * self.character_filters) as f64;
        let characters = if self.has_characters() { 2.0 * tokens * windows * convolution } else { 0.0 };
        let (fused, looked) = match self.attention {
            LstmAttention::Dot => (2.0 * states, 0.0),
            LstmAttention::MultiHead => (states, 4.0 * map(states)),
            LstmAttention::SelfAttention => (states, map(2.0 * states) + 4.0 * map(states) + 4.0 * pairs * states),
            LstmAttention::Bidaf => (states, map(4.0 * states) + map(3.0 * states) + lstm(states) + 4.0 * pairs * states),
        };
        let modelling = lstm(fused) + (self.num_hidden_layers - 1) as f64 * lstm(states);
        let head = match self.head {
            LstmHead::Flatten => 4.0 * tokens * states,
            LstmHead::MaxPooling => lengths.len() as f64 * 4.0 * states * (self.positions + 1) as f64,
            LstmHead::Span => lstm(states) + lstm(2.0 * states) + 4.0 * tokens * states,
        };
        characters + lstm(self.input() as f64) + looked + modelling + head
    }
}
