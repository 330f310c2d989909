//! `checkpoint`: brings a model in.

mod config;

use config::CONFIG;
use qapipe_engine::{Accepts, ArtifactType, Default, Invalid, Lineage, OutputSpec, Param, Place, StageKind, Ty, Values};

use super::choice::A_MODEL;
use super::weights;
/// Brings a model in, or makes a new one.
pub struct Checkpoint;

const PARAMS: &[Param] = &[
    Param::optional(
        "source",
        Ty::Path { hub: true },
        "A folder with config.json, model.safetensors (or its index and parts) and tokenizer.json, vocab.txt or spiece.model, or hub:REPO[@REVISION].",
    ),
    Param::optional(
        "config",
        Ty::Table(CONFIG),
        "Shape of a new model with random weights, instead of `source`; keys as in Hugging Face's config.json.",
    ),
    Param::optional(
        "vocabulary",
        Ty::Ref(Accepts { types: &[ArtifactType::EXAMPLES], part: &["train.arrow"] }),
        "With `config`: examples whose train part a vocabulary is learnt from: WordPiece for bert, whole words for lstm, byte-level BPE for t5 and mamba.",
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
        "With `config`: tokenizer.json, vocab.txt, or a folder with a tokenizer, instead of `vocabulary`.",
    ),
    Param::optional(
        "vectors",
        Ty::OneOf(&[Ty::Choice(&["sample"]), Ty::Path { hub: false }]),
        "For a new lstm: word vectors, GloVe text or fastText .vec, plain or gzipped, or fastText .bin; words that have none begin at random. \
         sample: vectors without a meaning, to try a pipeline out.",
    ),
    Param::optional(
        "cover",
        Ty::Ref(Accepts { types: &[ArtifactType::EXAMPLES], part: &["dev.arrow"] }),
        "With `vectors`: examples of whose dev part the words join the vocabulary where they have vectors, as if all of the file were kept.",
    ),
    Param::optional(
        "vector_words",
        Ty::Int { min: 1, max: 10_000_000 },
        "With a file of `vectors`: how many of its first words join the vocabulary, whether the data set has them or not; for a model that is to \
         answer about other texts.",
    ),
    Param::optional(
        "base",
        A_MODEL,
        "Where `source` holds adapters as PEFT writes them (adapter_config.json, adapter_model.safetensors): the model that they belong to.",
    ),
    Param::optional("lower_case", Ty::Bool, "For the vocabulary of a new lstm: whether words become lower case; true."),
];

/// What only a vocabulary of whole words has.
fn whole_words(values: &Values) -> Result<(), Invalid> {
    let lstm = values.text("config.model_type") == Some("lstm");
    if let Some(param) = ["vectors", "cover", "vector_words", "lower_case"].into_iter().find(|param| values.has(param) && !lstm) {
        return Err(Invalid::new(param, format!("`{param}` is for a new lstm alone")).help("write `config = { model_type = \"lstm\" }`"));
    }
    let lacking = [
        ("cover", "vectors"),
        ("cover", "vocabulary"),
        ("vector_words", "vectors"),
        ("vector_words", "vocabulary"),
        ("lower_case", "vocabulary"),
    ];
    match lacking.into_iter().find(|(param, needed)| values.has(param) && !values.has(needed)) {
        Some((param, needed)) => Err(Invalid::new(param, format!("`{param}` goes with `{needed}`"))),
        None => Ok(()),
    }
}

impl StageKind for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Brings a model's weights, configuration and tokenizer in, or makes a new model with random weights.\n\n\
         With `source`, from the Hugging Face hub or a local folder. Weights are read from safetensors only, f32, f16 or bf16, in one \
         file or in several with model.safetensors.index.json; a pickle can run code when it is read and is refused. Without tokenizer.json one is made from vocab.txt or spiece.model. With `config`, the model is new: its \
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
        if values.has("base") && !values.has("source") {
            return Err(Invalid::new("base", "`base` goes with a `source` of adapters"));
        }
        whole_words(values)?;
        config::check(values)
    }

    fn check_inputs(&self, stage: Lineage<'_>) -> Result<(), Invalid> {
        weights::unadapted(stage, "base")
    }

    fn seeded(&self) -> bool {
        true
    }

    fn place(&self) -> Place {
        Place::Worker
    }
}
