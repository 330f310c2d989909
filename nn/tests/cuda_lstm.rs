//! LSTMs on CUDA as on the CPU. Passes without doing anything where there is no CUDA device.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use qapipe_nn::{Forward, LstmConfig, LstmForQuestionAnswering, Network, Placement, Reader, device, span_loss};
use tch::{Device, Kind, Tensor};

use common::{cuda, difference, packed};

fn model(more: &str, placement: Placement) -> LstmForQuestionAnswering {
    device::set_threads(1);
    let text = format!(r#"{{"model_type": "lstm", "vocab_size": 200, "word_size": 40, "dropout_rate": 0.0, {more}}}"#);
    LstmForQuestionAnswering::init(&LstmConfig::parse(&text).unwrap(), &placement, 11).unwrap()
}

/// The loss and the logits of windows of uneven lengths; gradients are gathered.
fn pass(model: &mut LstmForQuestionAnswering) -> (f64, Tensor) {
    let rows: Vec<Vec<u32>> = [(300, 7), (24, 5), (131, 11), (9, 3)]
        .iter()
        .map(|&(length, step)| (0..length).map(|at| 2 + (at * step + length) % 197).collect())
        .collect();
    let batch = packed(&rows, &[12, 8, 20, 7]).to_device(model.parameters().device()).unwrap();
    let place = batch.device();
    let logits = model.forward(&batch, &mut Forward::training(1)).unwrap();
    let labels = |list: &[i64]| Tensor::from_slice(list).to(place);
    let loss = span_loss(&logits, &batch, &labels(&[200, 10, 0, 7]), &labels(&[203, 10, 0, 7])).unwrap();
    model.parameters_mut().backward(&loss).unwrap();
    (loss.double_value(&[]), logits.start.detach().to(Device::Cpu))
}

/// Compares a model of one kind on CUDA with f32 on the CPU: logits absolutely, gradients relatively.
fn compare(more: &str, place: Device, kind: Kind, score: f64, slope: f64) {
    let mut host = model(more, Placement::training(Device::Cpu));
    let mut card = model(more, Placement::training(place).with_kind(kind));
    let ((one, two), (first, second)) = (pass(&mut card), pass(&mut host));
    let found = difference(&two, &second);
    assert!(found < score && (one - first).abs() < score, "{kind:?}, {more}: {found}, {one} {first}");
    for name in host.parameters().iter().flat_map(|one| one.names()) {
        let (one, two) = (card.parameters().gradient(name).unwrap(), host.parameters().gradient(name).unwrap());
        let size = two.norm().double_value(&[]);
        let found = (&one - &two).norm().double_value(&[]) / size;
        eprintln!("{kind:?}, {more}, {name}: {found:.5} of {size:.2e}");
        // What only rounding makes has no direction.
        assert!(found < slope || size < 1e-4, "{kind:?}, {more}, {name}: {found} of {size}");
    }
}

const DOT: &str = r#""attention": "dot", "hidden_size": 32"#;
const HEADS: &str = r#""attention": "multi-head", "head": "max-pooling", "residual": true, "hidden_size": 96"#;
const SELF: &str = r#""attention": "self-attention", "head": "max-pooling", "residual": true, "hidden_size": 64"#;
const BIDAF: &str = r#""attention": "bidaf", "head": "span", "hidden_size": 128, "exact_match": true, "character_vocab_size": 30"#;
/// A width that only libtorch's own LSTM takes.
const ODD: &str = r#""attention": "dot", "hidden_size": 20, "num_attention_heads": 1"#;

#[test]
fn half_precision_is_close_on_cuda() {
    let Some(place) = cuda() else { return };
    for more in [DOT, BIDAF, ODD] {
        compare(more, place, Kind::BFloat16, 0.05, 0.1);
    }
    // Rounding may choose another token as the greatest, which then has all of the gradient.
    for more in [HEADS, SELF] {
        compare(more, place, Kind::BFloat16, 0.05, 0.25);
    }
}

#[test]
fn full_precision_is_closer_on_cuda() {
    let Some(place) = cuda() else { return };
    for more in [DOT, HEADS, SELF, BIDAF, ODD] {
        compare(more, place, Kind::Float, 2e-3, 1e-2);
    }
}
