//! `checkpoint`: brings a model in, or makes a new one.

use std::path::{Path, PathBuf};

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, LstmConfig, Placement, device, models};
use qapipe_stages::examples::{Examples, Part};
use qapipe_stages::hub::{Hub, Sort};
use qapipe_stages::tokenizer::{self, Casing, PIECES, SETTINGS, TOKENIZER, VOCABULARY};
use serde::Deserialize;
use serde_json::{Map, Value};
use tch::Device;
use tokenizers::Tokenizer;

use crate::checkpoint::words::{self, Source, Words};
use crate::checkpoint::{self, CONFIG, WEIGHTS, copy};
use crate::error::Error;

/// The parameters, as `qapipe_stages` declares them.
#[derive(Deserialize)]
struct Wanted {
    source: Option<String>,
    config: Option<Map<String, Value>>,
    vocab_size: usize,
    #[serde(default = "yes")]
    lower_case: bool,
    vectors: Option<String>,
    #[serde(default)]
    vector_words: usize,
}

fn yes() -> bool {
    true
}

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    device::set_threads(cx.request.threads);
    let output = cx.output("model")?;
    std::fs::create_dir(output).map_err(Error::io(output))?;
    match (&wanted.source, &wanted.config) {
        (Some(source), _) if cx.maybe_input("base").is_some() => bring_adapter(cx, source, output)?,
        (Some(source), _) => bring(cx, source, output)?,
        (None, Some(config)) => make(cx, config.clone(), &wanted, output)?,
        (None, None) => return Err(StageError::bug("neither source nor config is given")),
    }
    Ok(())
}

/// The files of a model that are taken, beside its weights. The configuration comes first: a model that is not known is refused before
/// gigabytes of it come.
const FILES: [&str; 5] = [CONFIG, TOKENIZER, SETTINGS, VOCABULARY, PIECES];

/// Brings a model in from the hub or a folder, and checks that its files belong together.
fn bring(cx: &StageCx<'_>, source: &str, output: &Path) -> Result<(), Error> {
    match cx.maybe_input("source") {
        Some(folder) => take(cx, source, &checkpoint::list(folder, source)?, output, |name| Ok(folder.join(name)))?,
        None => {
            let repository = Hub::from_env(cx.request.offline)?.repository(Sort::Model, source)?;
            cx.reporter.log(&format!("{source}: commit {}", repository.commit().unwrap_or("unknown")));
            take(cx, source, repository.files(), output, |name| Ok(repository.get(name, cx.reporter)?))?;
        }
    }
    let tokenizer = tokenizer::load(output)?;
    if !output.join(TOKENIZER).exists() {
        save(&tokenizer, output)?;
    }
    let (model, report) = models::load(output, &Placement::inference(Device::Cpu), cx.request.seed)?;
    tokenizer::check_size(&tokenizer, usize::try_from(model.network().vocabulary()).unwrap_or(0), source)?;
    cx.reporter.log(&format!("{source}: {} parameters, vocabulary of {}", model.network().parameters().count(), size(&tokenizer)));
    tell("not in the file, drawn when it is trained", &report.initialised, cx);
    tell("in the file, not used", &report.unused, cx);
    Ok(())
}

/// Brings adapters in from the hub or a folder, and puts the model beside them that they belong to.
fn bring_adapter(cx: &StageCx<'_>, source: &str, output: &Path) -> Result<(), Error> {
    let both = |find: &dyn Fn(&str) -> Result<PathBuf, Error>| {
        let files = [ADAPTER_CONFIG, ADAPTER_WEIGHTS];
        files.into_iter().try_for_each(|name| copy(&find(name)?, &output.join(name)))
    };
    match cx.maybe_input("source") {
        Some(folder) => {
            checkpoint::check_adapter(&checkpoint::list(folder, source)?, source)?;
            both(&|name| Ok(folder.join(name)))?;
        }
        None => {
            let repository = Hub::from_env(cx.request.offline)?.repository(Sort::Model, source)?;
            cx.reporter.log(&format!("{source}: commit {}", repository.commit().unwrap_or("unknown")));
            checkpoint::check_adapter(repository.files(), source)?;
            both(&|name| Ok(repository.get(name, cx.reporter)?))?;
        }
    }
    checkpoint::put_base(cx.input("base")?, output)?;
    let (model, _) = models::load(output, &Placement::inference(Device::Cpu), cx.request.seed)?;
    cx.reporter.log(&format!("{source}: adapters beside {} parameters in all", model.network().parameters().count()));
    Ok(())
}

/// Copies a model's files, each from where `find` says that it lies.
///
/// Weights in several files stay several, with their index: so they are byte for byte what was published, and nothing is rewritten.
fn take(
    cx: &StageCx<'_>,
    source: &str,
    there: &[String],
    output: &Path,
    find: impl Fn(&str) -> Result<PathBuf, Error>,
) -> Result<(), Error> {
    checkpoint::check(there, source)?;
    let has = |name: &str| there.iter().any(|file| file == name);
    let bring = |name: &str| -> Result<(), Error> {
        cx.checkpoint()?;
        copy(&find(name)?, &output.join(name))
    };
    for name in FILES.into_iter().filter(|name| has(name)) {
        bring(name)?;
        if name == CONFIG {
            check_family(source, &output.join(CONFIG))?;
        }
    }
    if has(WEIGHTS) {
        return bring(WEIGHTS);
    }
    bring(checkpoint::INDEX)?;
    let index = checkpoint::index(output)?;
    if let Some(file) = index.files().find(|file| !has(file)) {
        let message = format!("{source}: {} names {file}, which is not there", checkpoint::INDEX);
        return Err(Error::Stage(StageError::failed(message).help("all files of the weights belong together: fetch this one as well")));
    }
    index.files().try_for_each(bring)
}

