//! Models on disk in the Hugging Face layout: finding their files, checking that these belong together.

mod listing;
mod trained;
pub mod words;

use std::path::Path;

use qapipe_engine::StageError;
use qapipe_nn::models::{BASE, Stored};
use qapipe_nn::weights::Index;
use qapipe_nn::{ADAPTER_WEIGHTS, AnyModel, Network, NnError};
use qapipe_stages::features::{Info, InfoForm};
use qapipe_stages::form::Form;
use qapipe_stages::tokenizer::{self, TOKENIZER_FILES, TextTokenizer};
use serde_json::{Map, Value};
use tch::Tensor;

use crate::error::Error;
use crate::inference::Manner;

pub use listing::{check, check_adapter, list};
pub use trained::Trained;

/// The configuration.
pub const CONFIG: &str = "config.json";
/// The weights.
pub const WEIGHTS: &str = "model.safetensors";
/// The index of weights in several files, where they are not in one.
pub const INDEX: &str = Index::FILE;

/// Copies a file: shared blocks where the file system can, bytes elsewhere. The copy is writable, whatever the original was.
///
/// # Errors
/// What the file system says.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut source = std::fs::File::open(from).map_err(Error::io(from))?;
    let mut target = std::fs::File::create_new(to).map_err(Error::io(to))?;
    std::io::copy(&mut source, &mut target).map_err(Error::io(to))?;
    Ok(())
}

/// Copies the files of a model's tokenizer into another model's folder.
///
/// # Errors
/// What the file system says.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), Error> {
    let mut there = TOKENIZER_FILES.iter().filter(|name| from.join(name).is_file());
    there.try_for_each(|name| copy(&from.join(name), &to.join(name)))
}

/// Copies a model's configuration, weights, in one file or several, and tokenizer.
///
/// # Errors
/// What the file system says.
pub fn copy_model(from: &Path, to: &Path) -> Result<(), Error> {
    copy(&from.join(CONFIG), &to.join(CONFIG))?;
    let mut files: Vec<String> = if from.join(WEIGHTS).exists() { vec![WEIGHTS.to_owned()] } else { Vec::new() };
    if files.is_empty() {
        files.push(INDEX.to_owned());
        files.extend(index(from)?.files().map(str::to_owned));
    }
    files.iter().try_for_each(|file| copy(&from.join(file), &to.join(file)))?;
    copy_tokenizer(from, to)
}

/// Writes a model's folder: tensors as they are, the configuration and the tokenizer of the model that it is made from, the configuration
/// changed, and what a training left.
///
/// # Errors
/// What the file system says.
pub fn write_model(
    from: &Path,
    output: &Path,
    tensors: Vec<(String, Tensor)>,
    change: impl FnOnce(&mut Map<String, Value>),
    trained: &Trained,
) -> Result<(), Error> {
    std::fs::create_dir(output).map_err(Error::io(output))?;
    qapipe_nn::weights::write(&output.join(WEIGHTS), tensors, &[])?;
    write_config(&Stored::base(from), output, change)?;
    copy_tokenizer(from, output)?;
    trained.write(output)
}

/// Puts the model that adapters belong to beside them, and what says whose tokenizer they are used with.
///
/// # Errors
/// What the file system says.
pub fn put_base(base: &Path, output: &Path) -> Result<(), Error> {
    let inner = output.join(BASE);
    std::fs::create_dir(&inner).map_err(Error::io(&inner))?;
    copy_model(base, &inner)?;
    copy(&base.join(CONFIG), &output.join(CONFIG))?;
    copy_tokenizer(base, output)
}

/// Writes a model's configuration, changed.
///
/// # Errors
/// Where it is no JSON object, and what the file system says.
pub fn write_config(from: &Path, to: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), Error> {
    let path = from.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let mut config: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| Error::failed(format!("{}: {error}", path.display())))?;
    change(&mut config);
    let path = to.join(CONFIG);
    let text = serde_json::to_string_pretty(&config).map_err(|error| Error::failed(error.to_string()))?;
    std::fs::write(&path, text + "\n").map_err(Error::io(&path))
}

