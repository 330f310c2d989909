//! Mamba: a language model on selective state spaces (Gu and Dao 2023, arXiv 2312.00752).

mod decoding;
mod mixer;

use std::path::Path;

use tch::{Kind, Tensor};

use super::{AnyModel, Decoding, LayerNames, MambaConfig, Model, Network, Writer, check_ids, save};
use crate::builder::{Builder, Init, LoadReport};
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::layers::{Embedding, Linear, RmsNorm};
use crate::packed::Packed;
use crate::pairs::{Form, Pairs};
use crate::parameters::{Parameters, Placement};
use crate::parity;
use crate::weights::Weights;
use decoding::MambaDecoding;
use mixer::{Memory, Mixer};

/// The family's line in [`super::MODELS`].
pub(super) const MODEL: Model = Model {
    family: "mamba",
    check: |config| MambaConfig::parse(config).map(|_| ()),
    load: |stored, placement, seed, tuning| {
        let config = MambaConfig::parse(&stored.config)?;
        let builder = MambaForCausalLm::reading(&stored.weights, seed).tuned(stored, tuning, placement);
        let (model, report) = MambaForCausalLm::build(builder, &config, placement)?;
        Ok((AnyModel::Writer(Box::new(model)), report))
    },
    init: |config, placement, seed| {
        let model = MambaForCausalLm::init(&MambaConfig::parse(config)?, placement, seed)?;
        Ok(AnyModel::Writer(Box::new(model)))
    },
    // Not out_proj: newer versions of PEFT refuse an adapter of it, for fused kernels would pass it by.
    adapted: &["in_proj", "x_proj"],
    layers: &[LayerNames { prefix: "backbone.layers.", fields: &["num_hidden_layers", "n_layer"], shared: None }],
    parity: parity::mamba,
};

/// What names begin with in a file, or not.
const PREFIX: &str = "backbone.";
/// The name that the authors' own files have for the embedding.
const OTHER_NAMES: [(&str, &str); 1] = [("backbone.embeddings.weight", "backbone.embedding.weight")];

/// Modules that make the answer.
const HEADS: [&str; 1] = ["lm_head"];

/// Mamba with a head that writes.
#[derive(Debug)]
pub struct MambaForCausalLm {
    config: MambaConfig,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// The head, where it has weights of its own.
    head: Option<Linear>,
    parameters: Parameters,
}

impl MambaForCausalLm {
    /// Puts weights into a model, under Hugging Face's names or the authors'.
    ///
    /// # Errors
    /// Where the configuration is wrong, or tensors are missing or of another shape; they are named.
    pub fn load(weights: &Weights, config: &MambaConfig, placement: &Placement, seed: u64) -> Result<(Self, LoadReport)> {
        Self::build(Self::reading(weights, seed), config, placement)
    }

