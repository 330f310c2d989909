//! T5: gradients, packing, decoding, loading and saving, and what is refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::{Path, PathBuf};

use qapipe_nn::parity::TOLERANCE;
use qapipe_nn::{
    Forward, Limits, Network, NnError, Packed, Pairs, Placement, T5Config, T5ForConditionalGeneration, Weights, Writer, greedy,
    greedy_beside, models,
};
use tch::{Device, Kind, Tensor};

use common::{difference, numbers, same_gradients};

const FIXTURES: [&str; 2] = ["t5_tiny", "t5_v11_tiny"];

fn folder(name: &str) -> PathBuf {
    qapipe_nn::device::set_threads(1);
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(name: &str) -> T5ForConditionalGeneration {
    let config = T5Config::parse(&std::fs::read_to_string(folder(name).join("config.json")).unwrap()).unwrap();
    let weights = Weights::open_folder(&folder(name)).unwrap();
    let (model, report) = T5ForConditionalGeneration::load(&weights, &config, &Placement::training(Device::Cpu), 0).unwrap();
    assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
    model
}

fn golden(name: &str) -> Weights {
    Weights::open(&folder(name).join("golden.safetensors")).unwrap()
}

/// Sources and targets of a fixture, without their padding.
fn rows(name: &str) -> Vec<(Vec<u32>, Vec<u32>)> {
    let golden = golden(name);
    let table = |name: &str| Vec::<Vec<i64>>::try_from(golden.tensor(name).unwrap()).unwrap();
    let cut = |ids: &[i64], keep: &dyn Fn(usize) -> bool| {
        (0..ids.len()).filter(|&at| keep(at)).map(|at| u32::try_from(ids[at]).unwrap()).collect::<Vec<u32>>()
    };
    let (ids, mask, labels) = (table("ids"), table("am"), table("labels"));
    (0..ids.len()).map(|row| (cut(&ids[row], &|at| mask[row][at] == 1), cut(&labels[row], &|at| labels[row][at] >= 0))).collect()
}

fn pairs(model: &T5ForConditionalGeneration, rows: &[(Vec<u32>, Vec<u32>)]) -> Pairs {
    let rows: Vec<(&[u32], &[u32])> = rows.iter().map(|(source, target)| (source.as_slice(), target.as_slice())).collect();
    Pairs::collate(model.form(), &rows).unwrap()
}

fn sources(rows: &[(Vec<u32>, Vec<u32>)]) -> Packed {
    Packed::of_one_segment(&rows.iter().map(|(source, _)| source.as_slice()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn gradients_of_all_parameters_agree() {
    for name in FIXTURES {
        let (mut model, golden) = (load(name), golden(name));
        let pairs = pairs(&model, &rows(name));
        same_gradients(&mut model, &golden, 2.0 * TOLERANCE, &[], |model, share| {
            let loss = model.forward(&pairs, &mut Forward::training(1)).unwrap().mean(Kind::Float).neg();
            assert!(difference(&loss.view(1), &golden.tensor("loss").unwrap()) < TOLERANCE);
            model.parameters_mut().backward(&(loss * share)).unwrap();
        });
    }
}

#[test]
fn a_text_alone_and_in_a_batch_gives_the_same() {
    let (model, rows) = (load("t5_tiny"), rows("t5_tiny"));
    let together = numbers(&model.forward(&pairs(&model, &rows), &mut Forward::inference()).unwrap());
    let alone =
        rows.iter().flat_map(|row| numbers(&model.forward(&pairs(&model, std::slice::from_ref(row)), &mut Forward::inference()).unwrap()));
    for (ours, alone) in together.iter().zip(alone) {
        assert!((ours - alone).abs() < 1e-5);
    }
}

#[test]
fn what_is_written_has_the_probability_that_it_is_told() {
    for name in FIXTURES {
        let (model, rows) = (load(name), rows(name));
        for (most, ends, off) in [(6, vec![1], 1e-4), (150, vec![], 1e-3)] {
            let limits = Limits { most, ends, not_first: None };
            let written = greedy(&model, &sources(&rows), &limits).unwrap();
            let again: Vec<(Vec<u32>, Vec<u32>)> =
                rows.iter().zip(&written).map(|((source, _), text)| (source.clone(), text.tokens.clone())).collect();
            let pairs = pairs(&model, &again);
            let sums = numbers(&pairs.sums(&model.forward(&pairs, &mut Forward::inference()).unwrap()).unwrap());
            for (text, sum) in written.iter().zip(sums) {
                assert!((text.log_probability - f64::from(sum)).abs() < off, "{text:?} {sum}");
                assert_eq!(text.ended, limits.ends == [1] && text.tokens.last() == Some(&1));
            }
        }
    }
}

#[test]
fn a_token_may_be_kept_from_coming_first_and_its_probability_is_told() {
    let (model, rows) = (load("t5_tiny"), rows("t5_tiny"));
    let free = greedy(&model, &sources(&rows), &Limits { most: 4, ends: vec![1], not_first: None }).unwrap();
    let banned = free[0].tokens[0];
    let kept = greedy(&model, &sources(&rows), &Limits { most: 4, ends: vec![1], not_first: Some(banned) }).unwrap();
    assert!(kept.iter().all(|text| text.tokens[0] != banned));
    let targets: Vec<(Vec<u32>, Vec<u32>)> = rows.iter().map(|(source, _)| (source.clone(), vec![banned])).collect();
    let wanted = numbers(&model.forward(&pairs(&model, &targets), &mut Forward::inference()).unwrap());
    for (text, wanted) in kept.iter().zip(wanted) {
        assert!((text.not_first - f64::from(wanted)).abs() < 1e-5);
    }
}

#[test]
fn another_text_is_told_its_probability_beside_and_what_is_written_stays_the_same() {
    for name in FIXTURES {
        let (model, rows) = (load(name), rows(name));
        let limits = Limits { most: 3, ends: vec![1, 7], not_first: None };
        let (written, beside) = greedy_beside(&model, &sources(&rows), &limits, &[5, 9, 11, 2]).unwrap();
        assert_eq!(written, greedy(&model, &sources(&rows), &limits).unwrap());
        let sums = |end: u32| {
            let rows: Vec<(Vec<u32>, Vec<u32>)> = rows.iter().map(|(source, _)| (source.clone(), vec![5, 9, 11, 2, end])).collect();
            let pairs = pairs(&model, &rows);
            numbers(&pairs.sums(&model.forward(&pairs, &mut Forward::inference()).unwrap()).unwrap())
        };
        for ((told, one), other) in beside.iter().zip(sums(1)).zip(sums(7)) {
            assert!((told - f64::from(one.max(other))).abs() < 1e-4, "{told} of {one} and {other}");
        }
        assert!(written.iter().all(|text| text.scores.len() == text.tokens.len()));
        assert!(greedy_beside(&model, &sources(&rows), &limits, &[28]).unwrap_err().to_string().contains("token id 28"));
    }
}

#[test]
fn saved_and_loaded_it_is_the_same_and_nothing_is_left_over() {
    for name in FIXTURES {
        let (model, rows) = (load(name), rows(name));
        let place = tempfile::tempdir().unwrap();
        model.save(place.path()).unwrap();
        let (again, report) = models::load(place.path(), &Placement::inference(Device::Cpu), 0).unwrap();
        assert_eq!(report, qapipe_nn::LoadReport::default());
        let again = again.into_writer().unwrap();
        let pairs = pairs(&model, &rows);
        let score = |model: &dyn Writer| numbers(&model.forward(&pairs, &mut Forward::inference()).unwrap());
        assert_eq!(score(&model), score(&*again));
    }
}

#[test]
fn other_names_for_the_embedding_are_passed_over() {
    let (model, place) = (load("t5_tiny"), tempfile::tempdir().unwrap());
    model.save(place.path()).unwrap();
    let weights = Weights::open_folder(place.path()).unwrap();
    let mut tensors: Vec<(String, Tensor)> = weights.names().map(|name| (name.to_owned(), weights.tensor(name).unwrap())).collect();
    for alias in ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"] {
        tensors.push((alias.to_owned(), weights.tensor("shared.weight").unwrap()));
    }
    let path = place.path().join("other.safetensors");
    common::write(&path, &tensors);
    let (_, report) =
        T5ForConditionalGeneration::load(&Weights::open(&path).unwrap(), model.config(), &Placement::inference(Device::Cpu), 0).unwrap();
    assert_eq!(report, qapipe_nn::LoadReport::default());
}

#[test]
fn missing_and_strange_tensors_are_named() {
    let (model, place) = (load("t5_v11_tiny"), tempfile::tempdir().unwrap());
    model.save(place.path()).unwrap();
    let weights = Weights::open_folder(place.path()).unwrap();
    let mut tensors: Vec<(String, Tensor)> =
        weights.names().filter(|name| !name.starts_with("lm_head")).map(|name| (name.to_owned(), weights.tensor(name).unwrap())).collect();
    let path = place.path().join("other.safetensors");
    common::write(&path, &tensors);
    let open = |path: &Path| {
        T5ForConditionalGeneration::load(&Weights::open(path).unwrap(), model.config(), &Placement::inference(Device::Cpu), 0)
    };
    let error = open(&path).unwrap_err().to_string();
    assert!(error.contains("missing: lm_head.weight"), "{error}");
    tensors.push(("lm_head.weight".to_owned(), weights.tensor("lm_head.weight").unwrap()));
    tensors.push(("pooler.weight".to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu))));
    common::write(&path, &tensors);
    assert_eq!(open(&path).unwrap().1.unused, ["pooler.weight"]);
}

#[test]
fn a_checkpoint_of_another_family_is_refused_with_what_is_missing() {
    let bert = Weights::open_folder(&common::fixture()).unwrap();
    let config = T5Config { vocab_size: 28, d_model: 12, d_kv: 4, d_ff: 16, num_layers: 2, num_heads: 3, ..T5Config::default() };
    let error = T5ForConditionalGeneration::load(&bert, &config, &Placement::inference(Device::Cpu), 0).unwrap_err();
    assert!(matches!(error, NnError::Fit(_)) && error.to_string().contains("shared.weight"), "{error}");
}

#[test]
fn the_published_shapes_have_the_published_sizes() {
    let count = |config: &T5Config| {
        let model = T5ForConditionalGeneration::init(config, &Placement::inference(Device::Cpu).with_kind(Kind::BFloat16), 1).unwrap();
        model.parameters().count()
    };
    assert_eq!(count(&T5Config::base()), 222_903_552);
    let v11 = T5Config { d_ff: 2048, feed_forward_proj: "gated-gelu".into(), tie_word_embeddings: false, ..T5Config::base() };
    assert_eq!(count(&v11), 247_577_856);
}

#[test]
fn tokens_beyond_the_vocabulary_are_refused() {
    let model = load("t5_tiny");
    let rows = vec![(vec![3, 28], vec![1])];
    let error = model.forward(&pairs(&model, &rows), &mut Forward::inference()).unwrap_err().to_string();
    assert!(error.contains("token id 28"), "{error}");
    let causal = Pairs::collate(qapipe_nn::Form::Causal, &[(&[3], &[1])]).unwrap();
    assert!(model.forward(&causal, &mut Forward::inference()).is_err());
}

#[test]
fn what_cannot_be_is_refused_by_its_field() {
    let wrong = |text: &str| T5Config::parse(text).unwrap_err().to_string();
    assert!(wrong(r#"{"model_type": "bert"}"#).contains("model_type"));
    assert!(wrong(r#"{"model_type": "t5", "d_model": 0}"#).contains("d_model"));
    assert!(wrong(r#"{"model_type": "t5", "feed_forward_proj": "gated-swish"}"#).contains("gated-swish"));
    assert!(wrong(r#"{"model_type": "t5", "eos_token_id": 99999}"#).contains("eos_token_id"));
    assert!(wrong(r#"{"model_type": "t5", "is_encoder_decoder": false}"#).contains("is_encoder_decoder"));
    assert!(wrong(r#"{"model_type": "t5", "relative_attention_num_buckets": 7}"#).contains("multiple of 4"));
}