/// Checks that a model can read features: they are of its tokenizer, their ids have rows in its embedding, and the longest is not too
/// long.
///
/// # Errors
/// With both figures, where it cannot.
pub fn check_features(model: &dyn Network, folder: &Path, info: &Info, longest: usize) -> Result<(), Error> {
    let (needed, rows) = (i64::from(info.vocab_size), model.vocabulary());
    if needed > rows {
        let message =
            format!("the vocabulary does not fit the model: the features' tokenizer needs {needed} rows, the embedding has {rows}");
        return Err(Error::Stage(StageError::failed(message).help("tokenize with the tokenizer of this very model")));
    }
    if tokenizer::digest(&tokenizer::load(folder)?)? != info.tokenizer {
        let message = "the windows were cut by another tokenizer than the model's";
        return Err(Error::Stage(StageError::failed(message).help("tokenize with the tokenizer of this very model")));
    }
    let longest = i64::try_from(longest).unwrap_or(i64::MAX);
    match model.max_tokens() {
        Some(most) if longest > most => {
            let message = format!("the longest window has {longest} tokens, the model takes at most {most}");
            Err(Error::Stage(StageError::failed(message).help(format!("set max_length = {most} or less in the tokenize stage"))))
        }
        _ => Ok(()),
    }
}

/// The tokenizer of a model that writes, as its texts were made with it.
///
/// # Errors
/// Where it is missing or broken, or the features are windows.
pub fn text_tokenizer(folder: &Path, info: &Info) -> Result<TextTokenizer, Error> {
    match &info.form {
        InfoForm::Texts { form, .. } if Form::of(folder)? != *form => {
            let (made, model) = if *form == Form::Causal {
                ("a language model", "an encoder with a decoder")
            } else {
                ("an encoder with a decoder", "a language model")
            };
            let message = format!("the features are texts for {made}, and the model is {model}");
            Err(Error::Stage(StageError::failed(message).help("tokenize with this very model")))
        }
        InfoForm::Texts { form, .. } => Ok(TextTokenizer::open(folder, *form)?),
        InfoForm::Spans { .. } => Err(Error::failed("the features are windows to point into, not texts")),
    }
}

/// How a model writes answers of at most `most` tokens to texts.
///
/// # Errors
/// What the tokenizer reports.
pub fn manner<'a>(tokenizer: &'a TextTokenizer, info: &Info, most: usize, null_threshold: f64) -> Result<Manner<'a>, Error> {
    // A language model goes on after its answer; a line is an answer.
    let stops = if tokenizer.form() == Form::Causal { vec!["\n".to_owned()] } else { Vec::new() };
    let (no_answer, no_answer_text) = match &info.form {
        InfoForm::Texts { no_answer, no_answer_text, .. } => (without_end(no_answer), no_answer_text.clone()),
        InfoForm::Spans { .. } => (Vec::new(), String::new()),
    };
    Ok(Manner { tokenizer, most, ends: tokenizer.ends(&stops)?, stops, no_answer, no_answer_text, null_threshold })
}

/// A target without the token that ends it.
pub fn without_end(target: &[u32]) -> Vec<u32> {
    target.split_last().map_or_else(Vec::new, |(_, before)| before.to_vec())
}

/// The error for features that are of another form than a model.
#[must_use]
pub fn other_form(model: &AnyModel) -> StageError {
    let message = match model {
        AnyModel::Reader(_) => "the features are texts to answer, and the model points at answers in windows",
        AnyModel::Writer(_) => "the features are windows to point into, and the model writes answers to texts",
    };
    StageError::failed(message).help("tokenize with this very model")
}

/// Bytes of a model's weights on disk: of their one file, or of those that their index names; of an adapter with those of its model.
///
/// # Errors
/// What the file system says, or where the index is broken.
pub fn weight_bytes(folder: &Path) -> Result<u64, Error> {
    if Stored::is_adapter(folder) {
        let adapter = folder.join(ADAPTER_WEIGHTS);
        let bytes = std::fs::metadata(&adapter).map_err(Error::io(&adapter))?.len();
        return Ok(bytes + weight_bytes(&Stored::base(folder))?);
    }
    let bytes = |file: &str| -> Result<u64, Error> {
        let path = folder.join(file);
        Ok(std::fs::metadata(&path).map_err(Error::io(&path))?.len())
    };
    if folder.join(WEIGHTS).exists() || !folder.join(INDEX).exists() {
        return bytes(WEIGHTS);
    }
    index(folder)?.files().map(bytes).sum()
}

/// The index of a folder whose weights are in several files.
///
/// # Errors
/// Where it is missing or broken.
pub fn index(folder: &Path) -> Result<Index, Error> {
    Ok(Index::open(&folder.join(INDEX)).map_err(NnError::from)?)
}
