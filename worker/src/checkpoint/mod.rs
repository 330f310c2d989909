//! Models on disk in the Hugging Face layout: finding their files, checking that these belong together.

mod listing;
mod trained;

use std::path::Path;

use qapipe_engine::StageError;
use qapipe_nn::Network;
use qapipe_stages::features::{Features, Info};
use qapipe_stages::tokenizer::{self, TOKENIZER_FILES};

use crate::error::Error;

pub use listing::{check, list};
pub use trained::Trained;

/// The configuration.
pub const CONFIG: &str = "config.json";
/// The weights.
pub const WEIGHTS: &str = "model.safetensors";

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

/// Checks that a model can read windows: they are of its tokenizer, their ids have rows in its embedding, and the longest is not too
/// long.
///
/// # Errors
/// With both figures, where it cannot.
pub fn check_features(model: &dyn Network, folder: &Path, info: &Info, features: &Features) -> Result<(), Error> {
    let (needed, rows) = (i64::from(info.vocab_size), model.vocabulary());
    if needed > rows {
        let message =
            format!("the vocabulary does not fit the model: the windows' tokenizer needs {needed} rows, the embedding has {rows}");
        return Err(Error::Stage(StageError::failed(message).help("tokenize with the tokenizer of this very model")));
    }
    if tokenizer::digest(&tokenizer::load(folder)?)? != info.tokenizer {
        let message = "the windows were cut by another tokenizer than the model's";
        return Err(Error::Stage(StageError::failed(message).help("tokenize with the tokenizer of this very model")));
    }
    let longest = i64::try_from(features.longest()).unwrap_or(i64::MAX);
    match model.max_tokens() {
        Some(most) if longest > most => {
            let message = format!("the longest window has {longest} tokens, the model takes at most {most}");
            Err(Error::Stage(StageError::failed(message).help(format!("set max_length = {most} or less in the tokenize stage"))))
        }
        _ => Ok(()),
    }
}