    fn reading(weights: &Weights, seed: u64) -> Builder<'_> {
        Builder::from_weights(weights, PREFIX, &[], seed).with_other_names(&OTHER_NAMES).with_heads(&HEADS)
    }

    /// A model at random, begun as published.
    ///
    /// # Errors
    /// Where the configuration is wrong.
    pub fn init(config: &MambaConfig, placement: &Placement, seed: u64) -> Result<Self> {
        Ok(Self::build(Builder::random(seed), config, placement)?.0)
    }

    fn build(mut builder: Builder<'_>, config: &MambaConfig, placement: &Placement) -> Result<(Self, LoadReport)> {
        config.check()?;
        let (vocabulary, width) = (config.vocab_size, config.hidden_size);
        let embedding = Embedding::new(&mut builder, "backbone.embeddings", (vocabulary, width), config.initializer_range, None)?;
        let layers = (0..config.num_hidden_layers).map(|number| Layer::new(&mut builder, config, number)).collect::<Result<_>>()?;
        let norm = RmsNorm::new(&mut builder, "backbone.norm_f", width, config.layer_norm_epsilon)?;
        // The authors' own files hold a shared head, too.
        let (head, ignored): (_, &[&str]) = if config.tie_word_embeddings {
            (None, &["lm_head."])
        } else {
            #[allow(clippy::cast_precision_loss)]
            let init = Init::Uniform((width as f64).powf(-0.5));
            (Some(Linear::drawn(&mut builder, "lm_head", (width, vocabulary), init, false)?), &[])
        };
        let (parameters, report) = builder.finish(placement, ignored)?;
        Ok((Self { config: config.clone(), embedding, layers, norm, head, parameters }, report))
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &MambaConfig {
        &self.config
    }

    /// Logits of the next token after each token, f32 `[tokens, vocabulary]`.
    ///
    /// # Errors
    /// Where a token id is beyond the vocabulary, and what libtorch reports.
    pub fn forward_logits(&self, packed: &Packed, forward: &mut Forward) -> Result<Tensor> {
        let _guard = forward.guard();
        self.of_states(&self.read(packed, forward)?, forward)
    }

    /// Begins a pass, and gives what [`MambaForCausalLm::states`] does.
    fn read(&self, packed: &Packed, forward: &mut Forward) -> Result<Tensor> {
        check_ids(packed.max_id(), self.config.vocab_size)?;
        forward.begin(self.parameters.device())?;
        self.states(&packed.ids()?, packed, None, forward)
    }

    /// States after the last layer, `[tokens, hidden_size]`: the residual stream, not normalised. With memories, one a layer, it goes on
    /// from there.
    fn states(&self, ids: &Tensor, packed: &Packed, mut memories: Option<&mut [Memory]>, forward: &Forward) -> Result<Tensor> {
        let mut states = self.embedding.forward(ids)?;
        if self.config.residual_in_fp32 {
            states = states.f_to_kind(Kind::Float)?;
        }
        forward.enter(packed, &states);
        for (number, layer) in self.layers.iter().enumerate() {
            let memory = memories.as_deref_mut().and_then(|memories| memories.get_mut(number));
            states = layer.forward(&states, packed, memory, forward)?;
            forward.leave(&states);
        }
        Ok(states)
    }

    /// Logits of states that are not normalised, f32.
    fn of_states(&self, states: &Tensor, forward: &Forward) -> Result<Tensor> {
        let states = self.norm.forward(states, self.embedding.kind())?;
        let logits = match &self.head {
            Some(head) => head.forward(&states, forward)?,
            None => self.embedding.scores(&states)?,
        };
        Ok(logits.f_to_kind(Kind::Float)?)
    }
}

impl Network for MambaForCausalLm {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// None: what it remembers does not grow.
    fn max_tokens(&self) -> Option<i64> {
        None
    }

    fn vocabulary(&self) -> i64 {
        self.config.vocab_size
    }

    fn save_pruned(&self, folder: &Path, values: Kind) -> Result<()> {
        let config = MambaConfig {
            architectures: vec!["MambaForCausalLM".into()],
            intermediate_size: Some(self.config.channels()),
            time_step_rank: Some(self.config.rank()),
            ..self.config.clone()
        };
        save(folder, &config, &self.parameters, values)
    }
}

impl Writer for MambaForCausalLm {
    fn form(&self) -> Form {
        Form::Causal
    }

    fn logits(&self, pairs: &Pairs, forward: &mut Forward) -> Result<Tensor> {
        if pairs.output.is_some() {
            return Err(NnError::Input("the batch is laid out for an encoder with a decoder, and this is a language model".into()));
        }
        let _guard = forward.guard();
        let states = self.read(&pairs.input, forward)?.f_index_select(0, &pairs.places()?)?;
        self.of_states(&states, forward)
    }

    fn start(&self, sources: &Packed, _most: i64) -> Result<Box<dyn Decoding + '_>> {
        check_ids(sources.max_id(), self.config.vocab_size)?;
        let _guard = tch::no_grad_guard();
        Ok(Box::new(MambaDecoding::new(self, sources)?))
    }

    fn flops(&self, source: i64, target: i64) -> f64 {
        self.config.flops(source, target)
    }
}

/// A norm and a mixer, with a residual around both.
#[derive(Debug)]
struct Layer {
    norm: RmsNorm,
    mixer: Mixer,
}

impl Layer {
    fn new(builder: &mut Builder<'_>, config: &MambaConfig, number: i64) -> Result<Self> {
        let prefix = format!("backbone.layers.{number}");
        let norm = RmsNorm::new(builder, &format!("{prefix}.norm"), config.hidden_size, config.layer_norm_epsilon)?;
        Ok(Self { norm, mixer: Mixer::new(builder, config, &format!("{prefix}.mixer"))? })
    }

    fn forward(&self, states: &Tensor, packed: &Packed, memory: Option<&mut Memory>, forward: &Forward) -> Result<Tensor> {
        Ok(states.f_add(&self.mixer.forward(&self.norm.forward(states, self.mixer.kind())?, packed, memory, forward)?)?)
    }
}
