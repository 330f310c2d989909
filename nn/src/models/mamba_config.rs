//! The configuration of Mamba, in Hugging Face's form and in the authors' own.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{NnError, Result};

/// A Mamba's `config.json`; fields that are not here do not matter to it. What is left out is as in Hugging Face's default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MambaConfig {
    /// Names of classes that Hugging Face's libraries may make of it.
    pub architectures: Vec<String>,
    /// The family: `mamba`.
    pub model_type: String,
    /// Token ids that it knows.
    pub vocab_size: i64,
    /// Width of a token's state between layers.
    pub hidden_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Numbers that each channel remembers.
    pub state_size: i64,
    /// How many times wider a layer is inside.
    pub expand: i64,
    /// Channels of a layer; `expand` times `hidden_size` where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<i64>,
    /// Tokens that the convolution sees.
    pub conv_kernel: i64,
    /// Rank of the map to the step sizes; a sixteenth of `hidden_size` where it is not said, or `auto`.
    #[serde(deserialize_with = "rank", skip_serializing_if = "Option::is_none")]
    pub time_step_rank: Option<i64>,
    /// Whether the maps in and out of a layer have a bias.
    pub use_bias: bool,
    /// Whether the convolution has a bias.
    pub use_conv_bias: bool,
    /// Activation after the convolution, and of the gate: `silu`.
    pub hidden_act: String,
    /// What normalisation adds to the mean square.
    pub layer_norm_epsilon: f64,
    /// Whether what is handed from layer to layer stays in f32 where the rest is computed in less.
    pub residual_in_fp32: bool,
    /// Standard deviation of the embedding at random.
    pub initializer_range: f64,
    /// Whether the maps out of the layers begin smaller, the more layers there are.
    pub rescale_prenorm_residual: bool,
    /// Scale of the map to the step sizes at random.
    pub time_step_scale: f64,
    /// Smallest step size at random.
    pub time_step_min: f64,
    /// Largest step size at random.
    pub time_step_max: f64,
    /// What step sizes at random are not below.
    pub time_step_floor: f64,
    /// How the map to the step sizes begins: `random` or `constant`.
    pub time_step_init_scheme: String,
    /// Whether the output shares the embedding's weights.
    pub tie_word_embeddings: bool,
    /// The token id that begins a text.
    pub bos_token_id: Option<i64>,
    /// The token id that ends a text.
    pub eos_token_id: Option<i64>,
    /// The token id that pads.
    pub pad_token_id: Option<i64>,
}

impl Default for MambaConfig {
    fn default() -> Self {
        Self {
            architectures: vec!["MambaForCausalLM".into()],
            model_type: "mamba".into(),
            vocab_size: 50_280,
            hidden_size: 768,
            num_hidden_layers: 32,
            state_size: 16,
            expand: 2,
            intermediate_size: None,
            conv_kernel: 4,
            time_step_rank: None,
            use_bias: false,
            use_conv_bias: true,
            hidden_act: "silu".into(),
            layer_norm_epsilon: 1e-5,
            residual_in_fp32: true,
            initializer_range: 0.1,
            rescale_prenorm_residual: false,
            time_step_scale: 1.0,
            time_step_min: 0.001,
            time_step_max: 0.1,
            time_step_floor: 1e-4,
            time_step_init_scheme: "random".into(),
            tie_word_embeddings: true,
            bos_token_id: Some(0),
            eos_token_id: Some(0),
            pad_token_id: Some(0),
        }
    }
}

impl MambaConfig {
    /// The model of 129,135,360 parameters, begun as its authors begin it.
    #[must_use]
    pub fn small() -> Self {
        Self { num_hidden_layers: 24, initializer_range: 0.02, rescale_prenorm_residual: true, ..Self::default() }
    }

