//! BERT: loading, saving, refusing, and packing.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::path::Path;

use qapipe_nn::{BertConfig, BertForQuestionAnswering, Forward, Network, NnError, Packed, Placement, Reader, Weights, models};
use tch::{Device, Kind, Tensor};

use common::{config, difference, fixture, model, numbers, packed, rows, values, write};

/// The fixture's tensors under changed names, in a file: `rename` gives the new name, or none to leave a tensor out.
fn renamed(folder: &Path, rename: impl Fn(&str) -> Option<String>, extra: &[(&str, Tensor)]) -> Weights {
    let weights = Weights::open_folder(&fixture()).unwrap();
    let mut tensors: Vec<(String, Tensor)> =
        weights.names().filter_map(|name| Some((rename(name)?, weights.tensor(name).unwrap()))).collect();
    tensors.extend(extra.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())));
    let path = folder.join("model.safetensors");
    write(&path, &tensors);
    Weights::open(&path).unwrap()
}

fn load(weights: &Weights) -> Result<(BertForQuestionAnswering, qapipe_nn::LoadReport), NnError> {
    BertForQuestionAnswering::load(weights, &config(), &Placement::training(Device::Cpu), 3)
}

/// Start logits of the fixture's rows.
fn starts(model: &BertForQuestionAnswering) -> Tensor {
    let (ids, contexts, ..) = rows();
    model.forward(&packed(&ids, &contexts), &mut Forward::inference()).unwrap().start
}

#[test]
fn other_names_for_the_same_tensors_give_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let bare = |name: &str| name.strip_prefix("bert.").unwrap_or(name).to_owned();
    let old = |name: &str| name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    let pretraining = [
        ("embeddings.position_ids", Tensor::arange(20, (Kind::Int64, Device::Cpu))),
        ("pooler.dense.weight", Tensor::zeros([12, 12], (Kind::Float, Device::Cpu))),
        ("cls.predictions.bias", Tensor::zeros([24], (Kind::Float, Device::Cpu))),
        ("stray", Tensor::zeros([1], (Kind::Float, Device::Cpu))),
    ];
    let (model_again, report) = load(&renamed(folder.path(), |name| Some(old(&bare(name))), &pretraining)).unwrap();
    assert_eq!((report.initialised, report.unused), (vec![], vec!["stray".to_owned()]));
    assert_eq!(values(&model_again), values(&model()));
}

#[test]
fn a_missing_head_is_drawn_by_the_seed_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let weights = renamed(folder.path(), |name| (!name.starts_with("qa_outputs")).then(|| name.to_owned()), &[]);
    let (first, report) = load(&weights).unwrap();
    assert_eq!(report.initialised, ["qa_outputs.weight", "qa_outputs.bias"]);
    assert_eq!(values(&first), values(&load(&weights).unwrap().0));
    let other = BertForQuestionAnswering::load(&weights, &config(), &Placement::training(Device::Cpu), 4).unwrap().0;
    let head = |model: &BertForQuestionAnswering| numbers(&model.parameters().value("qa_outputs.weight").unwrap());
    assert_ne!(head(&first), head(&other));
    assert_eq!(numbers(&first.parameters().value("qa_outputs.bias").unwrap()), [0.0, 0.0]);
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let keep = |name: &str| (!name.contains("layer.1.output.dense")).then(|| name.to_owned());
    let text = load(&renamed(folder.path(), keep, &[])).unwrap_err().to_string();
    assert!(text.contains("missing: bert.encoder.layer.1.output.dense.weight, bert.encoder.layer.1.output.dense.bias"), "{text}");
    let wide = BertConfig { vocab_size: 25, ..config() };
    let weights = Weights::open_folder(&fixture()).unwrap();
    let text = BertForQuestionAnswering::load(&weights, &wide, &Placement::inference(Device::Cpu), 0).unwrap_err().to_string();
    assert!(text.contains("bert.embeddings.word_embeddings.weight is [24, 12] and should be [25, 12]"), "{text}");
    let short = BertConfig { num_hidden_layers: 1, ..config() };
    let report = BertForQuestionAnswering::load(&weights, &short, &Placement::inference(Device::Cpu), 0).unwrap().1;
    assert_eq!(report.unused.len(), 16);
}

#[test]
fn half_precision_files_load() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [Kind::Half, Kind::BFloat16] {
        let weights = Weights::open_folder(&fixture()).unwrap();
        let tensors: Vec<_> = weights.names().map(|name| (name.to_owned(), weights.tensor(name).unwrap().to_kind(kind))).collect();
        write(&folder.path().join("half.safetensors"), &tensors);
        let half = load(&Weights::open(&folder.path().join("half.safetensors")).unwrap()).unwrap().0;
        assert!(difference(&starts(&half), &starts(&model())) < 0.2);
        assert_eq!(half.parameters().value("qa_outputs.weight").unwrap().kind(), Kind::Float);
    }
}

#[test]
fn what_is_saved_loads_again_bit_for_bit() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    model().save(first.path()).unwrap();
    let (again, report) = models::load(first.path(), &Placement::training(Device::Cpu), 0).unwrap();
    assert_eq!(report, qapipe_nn::LoadReport::default());
    again.network().save(second.path()).unwrap();
    for file in ["config.json", "model.safetensors"] {
        assert_eq!(std::fs::read(first.path().join(file)).unwrap(), std::fs::read(second.path().join(file)).unwrap(), "{file}");
    }
    let names: Vec<String> = Weights::open_folder(&fixture()).unwrap().names().map(str::to_owned).collect();
    assert_eq!(Weights::open_folder(first.path()).unwrap().names().collect::<Vec<_>>(), names);
}

