//! LSTMs: agreement with torch's own, packing, what is frozen, and the two ways to compute them.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::PathBuf;

use qapipe_nn::parity::{Verdict, check_all};
use qapipe_nn::{
    AdamW, AdamWConfig, AnyModel, Forward, LstmConfig, LstmForQuestionAnswering, Network, Placement, Reader, Weights, models, span_loss,
};
use tch::{Device, Kind, Tensor};

use common::{difference, numbers, packed};

const NAMES: [&str; 4] = ["lstm_dot_tiny", "lstm_heads_tiny", "lstm_self_tiny", "lstm_bidaf_tiny"];

fn folder(name: &str) -> PathBuf {
    common::fixture_of(name)
}

fn model(name: &str) -> LstmForQuestionAnswering {
    let config = LstmConfig::parse(&std::fs::read_to_string(folder(name).join("config.json")).unwrap()).unwrap();
    let weights = Weights::open_folder(&folder(name)).unwrap();
    LstmForQuestionAnswering::load(&weights, &config, &Placement::training(Device::Cpu), 0).unwrap().0
}

fn golden(name: &str) -> Weights {
    Weights::open(&folder(name).join("golden.safetensors")).unwrap()
}

/// The rows of a fixture without their padding, and where the paragraphs begin.
fn rows(golden: &Weights) -> (Vec<Vec<u32>>, Vec<u32>) {
    let table = |name: &str| Vec::<Vec<i64>>::try_from(&golden.tensor(name).unwrap()).unwrap();
    let number = |count: usize| u32::try_from(count).unwrap();
    let (ids, types, mask) = (table("ids"), table("tt"), table("am"));
    let real = |row: usize| mask[row].iter().filter(|&&one| one == 1).count();
    let ids = ids.iter().enumerate().map(|(row, ids)| ids[..real(row)].iter().map(|&id| u32::try_from(id).unwrap()).collect()).collect();
    (ids, types.iter().map(|row| number(row.iter().take_while(|&&segment| segment == 0).count())).collect())
}

fn loss(model: &LstmForQuestionAnswering, golden: &Weights) -> Tensor {
    let (ids, contexts) = rows(golden);
    let batch = packed(&ids, &contexts);
    let logits = model.forward(&batch, &mut Forward::training(1)).unwrap();
    span_loss(&logits, &batch, &golden.tensor("start_positions").unwrap(), &golden.tensor("end_positions").unwrap()).unwrap()
}

#[test]
fn every_way_agrees_with_torch() {
    for name in NAMES {
        let report = check_all(&folder(name)).unwrap();
        assert!(report.passed(), "{report}");
        let Verdict::Checked(checks) = &report.folders[0].1 else { unreachable!() };
        assert_eq!(checks.len(), 3);
    }
}

#[test]
fn every_gradient_and_three_steps_agree_with_torch() {
    for name in NAMES {
        let (mut model, golden) = (model(name), golden(name));
        let begun = loss(&model, &golden);
        assert!(difference(&begun.view([1]), &golden.floats("row_loss").unwrap()) < 1e-5, "{name}");
        model.parameters_mut().backward(&begun).unwrap();
        let names: Vec<String> = model.parameters().iter().flat_map(|one| one.names()).map(str::to_owned).collect();
        let stored = golden.names().filter(|name| name.starts_with("grad.")).count();
        assert_eq!(names.len(), stored, "{name}");
        for tensor in &names {
            let theirs = golden.floats(&format!("grad.{tensor}")).unwrap();
            assert!(difference(&model.parameters().gradient(tensor).unwrap(), &theirs) < 1e-5, "{name}: {tensor}");
        }
        model.parameters_mut().zero_grad().unwrap();
        let mut optimiser = AdamW::new(model.parameters(), AdamWConfig::default()).unwrap();
        for _ in 0..3 {
            let loss = loss(&model, &golden);
            model.parameters_mut().backward(&loss).unwrap();
            let _norm = optimiser.clip_grad_norm(model.parameters_mut(), 0.1).unwrap();
            optimiser.step(model.parameters_mut(), 0.01).unwrap();
        }
        for tensor in &names {
            let theirs = golden.floats(&format!("after.{tensor}")).unwrap();
            // A bias of all positions changes no probability: its gradient is rounding, of which Adam makes a whole step.
            let moved = golden.floats(&format!("grad.{tensor}")).unwrap().abs().gt(1e-6);
            let (ours, theirs) = (model.parameters().value(tensor).unwrap().where_self(&moved, &theirs), theirs);
            assert!(difference(&ours, &theirs) < 1e-4, "{name}: {tensor}");
        }
    }
}