/// Checks that a configuration is one of a family that is known.
fn check_family(source: &str, config: &Path) -> Result<(), Error> {
    let text = std::fs::read_to_string(config).map_err(Error::io(config))?;
    let checked = models::family(&text).and_then(|family| (family.check)(&text));
    checked.map_err(|error| {
        let error = StageError::failed(format!("{source}: {error}"));
        Error::Stage(error.help("the model's architecture decides: take a checkpoint of a family that is known"))
    })
}

/// Makes a new model with random weights.
fn make(cx: &StageCx<'_>, mut config: Map<String, Value>, wanted: &Wanted, output: &Path) -> Result<(), Error> {
    let train = match cx.maybe_input("vocabulary") {
        Some(folder) => Examples::open_part(folder, Part::Train)?,
        None => None,
    };
    let vectors = vectors_of(cx, &config, wanted);
    let tokenizer = tokenizer_of(cx, &config, train.as_ref(), vectors, wanted)?;
    save(&tokenizer, output)?;
    config.insert("vocab_size".into(), size(&tokenizer).into());
    for (key, names) in [("pad_token_id", PADS), ("eos_token_id", ENDS)] {
        if let Some(id) = names.iter().find_map(|name| tokenizer.token_to_id(name)) {
            config.insert(key.into(), id.into());
        }
    }
    let is_lstm = family(&config) == LSTM;
    let config = Value::Object(config).to_string();
    let mut model = models::init(&config, &Placement::inference(Device::Cpu), cx.request.seed)?;
    if is_lstm {
        let counted = train.as_ref().map(|examples| (examples, wanted.lower_case));
        let config = LstmConfig::parse(&config)?;
        words::furnish(model.network_mut().parameters_mut(), &config, &tokenizer, vectors, counted, cx)?;
    }
    cx.reporter.log(&format!("new model: {} parameters, vocabulary of {}", model.network().parameters().count(), size(&tokenizer)));
    Ok(model.network().save(output)?)
}

/// The tokenizer of a new model: the one that is given, or one that is learnt.
fn tokenizer_of(
    cx: &StageCx<'_>,
    config: &Map<String, Value>,
    train: Option<&Examples>,
    vectors: Option<Source<'_>>,
    wanted: &Wanted,
) -> Result<Tokenizer, Error> {
    match cx.maybe_input("tokenizer") {
        Some(given) if given.is_dir() => return Ok(tokenizer::load(given)?),
        Some(given) => return Ok(tokenizer::load_file(given, Casing::default())?),
        None => {}
    }
    let train = train.ok_or_else(|| Error::failed("vocabulary: the data set has no train part to learn from"))?;
    if family(config) != LSTM {
        return learnt(train, family(config), wanted.vocab_size);
    }
    let cover = match cx.maybe_input("cover") {
        Some(folder) => Examples::open_part(folder, Part::Dev)?,
        None => None,
    };
    let Wanted { vocab_size: size, lower_case, vector_words: of_vectors, .. } = *wanted;
    Words { train, cover: cover.as_ref(), size, lower_case, vectors, of_vectors }.tokenizer(cx)
}

/// Where a new LSTM's vectors come from, where it has any.
fn vectors_of<'a>(cx: &'a StageCx<'_>, config: &Map<String, Value>, wanted: &Wanted) -> Option<Source<'a>> {
    let width = config.get("word_size").and_then(Value::as_u64).and_then(|width| usize::try_from(width).ok());
    let sample = || wanted.vectors.as_ref().map(|_| Source::Sample(width.unwrap_or(WORD_SIZE)));
    cx.maybe_input("vectors").map(Source::File).or_else(sample)
}

/// Width of a word's vector where the configuration does not say it.
const WORD_SIZE: usize = 100;

/// The family that a configuration names.
fn family(config: &Map<String, Value>) -> &str {
    config.get("model_type").and_then(Value::as_str).unwrap_or_default()
}

/// The family whose vocabulary is of whole words.
const LSTM: &str = "lstm";

/// Names of the piece that pads, and of the one that ends a text.
const PADS: &[&str] = &["[PAD]", "<pad>", "<|padding|>"];
const ENDS: &[&str] = &["</s>", "<|endoftext|>"];

/// A vocabulary learnt from a data set, as a family's models have it.
fn learnt(examples: &Examples, family: &str, size: usize) -> Result<Tokenizer, Error> {
    Ok(match family {
        "t5" => tokenizer::learn_bytes(examples, size, &["<pad>", "</s>", "<unk>"], Some("</s>"))?,
        "mamba" => tokenizer::learn_bytes(examples, size, &["<|endoftext|>", "<|padding|>"], None)?,
        _ => tokenizer::learn(examples, size)?,
    })
}

/// Rows that an embedding needs for a tokenizer: its largest id and one.
fn size(tokenizer: &Tokenizer) -> u32 {
    tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id.saturating_add(1))
}

/// Writes `tokenizer.json`.
fn save(tokenizer: &Tokenizer, folder: &Path) -> Result<(), Error> {
    let file = folder.join(TOKENIZER);
    let text = tokenizer.to_string(true).map_err(|e| Error::failed(format!("{}: {e}", file.display())))?;
    std::fs::write(&file, text).map_err(Error::io(&file))
}

/// Logs some tensors' names.
fn tell(what: &str, names: &[String], cx: &StageCx<'_>) {
    if !names.is_empty() {
        cx.reporter.log(&format!("{what}: {}", names.join(", ")));
    }
}
