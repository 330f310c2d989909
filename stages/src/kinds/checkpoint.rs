//! `checkpoint`: brings a model in.

use qapipe_engine::{Accepts, ArtifactType, Default, Invalid, OutputSpec, Param, Place, StageCx, StageError, StageKind, Ty, Values};

/// Brings a model in, or makes a new one.
pub struct Checkpoint;

/// The keys of `config`: those of Hugging Face's `config.json`, with its defaults.
const CONFIG: &[Param] = &[
    Param::with("model_type", Ty::Choice(&["bert"]), Default::Str("bert"), "Family of the model."),
    Param::with("hidden_size", Ty::Int { min: 1, max: 65_536 }, Default::Int(768), "Width of the states."),
    Param::with("num_hidden_layers", Ty::Int { min: 1, max: 1024 }, Default::Int(12), "Number of layers."),
    Param::with("num_attention_heads", Ty::Int { min: 1, max: 1024 }, Default::Int(12), "Attention heads; they divide hidden_size."),
    Param::with("intermediate_size", Ty::Int { min: 1, max: 262_144 }, Default::Int(3072), "Width within the feed-forward layers."),
    Param::with("max_position_embeddings", Ty::Int { min: 8, max: 131_072 }, Default::Int(512), "Longest window, in tokens."),
    Param::with("type_vocab_size", Ty::Int { min: 1, max: 16 }, Default::Int(2), "Number of segments."),
    Param::with("hidden_act", Ty::Choice(&["gelu", "gelu_new", "relu"]), Default::Str("gelu"), "Activation of the feed-forward layers."),
    Param::with("hidden_dropout_prob", Ty::Float { min: 0.0, max: 0.99 }, Default::Float(0.1), "Dropout of states in training."),
    Param::with(
        "attention_probs_dropout_prob",
        Ty::Float { min: 0.0, max: 0.99 },
        Default::Float(0.1),
        "Dropout of attention weights in training.",
    ),
    Param::with("layer_norm_eps", Ty::Float { min: 0.0, max: 1.0 }, Default::Float(1e-12), "Added to the variance in layer normalisation."),
    Param::with("initializer_range", Ty::Float { min: 0.0, max: 1.0 }, Default::Float(0.02), "Standard deviation of new weights."),
];

const PARAMS: &[Param] = &[
    Param::optional(
        "source",
        Ty::Path { hub: true },
        "A folder with config.json, model.safetensors and tokenizer.json or vocab.txt, or hub:REPO[@REVISION].",
    ),
    Param::optional(
        "config",
        Ty::Table(CONFIG),
        "Shape of a new model with random weights, instead of `source`; keys as in Hugging Face's config.json.",
    ),
    Param::optional(
        "vocabulary",
        Ty::Ref(Accepts { types: &[ArtifactType::EXAMPLES], part: &["train.arrow"] }),
        "With `config`: examples whose train part a WordPiece vocabulary is learnt from.",
    ),
    Param::with(
        "vocab_size",
        Ty::Int { min: 64, max: 1_000_000 },
        Default::Int(8000),
        "With `vocabulary`: most pieces, special ones included.",
    ),
    Param::optional(
        "tokenizer",
        Ty::Path { hub: false },
        "With `config`: tokenizer.json, vocab.txt, or a folder with one of them, instead of `vocabulary`.",
    ),
];

impl StageKind for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Brings a model's weights, configuration and tokenizer in, or makes a new model with random weights.\n\n\
         With `source`, from the Hugging Face hub or a local folder. Weights are read from safetensors only; a pickle can run code \
         when it is read and is refused. Without tokenizer.json one is made from vocab.txt. With `config`, the model is new: its \
         weights follow from the seed, its vocabulary from `vocabulary` or `tokenizer`. HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and \
         HF_TOKEN are honoured."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("model", ArtifactType::MODEL)]
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        match (values.has("source"), values.has("config")) {
            (true, true) => {
                return Err(
                    Invalid::new("config", "`source` and `config` exclude each other").help("a model from `source` brings its own shape")
                );
            }
            (false, false) => {
                return Err(Invalid::new("", "neither `source` nor `config` is given")
                    .help("write `source = \"hub:google-bert/bert-base-uncased\"`, or a `config` table"));
            }
            _ => {}
        }
        let words = (values.has("vocabulary"), values.has("tokenizer"));
        if values.has("source") && (words.0 || words.1) {
            let param = if words.0 { "vocabulary" } else { "tokenizer" };
            return Err(Invalid::new(param, format!("`{param}` goes with `config`, not with `source`"))
                .help("a model from `source` brings its own tokenizer"));
        }
        if values.has("config") && words.0 == words.1 {
            let message =
                if words.0 { "`vocabulary` and `tokenizer` exclude each other" } else { "a new model needs `vocabulary` or `tokenizer`" };
            return Err(Invalid::new("config", message).help("write `vocabulary = \"@dataset\"` to learn one from a data set"));
        }
        let number = |name: &str| values.get(&format!("config.{name}")).and_then(serde_json::Value::as_i64);
        match (number("hidden_size"), number("num_attention_heads")) {
            (Some(width), Some(heads)) if heads > 0 && width % heads != 0 => {
                Err(Invalid::new("config.num_attention_heads", format!("{heads} heads do not divide a hidden_size of {width}")))
            }
            _ => Ok(()),
        }
    }

    fn seeded(&self) -> bool {
        true
    }

    fn place(&self) -> Place {
        Place::Worker
    }

    fn run(&self, _cx: &StageCx<'_>) -> Result<(), StageError> {
        Err(StageError::bug("checkpoint runs in a worker"))
    }
}
