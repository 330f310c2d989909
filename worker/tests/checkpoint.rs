//! Bringing models in: what is taken, what is made, what is refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;
#[path = "../../stages/tests/fake_hub/mod.rs"]
mod fake_hub;

use std::path::{Path, PathBuf};

use common::{Lab, evaluate, tiny};
use fake_hub::FakeHub;
use qapipe_engine::StageError;
use qapipe_nn::{Placement, models};
use qapipe_worker::checkpoint::weight_bytes;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

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

const INDEX: &str = "model.safetensors.index.json";
const PARTS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// The tensors of the file `model.safetensors` in `given`.
fn tensors(lab: &Lab) -> Vec<(String, Tensor)> {
    let mut tensors = Tensor::read_safetensors(given(lab, "model.safetensors")).unwrap();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

fn store(lab: &Lab, file: &str, tensors: &[(String, Tensor)]) {
    Tensor::write_safetensors(tensors, given(lab, file)).unwrap();
}

/// Divides the weights in `given` into two files with an index, and gives the index.
fn divide(lab: &Lab) -> Value {
    let tensors = tensors(lab);
    let half = tensors.len() / 2;
    store(lab, PARTS[0], &tensors[..half]);
    store(lab, PARTS[1], &tensors[half..]);
    let map: serde_json::Map<String, Value> =
        tensors.iter().enumerate().map(|(at, (name, _))| (name.clone(), PARTS[usize::from(at >= half)].into())).collect();
    let index = json!({ "metadata": { "total_size": 0 }, "weight_map": map });
    std::fs::remove_file(given(lab, "model.safetensors")).unwrap();
    write_index(lab, &index);
    index
}

fn write_index(lab: &Lab, index: &Value) {
    std::fs::write(given(lab, INDEX), index.to_string()).unwrap();
}

/// A model's weights in f32, as the file that it writes.
fn in_f32(model: &Path) -> Vec<u8> {
    let (model, _) = models::load(model, &Placement::inference(Device::Cpu), 0).unwrap();
    let out = tempfile::tempdir().unwrap();
    model.network().save(out.path()).unwrap();
    std::fs::read(out.path().join("model.safetensors")).unwrap()
}

#[test]
fn weights_in_several_files_are_taken_byte_for_byte_and_used() {
    let mut lab = lab();
    divide(&lab);
    bring(&mut lab, "brought").unwrap();
    for file in [INDEX, PARTS[0], PARTS[1]] {
        assert_eq!(lab.bytes("brought.model", file), std::fs::read(given(&lab, file)).unwrap(), "{file}");
    }
    let brought = lab.path("brought.model");
    assert!(!brought.join("model.safetensors").exists());
    assert_eq!(in_f32(brought), in_f32(lab.path("base.model")));
    let bytes: u64 = PARTS.iter().map(|file| std::fs::metadata(brought.join(file)).unwrap().len()).sum();
    assert_eq!(weight_bytes(brought).unwrap(), bytes);
    let pipeline = format!(
        "{}[stages.brought]\nkind = \"checkpoint\"\nsource = \"given\"\n{}{}",
        tiny("", SMALL),
        evaluate("whole", "base", ""),
        evaluate("parts", "brought", "")
    );
    lab.run(&pipeline).unwrap();
    let predictions = |stage: &str| std::fs::read(lab.path(&format!("{stage}.predictions"))).unwrap();
    assert_eq!(predictions("whole"), predictions("parts"));
}

#[test]
fn an_index_and_its_files_must_agree() {
    let mut lab = lab();
    let index = divide(&lab);
    let second = std::fs::read(given(&lab, PARTS[1])).unwrap();
    std::fs::remove_file(given(&lab, PARTS[1])).unwrap();
    let message = refused(&mut lab);
    assert_eq!(message, format!("given: {INDEX} names {}, which is not there", PARTS[1]));
    std::fs::write(given(&lab, PARTS[1]), &second).unwrap();
    let mut lying = index.clone();
    lying["weight_map"]["a.tensor"] = PARTS[0].into();
    write_index(&lab, &lying);
    assert!(refused(&mut lab).contains(&format!("the index says that tensor \"a.tensor\" is in {:?}, and it is not", PARTS[0])));
    lying["weight_map"]["a.tensor"] = "../given/model-00001-of-00002.safetensors".into();
    write_index(&lab, &lying);
    assert!(refused(&mut lab).contains("which is not the plain name of a safetensors file"));
    std::fs::write(given(&lab, INDEX), "{\"weight_map\": {").unwrap();
    assert!(refused(&mut lab).contains("not an index of weights: EOF"));
    write_index(&lab, &index);
    std::fs::copy(given(&lab, PARTS[0]), given(&lab, PARTS[1])).unwrap();
    let message = refused(&mut lab);
    assert!(message.contains("tensor \"bert.") && message.ends_with("as well"), "{message}");
}

/// Brings what the environment names: the child of the test below, which may set its variables.
#[test]
#[ignore = "runs within another test"]
fn brings_from_the_hub_of_the_environment() {
    let mut lab = Lab::new();
    lab.offline = false;
    lab.run("[stages.brought]\nkind = \"checkpoint\"\nsource = \"hub:a/b@v2\"\n").unwrap();
    let given = PathBuf::from(std::env::var("QAPIPE_TEST_GIVEN").unwrap());
    for file in ["config.json", "tokenizer.json", INDEX, PARTS[0], PARTS[1]] {
        assert_eq!(lab.bytes("brought.model", file), std::fs::read(given.join(file)).unwrap(), "{file}");
    }
    assert_eq!(std::fs::read_dir(lab.path("brought.model")).unwrap().count(), 5);
}

#[test]
fn weights_in_several_files_come_from_the_hub() {
    let lab = lab();
    divide(&lab);
    let (hub, commit) = (FakeHub::start(), "c".repeat(40));
    for file in ["config.json", "tokenizer.json", INDEX, PARTS[0], PARTS[1]] {
        hub.put_at("models/a/b", "v2", &commit, file, &std::fs::read(given(&lab, file)).unwrap(), file.starts_with("model-"));
    }
    hub.put_at("models/a/b", "v2", &commit, "pytorch_model.bin", b"a pickle that nobody asks for", true);
    let bring = |offline: &str| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "brings_from_the_hub_of_the_environment", "--ignored"])
            .env("HF_ENDPOINT", &hub.endpoint)
            .env("HF_HOME", lab.folder.path().join("hf"))
            .env_remove("HF_HUB_CACHE")
            .env("HF_HUB_OFFLINE", offline)
            .env("HF_TOKEN", "secret")
            .env("QAPIPE_TEST_GIVEN", lab.folder.path().join("given"))
            .output()
            .unwrap()
    };
    let told =
        |output: &std::process::Output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let first = bring("0");
    assert!(first.status.success() && told(&first).contains("1 passed"), "{}", told(&first));
    assert!(hub.seen().iter().all(|seen| seen.token.is_none() == seen.elsewhere));
    assert!(hub.lines("pytorch_model.bin").is_empty() && hub.lines("GET /large/").len() == 2);
    let asked = hub.seen().len();
    let again = bring("1");
    assert!(again.status.success(), "{}", told(&again));
    assert_eq!(hub.seen().len(), asked);
}