    /// Reads the text of a `config.json`, of either form, and checks it.
    ///
    /// # Errors
    /// With the field that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let config =
            if is_original(&value) { serde_json::from_value::<Original>(value)?.config()? } else { serde_json::from_value(value)? };
        config.check()?;
        Ok(config)
    }

    /// Channels of a layer.
    #[must_use]
    pub fn channels(&self) -> i64 {
        self.intermediate_size.unwrap_or(self.expand.saturating_mul(self.hidden_size))
    }

    /// Rank of the map to the step sizes.
    #[must_use]
    pub fn rank(&self) -> i64 {
        self.time_step_rank.unwrap_or((self.hidden_size + 15) / 16)
    }

    /// Checks that a model can be made of it.
    ///
    /// # Errors
    /// With the first field that is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |field, message: String| Err(NnError::Config { field, message });
        if self.model_type != "mamba" {
            return wrong("model_type", format!("is {:?}, and must be \"mamba\"", self.model_type));
        }
        self.check_sizes()?;
        self.check_numbers()?;
        if !["silu", "swish"].contains(&self.hidden_act.as_str()) {
            return wrong("hidden_act", format!("{:?} is not known; known are silu, swish", self.hidden_act));
        }
        if !["random", "constant"].contains(&self.time_step_init_scheme.as_str()) {
            return wrong("time_step_init_scheme", format!("{:?} is not known; known are random, constant", self.time_step_init_scheme));
        }
        if self.time_step_min > self.time_step_max {
            return wrong(
                "time_step_min",
                format!("is {}, and must not be above time_step_max {}", self.time_step_min, self.time_step_max),
            );
        }
        let tokens = [("bos_token_id", self.bos_token_id), ("eos_token_id", self.eos_token_id), ("pad_token_id", self.pad_token_id)];
        match tokens.into_iter().find(|(_, id)| id.is_some_and(|id| !(0..self.vocab_size).contains(&id))) {
            Some((field, _)) => wrong(field, format!("is not within vocab_size {}", self.vocab_size)),
            None => Ok(()),
        }
    }

    fn check_sizes(&self) -> Result<()> {
        super::check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("expand", self.expand),
            ("intermediate_size", self.channels()),
            ("time_step_rank", self.rank()),
        ])?;
        // What a token costs grows with these two; those in use are 16 and 4.
        for (field, size, most) in [("state_size", self.state_size, 1024), ("conv_kernel", self.conv_kernel, 64)] {
            if !(1..=most).contains(&size) {
                return Err(NnError::Config { field, message: format!("is {size}, and must be between 1 and {most}") });
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        let positive = [
            ("layer_norm_epsilon", self.layer_norm_epsilon),
            ("time_step_min", self.time_step_min),
            ("time_step_max", self.time_step_max),
            ("time_step_floor", self.time_step_floor),
        ];
        let others = [("initializer_range", self.initializer_range), ("time_step_scale", self.time_step_scale)];
        if let Some((field, _)) = positive.into_iter().find(|&(_, number)| !(number > 0.0 && number.is_finite())) {
            return Err(NnError::Config { field, message: "must be a positive number".into() });
        }
        match others.into_iter().find(|&(_, number)| !(number >= 0.0 && number.is_finite())) {
            Some((field, _)) => Err(NnError::Config { field, message: "must be a number that is not negative".into() }),
            None => Ok(()),
        }
    }

    /// Floating-point operations of reading a source and writing a target of so many tokens: a multiplication and an addition are two, an
    /// exponential is one. Only the tokens that are written pass the head.
    #[allow(clippy::cast_precision_loss)]
    #[must_use]
    pub fn flops(&self, source: i64, target: i64) -> f64 {
        let (width, channels, rank) = (self.hidden_size as f64, self.channels() as f64, self.rank() as f64);
        let (state, taps) = (self.state_size as f64, self.conv_kernel as f64);
        let maps = 2.0 * (3.0 * width * channels + channels * (rank + 2.0 * state) + rank * channels);
        let layer = maps + channels * (2.0 * taps + 7.0 * state);
        let read = (source + target - 1).max(0) as f64;
        read * self.num_hidden_layers as f64 * layer + 2.0 * target as f64 * width * self.vocab_size as f64
    }
}

/// A rank, or `auto`.
fn rank<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<i64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(word) if word == "auto" => Ok(None),
        Value::Number(number) if number.is_i64() => Ok(number.as_i64()),
        other => Err(D::Error::custom(format!("time_step_rank is {other}, and must be a whole number or \"auto\""))),
    }
}

