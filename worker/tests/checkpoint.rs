//! Bringing models in: what is taken, what is made, what is refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::path::Path;

use common::{Lab, tiny};
use qapipe_engine::StageError;

const SMALL: &str = "limit_train = 48\nlimit_dev = 12";

/// A lab with a base model, and a folder `given` with a writable copy of its files.
fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.run(&tiny("", SMALL)).unwrap();
    let given = lab.folder.path().join("given");
    std::fs::create_dir(&given).unwrap();
    for entry in std::fs::read_dir(lab.path("base.model")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), given.join(entry.file_name())).unwrap();
    }
    lab
}

fn bring(lab: &mut Lab, name: &str) -> Result<(), StageError> {
    lab.run(&format!("[stages.{name}]\nkind = \"checkpoint\"\nsource = \"given\"\n"))
}

fn refused(lab: &mut Lab) -> String {
    bring(lab, "refused").unwrap_err().message
}

fn given(lab: &Lab, file: &str) -> std::path::PathBuf {
    lab.folder.path().join("given").join(file)
}

#[test]
fn a_folder_is_taken_byte_for_byte() {
    let mut lab = lab();
    bring(&mut lab, "brought").unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert_eq!(lab.bytes("brought.model", file), lab.bytes("base.model", file), "{file}");
    }
    std::fs::write(given(&lab, "config.json"), "{}").unwrap();
    assert_eq!(lab.bytes("brought.model", "config.json"), lab.bytes("base.model", "config.json"), "a copy, not a link");
}

#[test]
fn a_vocabulary_makes_the_same_tokenizer() {
    let mut lab = lab();
    let tokenizer: tokenizers::Tokenizer = std::fs::read_to_string(given(&lab, "tokenizer.json")).unwrap().parse().unwrap();
    let mut pieces: Vec<(String, u32)> = tokenizer.get_vocab(true).into_iter().collect();
    pieces.sort_by_key(|(_, id)| *id);
    let lines: Vec<String> = pieces.into_iter().map(|(piece, _)| piece).collect();
    std::fs::write(given(&lab, "vocab.txt"), lines.join("\n")).unwrap();
    std::fs::remove_file(given(&lab, "tokenizer.json")).unwrap();
    bring(&mut lab, "brought").unwrap();
    assert_eq!(lab.bytes("brought.model", "tokenizer.json"), lab.bytes("base.model", "tokenizer.json"));
}

#[test]
fn pickles_are_refused_under_either_name() {
    let mut lab = lab();
    std::fs::rename(given(&lab, "model.safetensors"), given(&lab, "pytorch_model.bin")).unwrap();
    assert!(refused(&mut lab).contains("pytorch_model.bin is a pickle"));
    std::fs::write(given(&lab, "model.safetensors"), b"PK\x03\x04 archive/data.pkl").unwrap();
    assert!(refused(&mut lab).contains("pickle"));
}

#[test]
fn weights_that_are_damaged_or_lie_are_refused() {
    let mut lab = lab();
    let path = given(&lab, "model.safetensors");
    let sound = std::fs::read(&path).unwrap();
    std::fs::write(&path, &sound[..sound.len() - 100]).unwrap();
    assert!(refused(&mut lab).contains("truncated"));
    let mut huge = sound.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&path, huge).unwrap();
    assert!(refused(&mut lab).contains("header"));
    std::fs::write(&path, b"").unwrap();
    assert!(refused(&mut lab).contains("not a safetensors file"));
}

#[test]
fn weights_must_fit_the_configuration_and_the_vocabulary_the_embedding() {
    let mut lab = lab();
    let config = std::fs::read_to_string(given(&lab, "config.json")).unwrap();
    edit(&given(&lab, "config.json"), &config, "\"intermediate_size\": 128", "\"intermediate_size\": 256");
    let message = refused(&mut lab);
    assert!(message.contains("do not fit") && message.contains("intermediate.dense.weight"), "{message}");
    edit(&given(&lab, "config.json"), &config, "\"model_type\": \"bert\"", "\"model_type\": \"llama\"");
    assert!(refused(&mut lab).contains("llama"));
    std::fs::write(given(&lab, "config.json"), &config).unwrap();
    let tokenizer = std::fs::read_to_string(given(&lab, "tokenizer.json")).unwrap();
    edit(&given(&lab, "tokenizer.json"), &tokenizer, "\"[MASK]\": 4", "\"[MASK]\": 4, \"zzzz\": 99999");
    let message = refused(&mut lab);
    assert!(message.contains("the vocabulary does not fit the model"), "{message}");
}

fn edit(path: &Path, text: &str, from: &str, to: &str) {
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn missing_files_are_named() {
    let mut lab = lab();
    std::fs::remove_file(given(&lab, "tokenizer.json")).unwrap();
    assert!(refused(&mut lab).contains("holds no tokenizer.json, no vocab.txt and no spiece.model"));
    std::fs::remove_file(given(&lab, "config.json")).unwrap();
    assert!(refused(&mut lab).contains("holds no config.json"));
}

#[test]
fn the_real_minilm_comes_in_without_a_head() {
    let shared = std::env::var("QAPIPE_SHARED").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").to_owned());
    let model = Path::new(&shared).join("models/minilm-l6");
    if !model.exists() {
        eprintln!("skipped: {} is not there", model.display());
        return;
    }
    let mut lab = Lab::new();
    lab.run(&format!("[stages.minilm]\nkind = \"checkpoint\"\nsource = {:?}\n", model.display().to_string())).unwrap();
    let log = lab.ear.log.lock().unwrap().join("\n");
    assert!(log.contains("vocabulary of 30522") && log.contains("qa_outputs.weight"), "{log}");
    let mode = std::fs::metadata(lab.path("minilm.model").join("model.safetensors")).unwrap().permissions();
    assert!(!mode.readonly());
}
