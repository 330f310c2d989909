//! Which files of a model there are, in a folder or on the hub.

use std::path::Path;

use qapipe_engine::StageError;
use qapipe_nn::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
use qapipe_stages::tokenizer::{PIECES, TOKENIZER, VOCABULARY};

use super::{CONFIG, INDEX, WEIGHTS};
use crate::error::Error;

/// Weights in formats that can run code when they are read.
const PICKLES: &[&str] = &["bin", "pt", "pth", "ckpt", "pkl", "pickle"];

/// Names of the files in a folder, sorted. `name` is what the user called it.
///
/// # Errors
/// Where there is no such folder.
pub fn list(folder: &Path, name: &str) -> Result<Vec<String>, Error> {
    if !folder.is_dir() {
        return Err(Error::failed(format!("{name}: is no folder")));
    }
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Checks that files make a model: configuration, weights as safetensors in one file or several with an index, a tokenizer.
///
/// # Errors
/// Where one is missing, or the weights are pickled: reading those can run code, so they are refused.
pub fn check(files: &[String], name: &str) -> Result<(), Error> {
    let has = |wanted: &str| files.iter().any(|file| file == wanted);
    if has(ADAPTER_CONFIG) {
        let error = StageError::failed(format!("{name}: holds adapters, not a model"));
        return Err(Error::Stage(error.help("name the model that they belong to: `base = \"@…\"`")));
    }
    if !has(WEIGHTS) && !has(INDEX) {
        return Err(without_weights(files, name));
    }
    if !has(CONFIG) {
        return Err(Error::failed(format!("{name}: holds no {CONFIG}")));
    }
    if ![TOKENIZER, VOCABULARY, PIECES].into_iter().any(has) {
        return Err(Error::failed(format!("{name}: holds no {TOKENIZER}, no {VOCABULARY} and no {PIECES}")));
    }
    Ok(())
}

/// Checks that files make adapters as PEFT writes them.
///
/// # Errors
/// Where one is missing, or the weights are pickled.
pub fn check_adapter(files: &[String], name: &str) -> Result<(), Error> {
    let has = |wanted: &str| files.iter().any(|file| file == wanted);
    if !has(ADAPTER_CONFIG) {
        let error = StageError::failed(format!("{name}: holds no {ADAPTER_CONFIG}"));
        return Err(Error::Stage(error.help("`base` is for adapters; a whole model needs none")));
    }
    if has(ADAPTER_WEIGHTS) { Ok(()) } else { Err(without_weights(files, name)) }
}

/// The error for a model without safetensors: which other weights it has, and what to do about them.
fn without_weights(files: &[String], name: &str) -> Error {
    let pickled =
        |file: &&String| Path::new(file).extension().is_some_and(|end| PICKLES.iter().any(|pickle| end.eq_ignore_ascii_case(pickle)));
    if let Some(pickle) = files.iter().find(pickled) {
        let message = format!("{name}: {pickle} is a pickle, which can run code when it is read: refused");
        return Error::Stage(
            StageError::failed(message).help("convert it to model.safetensors where you trust it, or take a revision that has one"),
        );
    }
    Error::failed(format!("{name}: holds no {WEIGHTS} and no {INDEX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(files: &[&str]) -> Result<(), String> {
        let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
        check(&files, "hub:x/y").map_err(|e| e.to_string())
    }

    #[test]
    fn a_model_is_config_weights_and_tokenizer() {
        assert_eq!(checked(&["config.json", "model.safetensors", "vocab.txt", "pytorch_model.bin"]), Ok(()));
        assert_eq!(checked(&["model.safetensors", "vocab.txt"]), Err("hub:x/y: holds no config.json".into()));
        assert_eq!(
            checked(&["config.json", "model.safetensors"]),
            Err("hub:x/y: holds no tokenizer.json, no vocab.txt and no spiece.model".into())
        );
        assert_eq!(
            checked(&["config.json", "vocab.txt"]),
            Err("hub:x/y: holds no model.safetensors and no model.safetensors.index.json".into())
        );
    }

    #[test]
    fn pickles_are_refused_by_name() {
        for file in ["pytorch_model.bin", "model.pt", "weights.CKPT"] {
            let error = checked(&["config.json", file, "vocab.txt"]);
            assert!(error.is_err_and(|text| text.contains(file) && text.contains("refused")));
        }
        assert_eq!(checked(&["config.json", "model-1-of-1.safetensors", "model.safetensors.index.json", "a.bin", "vocab.txt"]), Ok(()));
    }
}