#[test]
fn a_packed_batch_is_each_window_alone() {
    for name in NAMES {
        let (model, (ids, contexts)) = (model(name), rows(&golden(name)));
        let all = model.forward(&packed(&ids, &contexts), &mut Forward::inference()).unwrap();
        let mut at = 0;
        for (row, &context) in ids.iter().zip(&contexts) {
            let alone = model.forward(&packed(std::slice::from_ref(row), &[context]), &mut Forward::inference()).unwrap();
            let length = i64::try_from(row.len()).unwrap();
            assert!(difference(&all.end.narrow(0, at, length), &alone.end) < 1e-5, "{name}");
            at += length;
        }
    }
}

#[test]
fn frozen_words_stay_as_they_are_and_count() {
    let (mut model, golden) = (model("lstm_bidaf_tiny"), golden("lstm_bidaf_tiny"));
    let before = model.parameters().value(LstmForQuestionAnswering::WORDS).unwrap();
    let mut optimiser = AdamW::new(model.parameters(), AdamWConfig::default()).unwrap();
    let loss = loss(&model, &golden);
    model.parameters_mut().backward(&loss).unwrap();
    optimiser.step(model.parameters_mut(), 0.1).unwrap();
    assert_eq!(numbers(&model.parameters().value(LstmForQuestionAnswering::WORDS).unwrap()), numbers(&before));
    // 24 words of 5 numbers; the table of characters is no weight.
    assert_eq!(model.parameters().count() - model.parameters().trainable(), 120);
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    let (again, report) = models::load(folder.path(), &Placement::training(Device::Cpu), 0).unwrap();
    assert_eq!(report, qapipe_nn::LoadReport::default());
    let AnyModel::Reader(again) = again else { unreachable!() };
    let (ids, contexts) = rows(&golden);
    let starts = |model: &dyn Reader| model.forward(&packed(&ids, &contexts), &mut Forward::inference()).unwrap().start;
    assert!(difference(&starts(&model), &starts(&*again)) == 0.0);
}

#[test]
fn other_values_can_be_put_into_a_model() {
    let mut model = model("lstm_bidaf_tiny");
    let parameters = model.parameters_mut();
    for name in [LstmForQuestionAnswering::WORDS, "encoder.weight_hh_l0_reverse"] {
        let values = parameters.value(name).unwrap() + 1.0;
        parameters.set(name, &values).unwrap();
        assert_eq!(numbers(&parameters.value(name).unwrap()), numbers(&values));
    }
    parameters.set(LstmForQuestionAnswering::CHARACTERS, &Tensor::ones([24, 6], (Kind::Int, Device::Cpu))).unwrap();
    let wrong = parameters.set(LstmForQuestionAnswering::WORDS, &Tensor::ones([24, 6], (Kind::Float, Device::Cpu))).unwrap_err();
    assert!(wrong.to_string().contains("words.weight is Float [24, 5], and cannot become Float [24, 6]"), "{wrong}");
    assert!(parameters.set("no.such", &Tensor::from(1.0)).unwrap_err().to_string().contains("no.such"));
}

#[test]
fn a_window_without_a_question_is_refused() {
    let model = model("lstm_dot_tiny");
    let error = model.forward(&packed(&[vec![1, 2, 3]], &[3]), &mut Forward::inference()).unwrap_err();
    assert!(error.to_string().contains("needs a question and a paragraph"), "{error}");
    let error = model.forward(&packed(&[vec![1, 99, 3]], &[1]), &mut Forward::inference()).unwrap_err();
    assert!(error.to_string().contains("token id 99 is not below vocab_size 24"), "{error}");
}

#[test]
fn what_no_model_can_be_made_of_is_named() {
    let wrong = |text: &str| LstmConfig::parse(text).unwrap_err().to_string();
    for (text, field) in [
        (r#"{"hidden_size": 0}"#, "hidden_size"),
        (r#"{"num_attention_heads": 7}"#, "num_attention_heads"),
        (r#"{"dropout_rate": 1.0}"#, "dropout_rate"),
        (r#"{"character_vocab_size": 1}"#, "character_vocab_size"),
        (r#"{"character_vocab_size": 9, "word_length": 3}"#, "character_kernel"),
        (r#"{"attention": "none"}"#, "unknown variant `none`"),
    ] {
        assert!(wrong(text).contains(field), "{}", wrong(text));
    }
}