/// Whether a configuration is in the form of the authors' own files, which name no family.
pub(super) fn is_original(config: &Value) -> bool {
    config.get("model_type").is_none() && ["d_model", "n_layer"].iter().all(|field| config.get(field).is_some())
}

/// The form of the authors' own files.
#[derive(Deserialize)]
#[serde(default)]
struct Original {
    d_model: i64,
    n_layer: i64,
    vocab_size: i64,
    pad_vocab_size_multiple: i64,
    ssm_cfg: OriginalLayer,
    rms_norm: bool,
    residual_in_fp32: bool,
    tie_embeddings: bool,
    /// Width of a feed-forward part; later models may have one.
    d_intermediate: i64,
    /// Layers with attention instead; later models may have some.
    attn_layer_idx: Vec<i64>,
}

impl Default for Original {
    fn default() -> Self {
        Self {
            d_model: 2560,
            n_layer: 64,
            vocab_size: 50_277,
            pad_vocab_size_multiple: 8,
            ssm_cfg: OriginalLayer::default(),
            rms_norm: true,
            residual_in_fp32: true,
            tie_embeddings: true,
            d_intermediate: 0,
            attn_layer_idx: Vec::new(),
        }
    }
}

/// What the authors' files may say of a layer.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OriginalLayer {
    layer: String,
    d_state: i64,
    d_conv: i64,
    expand: i64,
    #[serde(deserialize_with = "rank")]
    dt_rank: Option<i64>,
    dt_min: f64,
    dt_max: f64,
    dt_init: String,
    dt_scale: f64,
    dt_init_floor: f64,
    conv_bias: bool,
    bias: bool,
}

impl Default for OriginalLayer {
    fn default() -> Self {
        let config = MambaConfig::default();
        Self {
            layer: "Mamba1".into(),
            d_state: config.state_size,
            d_conv: config.conv_kernel,
            expand: config.expand,
            dt_rank: None,
            dt_min: config.time_step_min,
            dt_max: config.time_step_max,
            dt_init: config.time_step_init_scheme,
            dt_scale: config.time_step_scale,
            dt_init_floor: config.time_step_floor,
            conv_bias: config.use_conv_bias,
            bias: config.use_bias,
        }
    }
}

impl Original {
    /// The same in the other form.
    fn config(self) -> Result<MambaConfig> {
        let wrong = |field, message: String| Err(NnError::Config { field, message });
        if self.ssm_cfg.layer != "Mamba1" {
            return wrong("ssm_cfg", format!("its layers are {}, and only Mamba1 is supported", self.ssm_cfg.layer));
        }
        if !self.rms_norm {
            return wrong("rms_norm", "is false: layer normalisation is not supported here".into());
        }
        if self.d_intermediate != 0 || !self.attn_layer_idx.is_empty() {
            return wrong("attn_layer_idx", "layers of attention, and feed-forward parts, are not supported".into());
        }
        super::check_sizes(&[("vocab_size", self.vocab_size), ("pad_vocab_size_multiple", self.pad_vocab_size_multiple)])?;
        let layer = self.ssm_cfg;
        let multiple = self.pad_vocab_size_multiple;
        Ok(MambaConfig {
            vocab_size: (self.vocab_size + multiple - 1) / multiple * multiple,
            hidden_size: self.d_model,
            num_hidden_layers: self.n_layer,
            state_size: layer.d_state,
            expand: layer.expand,
            conv_kernel: layer.d_conv,
            time_step_rank: layer.dt_rank,
            use_bias: layer.bias,
            use_conv_bias: layer.conv_bias,
            residual_in_fp32: self.residual_in_fp32,
            time_step_scale: layer.dt_scale,
            time_step_min: layer.dt_min,
            time_step_max: layer.dt_max,
            time_step_floor: layer.dt_init_floor,
            time_step_init_scheme: layer.dt_init,
            tie_word_embeddings: self.tie_embeddings,
            ..MambaConfig::small()
        })
    }
}
