//! The same on CUDA as on the CPU. Passes without doing anything where there is no CUDA device.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use qapipe_nn::{AdamW, AdamWConfig, BertConfig, BertForQuestionAnswering, Forward, Network, Packed, Placement, Reader, device, span_loss};
use tch::{Device, Kind, Tensor};

use common::{cuda, difference, numbers, values};

/// A model at random that is large enough for the kernels of half precision: heads of 64 or 32 numbers.
fn model(heads: i64, dropout: f64, placement: Placement) -> BertForQuestionAnswering {
    device::set_threads(1);
    let config = BertConfig {
        vocab_size: 200,
        hidden_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: heads,
        intermediate_size: 256,
        max_position_embeddings: 400,
        initializer_range: 0.1,
        hidden_dropout_prob: dropout,
        attention_probs_dropout_prob: dropout,
        ..BertConfig::default()
    };
    BertForQuestionAnswering::init(&config, &placement, 11).unwrap()
}

/// Sequences of uneven lengths, and labels.
fn batch() -> (Packed, Tensor) {
    let rows: Vec<Vec<u32>> =
        [384_u32, 7, 130, 1, 64].iter().map(|&length| (0..length).map(|at| 1 + (at * 7 + length) % 199).collect()).collect();
    let rows: Vec<(&[u32], u32)> = rows.iter().map(|row| (row.as_slice(), 5)).collect();
    (Packed::from_sequences(&rows, Device::Cpu).unwrap(), Tensor::from_slice(&[200_i64, 3, 77, 0, 12]))
}

/// Logits and loss of a training pass whose gradients are gathered.
fn pass(model: &mut BertForQuestionAnswering, forward: &mut Forward) -> (Tensor, f64) {
    let (packed, labels) = batch();
    let place = model.parameters().device();
    let packed = if place.is_cuda() { packed.pinned().unwrap().to_device(place).unwrap() } else { packed };
    let logits = model.forward(&packed, forward).unwrap();
    let labels = labels.to(place);
    let loss = span_loss(&logits, &packed, &labels, &labels).unwrap();
    model.parameters_mut().backward(&loss).unwrap();
    (logits.start.detach().to(Device::Cpu), loss.double_value(&[]))
}

/// Compares a model of one kind at one place with f32 on the CPU: logits absolutely, gradients relatively.
fn compare(place: Device, heads: i64, kind: Kind, logit: f64, slope: f64) {
    let mut host = model(heads, 0.0, Placement::training(Device::Cpu));
    let mut card = model(heads, 0.0, Placement::training(place).with_kind(kind));
    assert_eq!(values(&host), values(&card));
    let (ours, theirs) = (pass(&mut card, &mut Forward::training(1)), pass(&mut host, &mut Forward::training(1)));
    let found = difference(&ours.0, &theirs.0).max((ours.1 - theirs.1).abs());
    assert!(found < logit, "{heads} heads, {kind:?}: {found}");
    for name in host.parameters().iter().flat_map(|one| one.names()).filter(|name| name.ends_with("weight")) {
        let (one, two) = (card.parameters().gradient(name).unwrap(), host.parameters().gradient(name).unwrap());
        let found = ((&one - &two).norm() / two.norm()).double_value(&[]);
        eprintln!("{heads} heads, {kind:?}, {name}: {found:.4}");
        assert!(found < slope, "{heads} heads, {kind:?}, {name}: {found}");
    }
}

/// What half precision may cost, in logits and, relatively, in gradients.
const HALF: (f64, f64) = (0.15, 0.1);

#[test]
fn half_precision_is_close_on_the_cpu() {
    compare(Device::Cpu, 2, Kind::BFloat16, HALF.0, HALF.1);
}

#[test]
fn half_precision_is_close_on_cuda() {
    let Some(place) = cuda() else { return };
    for heads in [2, 4] {
        compare(place, heads, Kind::BFloat16, HALF.0, HALF.1);
    }
}

#[test]
fn full_precision_is_closer_on_cuda() {
    let Some(place) = cuda() else { return };
    compare(place, 2, Kind::Float, 1e-3, 1e-3);
}

#[test]
fn answers_come_from_half_precision_alone() {
    let Some(place) = cuda() else { return };
    let (host, card) = (model(2, 0.1, Placement::inference(Device::Cpu)), model(2, 0.1, Placement::inference(place)));
    let packed = batch().0;
    let of = |model: &BertForQuestionAnswering| {
        let packed = packed.to_device(model.parameters().device()).unwrap();
        model.forward(&packed, &mut Forward::inference()).unwrap().end.to(Device::Cpu)
    };
    assert!(difference(&of(&host), &of(&card)) < 0.15);
    assert_eq!(card.parameters().resident_bytes(), 2 * card.parameters().count());
}

/// Trains with dropout; gives the first loss and the last.
fn train(place: Device, steps: usize) -> (f64, f64) {
    let mut model = model(2, 0.1, Placement::training(place));
    let mut optimiser = AdamW::new(model.parameters(), AdamWConfig::default()).unwrap();
    let mut forward = Forward::training(3);
    let mut losses = Vec::new();
    for _ in 0..steps {
        losses.push(pass(&mut model, &mut forward).1);
        let norm = optimiser.clip_grad_norm(model.parameters_mut(), 1.0).unwrap();
        assert!(norm.device() == place && numbers(&norm.to(Device::Cpu))[0].is_finite());
        optimiser.step(model.parameters_mut(), 2e-3).unwrap();
    }
    (losses[0], losses[steps - 1])
}

#[test]
fn training_with_dropout_learns_on_the_cpu() {
    let (first, last) = train(Device::Cpu, 8);
    assert!(last < first - 0.5, "{first} {last}");
}

#[test]
fn training_with_dropout_learns_on_cuda() {
    let Some(place) = cuda() else { return };
    device::reset_peak_memory(place).unwrap();
    let (first, last) = train(place, 30);
    assert!(last < first / 2.0, "{first} {last}");
    device::synchronize(place).unwrap();
    assert!(device::peak_memory(place).unwrap().unwrap() > 1 << 20);
}

#[test]
fn dropout_is_what_the_seed_and_the_pass_say() {
    let Some(place) = cuda() else { return };
    let mut card = model(4, 0.3, Placement::training(place));
    let mut logits = |seed, number| numbers(&pass(&mut card, &mut Forward::training(seed).at_pass(number)).0);
    assert_eq!(logits(1, 4), logits(1, 4));
    assert_ne!(logits(1, 4), logits(1, 5));
    assert_ne!(logits(1, 4), logits(2, 4));
}

#[test]
fn micro_batches_add_up_in_f32() {
    let Some(place) = cuda() else { return };
    let mut card = model(2, 0.0, Placement::training(place));
    let name = "bert.encoder.layer.1.output.dense.weight";
    let _ = pass(&mut card, &mut Forward::training(1));
    let once = card.parameters().gradient(name).unwrap();
    let _ = pass(&mut card, &mut Forward::training(1));
    assert!(difference(&card.parameters().gradient(name).unwrap(), &(&once * 2.0)) < 1e-6 + 0.02 * once.abs().max().double_value(&[]));
}

#[test]
fn the_device_is_described() {
    let Some(_) = cuda() else { return };
    let info = device::info();
    assert!(info.no_cuda.is_none());
    assert!(info.cuda[0].name.as_ref().is_some_and(|name| !name.is_empty()) && info.cuda[0].memory.is_some_and(|bytes| bytes > 1 << 30));
}