#[test]
fn a_packed_batch_is_each_sequence_alone() {
    let (ids, contexts, ..) = rows();
    let (model, mut at) = (model(), 0);
    let all = model.forward(&packed(&ids, &contexts), &mut Forward::inference()).unwrap();
    for (row, &context) in ids.iter().zip(&contexts) {
        let alone = model.forward(&packed(std::slice::from_ref(row), &[context]), &mut Forward::inference()).unwrap();
        let length = i64::try_from(row.len()).unwrap();
        assert!(difference(&all.end.narrow(0, at, length), &alone.end) < 1e-6);
        at += length;
    }
}

#[test]
fn packing_lays_out_columns() {
    let batch = packed(&[vec![5, 6, 7], vec![8]], &[1, 9]);
    let list = |tensor: Result<Tensor, NnError>| Vec::<i64>::try_from(tensor.unwrap().to_kind(Kind::Int64)).unwrap();
    assert_eq!(list(batch.ids()), [5, 6, 7, 8]);
    assert_eq!(list(batch.positions()), [0, 1, 2, 0]);
    assert_eq!(list(batch.segments()), [0, 1, 1, 0]);
    assert_eq!(list(batch.slots()), [0, 1, 2, 8]);
    assert_eq!(list(batch.cu_seqlens()), [0, 3, 4]);
    assert_eq!(batch.cu_seqlens().unwrap().kind(), Kind::Int);
    assert_eq!((batch.tokens(), batch.sequences(), batch.max_len(), batch.max_id(), batch.is_even()), (4, 2, 3, 8, false));
    assert!(packed(&[vec![1; 8], vec![3; 8]], &[0, 0]).is_even());
    assert_eq!(list(packed(&[vec![1], vec![3, 4], vec![2]], &[0, 0, 0]).cu_seqlens()), [0, 1, 3, 4]);
}

#[test]
fn input_beyond_the_model_is_refused() {
    let model = model();
    let told = |ids: Vec<u32>| model.forward(&packed(&[ids], &[0]), &mut Forward::inference()).unwrap_err().to_string();
    assert_eq!(told(vec![1, 24]), "input: token id 24 is not below vocab_size 24: the tokenizer is another model's");
    assert!(told(vec![1; 21]).contains("position 20 is not below max_position_embeddings 20"));
    assert!(Packed::from_sequences(&[], Device::Cpu).is_err());
    assert!(Packed::from_sequences(&[(&[], 0)], Device::Cpu).is_err());
}

#[test]
fn configurations_that_cannot_be_are_refused_by_field() {
    let field = |text: &str| match BertConfig::parse(text).unwrap_err() {
        NnError::Config { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(r#"{"num_attention_heads": 7}"#), "num_attention_heads");
    assert_eq!(field(r#"{"hidden_act": "swish"}"#), "hidden_act");
    assert_eq!(field(r#"{"vocab_size": 0}"#), "vocab_size");
    assert_eq!(field(r#"{"hidden_size": 99999999999}"#), "hidden_size");
    assert_eq!(field(r#"{"hidden_dropout_prob": 1.5}"#), "hidden_dropout_prob");
    assert_eq!(field(r#"{"pad_token_id": 30522}"#), "pad_token_id");
    assert_eq!(field(r#"{"model_type": "t5"}"#), "model_type");
    assert_eq!(field(r#"{"position_embedding_type": "relative_key"}"#), "position_embedding_type");
    assert_eq!(field(r#"{"layer_norm_eps": 0}"#), "layer_norm_eps");
    assert_eq!(field(r#"{"is_decoder": true}"#), "is_decoder");
    assert!(matches!(BertConfig::parse("{"), Err(NnError::ConfigJson(_))));
    for name in ["gelu", "relu", "gelu_new"] {
        assert!(BertConfig::parse(&format!(r#"{{"hidden_act": "{name}"}}"#)).is_ok());
    }
    let error = models::init(r#"{"model_type": "gpt"}"#, &Placement::inference(Device::Cpu), 0).err().unwrap();
    assert_eq!(error.to_string(), "model_type \"gpt\" is not known; known are bert, lstm, mamba, t5");
}

#[test]
fn a_random_model_is_what_the_seed_says() {
    let wide = BertConfig { hidden_size: 64, initializer_range: 0.02, ..config() };
    let init = |seed| BertForQuestionAnswering::init(&wide, &Placement::training(Device::Cpu), seed).unwrap();
    let first = init(5);
    assert_eq!(values(&first), values(&init(5)));
    assert_ne!(values(&first), values(&init(6)));
    let weight = first.parameters().value("bert.encoder.layer.0.attention.self.key.weight").unwrap();
    assert!((weight.std(false).double_value(&[]) - 0.02).abs() < 2e-3 && weight.mean(Kind::Float).double_value(&[]).abs() < 2e-3);
    let norm = first.parameters().value("bert.embeddings.LayerNorm.weight").unwrap();
    assert!(numbers(&norm).iter().all(|&value| (value - 1.0).abs() < 1e-12));
}

#[test]
fn counts_are_those_of_the_paper() {
    let Some(folder) = common::shared("models/minilm-l6") else { return };
    let (reader, report) = models::load(&folder, &Placement::inference(Device::Cpu), 1).unwrap();
    assert_eq!(report.initialised, ["qa_outputs.weight", "qa_outputs.bias"]);
    assert!(report.unused.is_empty(), "{:?}", report.unused);
    assert_eq!(reader.network().parameters().count(), 22_713_216 - 147_840 + 770);
    assert_eq!(reader.network().parameters().trainable(), 0);
}

#[test]
fn operations_are_those_that_are_counted_by_hand() {
    assert!((BertConfig::default().flops(&[384]) / 1e9 - 70.7).abs() < 0.1);
    assert!((model().flops(&[2]) - config().flops(&[2])).abs() < 1e-9);
}
