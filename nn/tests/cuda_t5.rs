//! T5 on CUDA as on the CPU. Passes without doing anything where there is no CUDA device.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use qapipe_nn::{Form, Forward, Limits, Network, Packed, Pairs, Placement, T5Config, T5ForConditionalGeneration, Writer, device, greedy};
use tch::{Device, Kind, Tensor};

use common::{cuda, difference, numbers};

/// A model at random, large enough for the kernels of half precision.
fn model(gated: bool, placement: Placement) -> T5ForConditionalGeneration {
    device::set_threads(1);
    let config = T5Config {
        vocab_size: 200,
        d_model: 128,
        d_kv: 64,
        d_ff: 256,
        num_layers: 2,
        num_heads: 2,
        dropout_rate: 0.0,
        feed_forward_proj: if gated { "gated-gelu".into() } else { "relu".into() },
        tie_word_embeddings: !gated,
        initializer_factor: 0.5,
        ..T5Config::default()
    };
    T5ForConditionalGeneration::init(&config, &placement, 11).unwrap()
}

/// Sources and targets of uneven lengths.
fn rows() -> Vec<(Vec<u32>, Vec<u32>)> {
    let ids = |length: u32, step: u32| (0..length).map(|at| 2 + (at * step + length) % 197).collect::<Vec<u32>>();
    [(384, 16), (7, 1), (130, 5), (64, 9), (1, 2)].into_iter().map(|(source, target)| (ids(source, 7), ids(target, 11))).collect()
}

fn pairs(place: Device) -> Pairs {
    let rows = rows();
    let rows: Vec<(&[u32], &[u32])> = rows.iter().map(|(source, target)| (source.as_slice(), target.as_slice())).collect();
    let pairs = Pairs::collate(Form::Seq2Seq { start: 0 }, &rows).unwrap();
    if place.is_cuda() { pairs.pinned().unwrap().to_device(place).unwrap() } else { pairs }
}

fn sources(place: Device) -> Packed {
    let rows = rows();
    Packed::of_one_segment(&rows.iter().map(|(source, _)| source.as_slice()).collect::<Vec<_>>()).unwrap().to_device(place).unwrap()
}

/// Log-probabilities of the targets; gradients are gathered.
fn pass(model: &mut T5ForConditionalGeneration) -> Tensor {
    let scores = model.forward(&pairs(model.parameters().device()), &mut Forward::training(1)).unwrap();
    model.parameters_mut().backward(&scores.mean(Kind::Float).neg()).unwrap();
    scores.detach().to(Device::Cpu)
}

/// Compares a model of one kind at one place with f32 on the CPU: log-probabilities absolutely, gradients relatively.
fn compare(place: Device, kind: Kind, score: f64, slope: f64) {
    for gated in [false, true] {
        let mut host = model(gated, Placement::training(Device::Cpu));
        let mut card = model(gated, Placement::training(place).with_kind(kind));
        let found = difference(&pass(&mut card), &pass(&mut host));
        assert!(found < score, "gated {gated}, {kind:?}: {found}");
        for name in host.parameters().iter().flat_map(|one| one.names()) {
            let (one, two) = (card.parameters().gradient(name).unwrap(), host.parameters().gradient(name).unwrap());
            let found = ((&one - &two).norm() / two.norm()).double_value(&[]);
            eprintln!("gated {gated}, {kind:?}, {name}: {found:.4}");
            assert!(found < slope, "gated {gated}, {kind:?}, {name}: {found}");
        }
    }
}

#[test]
fn half_precision_is_close_on_the_cpu() {
    compare(Device::Cpu, Kind::BFloat16, 0.3, 0.15);
}

#[test]
fn half_precision_is_close_on_cuda() {
    let Some(place) = cuda() else { return };
    compare(place, Kind::BFloat16, 0.3, 0.15);
}

#[test]
fn full_precision_is_closer_on_cuda() {
    let Some(place) = cuda() else { return };
    compare(place, Kind::Float, 2e-3, 2e-3);
}

#[test]
fn cuda_writes_what_the_cpu_writes() {
    let Some(place) = cuda() else { return };
    let limits = Limits { most: 12, ends: vec![1], not_first: Some(1) };
    let write = |place: Device| {
        let model = model(true, Placement::inference(place).with_kind(Kind::Float));
        greedy(&model, &sources(place), &limits).unwrap()
    };
    for (card, host) in write(place).into_iter().zip(write(Device::Cpu)) {
        assert_eq!(card.tokens, host.tokens);
        assert!((card.log_probability - host.log_probability).abs() < 1e-2 && (card.not_first - host.not_first).abs() < 1e-2);
    }
}

#[test]
fn writing_in_half_precision_has_the_probability_that_reading_gives() {
    let place = cuda().unwrap_or(Device::Cpu);
    let model = model(false, Placement::inference(place).with_kind(Kind::BFloat16));
    let written = greedy(&model, &sources(place), &Limits { most: 6, ends: vec![1], not_first: None }).unwrap();
    let rows: Vec<(Vec<u32>, Vec<u32>)> =
        rows().into_iter().zip(&written).map(|((source, _), text)| (source, text.tokens.clone())).collect();
    let rows: Vec<(&[u32], &[u32])> = rows.iter().map(|(source, target)| (source.as_slice(), target.as_slice())).collect();
    let pairs = Pairs::collate(model.form(), &rows).unwrap().to_device(place).unwrap();
    let sums = numbers(&pairs.sums(&model.forward(&pairs, &mut Forward::inference()).unwrap()).unwrap().to(Device::Cpu));
    for (text, sum) in written.iter().zip(sums) {
        assert!((text.log_probability - f64::from(sum)).abs() < 0.3, "{text:?}: {sum}");
    }
}
