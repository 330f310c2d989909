//! Mamba on CUDA as on the CPU. Passes without doing anything where there is no CUDA device.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use qapipe_nn::{Form, Forward, Limits, MambaConfig, MambaForCausalLm, Network, Packed, Pairs, Placement, Writer, device, greedy};
use tch::{Device, Kind, Tensor};

use common::{cuda, difference};

fn model(placement: Placement) -> MambaForCausalLm {
    device::set_threads(1);
    let text =
        r#"{"model_type": "mamba", "vocab_size": 200, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 16, "eos_token_id": 1}"#;
    MambaForCausalLm::init(&MambaConfig::parse(text).unwrap(), &placement, 11).unwrap()
}

/// Sources and targets of uneven lengths.
fn rows() -> Vec<(Vec<u32>, Vec<u32>)> {
    let ids = |length: u32, step: u32| (0..length).map(|at| 2 + (at * step + length) % 197).collect::<Vec<u32>>();
    [(384, 16), (7, 1), (130, 5), (64, 9), (1, 2)].into_iter().map(|(source, target)| (ids(source, 7), ids(target, 11))).collect()
}

/// Log-probabilities of the targets; gradients are gathered.
fn pass(model: &mut MambaForCausalLm) -> Tensor {
    let rows = rows();
    let rows: Vec<(&[u32], &[u32])> = rows.iter().map(|(source, target)| (source.as_slice(), target.as_slice())).collect();
    let pairs = Pairs::collate(Form::Causal, &rows).unwrap().to_device(model.parameters().device()).unwrap();
    let scores = model.forward(&pairs, &mut Forward::training(1)).unwrap();
    model.parameters_mut().backward(&scores.mean(Kind::Float).neg()).unwrap();
    scores.detach().to(Device::Cpu)
}

/// Compares a model of one kind on CUDA with f32 on the CPU: log-probabilities absolutely, gradients relatively.
fn compare(place: Device, kind: Kind, score: f64, slope: f64) {
    let mut host = model(Placement::training(Device::Cpu));
    let mut card = model(Placement::training(place).with_kind(kind));
    let found = difference(&pass(&mut card), &pass(&mut host));
    assert!(found < score, "{kind:?}: {found}");
    for name in host.parameters().iter().flat_map(|one| one.names()) {
        let (one, two) = (card.parameters().gradient(name).unwrap(), host.parameters().gradient(name).unwrap());
        let found = ((&one - &two).norm() / two.norm()).double_value(&[]);
        eprintln!("{kind:?}, {name}: {found:.5}");
        assert!(found < slope, "{kind:?}, {name}: {found}");
    }
}

#[test]
fn half_precision_is_close_on_cuda() {
    let Some(place) = cuda() else { return };
    compare(place, Kind::BFloat16, 0.3, 0.15);
}

#[test]
fn full_precision_is_closer_on_cuda() {
    let Some(place) = cuda() else { return };
    compare(place, Kind::Float, 2e-3, 5e-3);
}

#[test]
fn cuda_writes_what_the_cpu_writes() {
    let Some(place) = cuda() else { return };
    let rows = rows();
    let sources: Vec<&[u32]> = rows.iter().map(|(source, _)| source.as_slice()).collect();
    let write = |place: Device| {
        let model = model(Placement::inference(place).with_kind(Kind::Float));
        let sources = Packed::of_one_segment(&sources).unwrap().to_device(place).unwrap();
        greedy(&model, &sources, &Limits { most: 12, ends: vec![1], not_first: None }).unwrap()
    };
    for (card, host) in write(place).into_iter().zip(write(Device::Cpu)) {
        assert_eq!(card.tokens, host.tokens);
        assert!((card.log_probability - host.log_probability).abs() < 1e-2);
    }
}