#[test]
fn weights_of_any_kind_of_number_give_the_same_model() {
    let mut lab = lab();
    // Numbers that all kinds hold exactly.
    let round = |tensor: &Tensor| (tensor * 1024.0).round().clamp(-255.0, 255.0) / 1024.0;
    let exact: Vec<(String, Tensor)> = tensors(&lab).iter().map(|(name, tensor)| (name.clone(), round(tensor))).collect();
    let kinds = |kind: fn(usize) -> Kind| -> Vec<(String, Tensor)> {
        exact.iter().enumerate().map(|(at, (name, tensor))| (name.clone(), tensor.to_kind(kind(at)))).collect()
    };
    let stored = [
        ("f32", kinds(|_| Kind::Float)),
        ("f16", kinds(|_| Kind::Half)),
        ("bf16", kinds(|_| Kind::BFloat16)),
        ("mixed", kinds(|at| [Kind::Float, Kind::Half, Kind::BFloat16][at % 3])),
    ];
    let mut sizes = Vec::new();
    let mut models = Vec::new();
    for (name, tensors) in &stored {
        store(&lab, "model.safetensors", tensors);
        bring(&mut lab, name).unwrap();
        let model = lab.path(&format!("{name}.model"));
        // What is stored stays as it was; f32 is what is computed with.
        assert_eq!(lab.bytes(&format!("{name}.model"), "model.safetensors"), std::fs::read(given(&lab, "model.safetensors")).unwrap());
        sizes.push(weight_bytes(model).unwrap());
        models.push(in_f32(model));
    }
    assert!(models.iter().all(|model| *model == models[0]));
    let [whole, half, brain, mixed] = sizes[..] else { panic!("{sizes:?}") };
    assert!(half * 10 < whole * 6 && brain * 10 < whole * 6 && (half + 10_000..whole).contains(&mixed), "{sizes:?}");
    let words = exact.iter().find(|(name, _)| name == "bert.embeddings.word_embeddings.weight").unwrap();
    assert!(words.1.abs().max().double_value(&[]) > 0.01, "the numbers are not all nothing");
}

#[test]
fn other_architectures_are_refused_before_their_weights_come() {
    let mut lab = lab();
    let config = std::fs::read_to_string(given(&lab, "config.json")).unwrap();
    std::fs::write(given(&lab, "model.safetensors"), "not looked at").unwrap();
    for family in ["roberta", "gpt2"] {
        edit(&given(&lab, "config.json"), &config, "\"model_type\": \"bert\"", &format!("\"model_type\": \"{family}\""));
        let error = bring(&mut lab, "refused").unwrap_err();
        let known = models::families().join(", ");
        assert_eq!(error.message, format!("given: model_type {family:?} is not known; known are {known}"));
        assert!(error.help.is_some());
    }
    std::fs::write(given(&lab, "config.json"), "{}").unwrap();
    assert!(refused(&mut lab).starts_with("given: config.json: missing field `model_type`"));
    std::fs::write(given(&lab, "config.json"), "[").unwrap();
    assert!(refused(&mut lab).starts_with("given: config.json: EOF"));
    edit(&given(&lab, "config.json"), &config, "\"num_attention_heads\": 4", "\"num_attention_heads\": 5");
    assert_eq!(refused(&mut lab), "given: config.json: num_attention_heads: 5 heads do not divide hidden_size 64");
}

#[test]
fn tensors_that_lack_and_tensors_too_many_are_named() {
    let mut lab = lab();
    let whole = tensors(&lab);
    let lacking = ["bert.encoder.layer.1.output.dense.weight", "bert.embeddings.LayerNorm.bias"];
    let without: Vec<(String, Tensor)> = whole
        .iter()
        .filter(|(name, _)| !lacking.contains(&name.as_str()))
        .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
        .collect();
    store(&lab, "model.safetensors", &without);
    let message = refused(&mut lab);
    assert!(message.contains("weights do not fit the model: missing: ") && lacking.iter().all(|name| message.contains(name)), "{message}");
    let more = ["bert.encoder.layer.2.output.dense.weight", "adapter.down", "bert.pooler.dense.weight", "cls.predictions.bias"];
    let extra = more.iter().map(|name| ((*name).to_owned(), Tensor::ones([2, 2], (Kind::Float, Device::Cpu))));
    store(&lab, "model.safetensors", &whole.into_iter().chain(extra).collect::<Vec<_>>());
    bring(&mut lab, "brought").unwrap();
    let log = lab.ear.log.lock().unwrap().join("\n");
    // What pretraining leaves is expected, and not worth a word.
    let unused = "in the file, not used: adapter.down, bert.encoder.layer.2.output.dense.weight";
    assert!(log.lines().any(|line| line == unused), "{log}");
}

#[test]
fn a_tokenizer_with_ids_beyond_the_embedding_is_refused() {
    let mut lab = lab();
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(given(&lab, "tokenizer.json")).unwrap()).unwrap();
    let rows = tensors(&lab).iter().find(|(name, _)| name == "bert.embeddings.word_embeddings.weight").unwrap().1.size()[0];
    let added = json!({ "id": rows, "content": "[NEW]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
    tokenizer["added_tokens"].as_array_mut().unwrap().push(added);
    std::fs::write(given(&lab, "tokenizer.json"), tokenizer.to_string()).unwrap();
    let error = bring(&mut lab, "refused").unwrap_err();
    let text = format!(
        "given: the vocabulary does not fit the model: the tokenizer gives ids up to {rows} (\"[NEW]\"), the embedding has {rows} rows"
    );
    assert_eq!(error.message, text);
    assert!(error.help.is_some());
    std::fs::write(given(&lab, "tokenizer.json"), "{").unwrap();
    assert!(refused(&mut lab).contains("tokenizer.json"));
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
