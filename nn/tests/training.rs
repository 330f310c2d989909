//! Training: the same bits again, micro-batches, going on, dropout, the loss.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use qapipe_nn::{
    AdamW, AdamWConfig, BertConfig, BertForQuestionAnswering, Forward, Network, Packed, Placement, Reader, SpanLogits, Weights, span_loss,
};
use tch::{Device, Kind, Tensor};

use common::{config, difference, numbers, packed, rows, values};

/// A model with dropout, and all that trains it.
struct Trainer {
    model: BertForQuestionAnswering,
    optimiser: AdamW,
    forward: Forward,
}

impl Trainer {
    fn new() -> Self {
        let config = BertConfig { hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1, ..config() };
        let model = BertForQuestionAnswering::init(&config, &Placement::training(Device::Cpu), 5).unwrap();
        let optimiser = AdamW::new(model.parameters(), AdamWConfig::default()).unwrap();
        Self { model, optimiser, forward: Forward::training(9) }
    }

    fn steps(&mut self, count: usize) -> Vec<f32> {
        let (ids, contexts, starts, ends) = rows();
        let batch = packed(&ids, &contexts);
        (0..count).map(|_| self.step(&batch, &starts, &ends)).collect()
    }

    fn step(&mut self, batch: &Packed, starts: &Tensor, ends: &Tensor) -> f32 {
        let logits = self.model.forward(batch, &mut self.forward).unwrap();
        let loss = span_loss(&logits, batch, starts, ends).unwrap();
        self.model.parameters_mut().backward(&loss).unwrap();
        let _norm = self.optimiser.clip_grad_norm(self.model.parameters_mut(), 1.0).unwrap();
        self.optimiser.step(self.model.parameters_mut(), 0.01).unwrap();
        numbers(&loss)[0]
    }
}

#[test]
fn the_same_training_gives_the_same_bits() {
    let (mut first, mut second) = (Trainer::new(), Trainer::new());
    let losses = first.steps(20);
    let _elsewhere = Tensor::rand([100], (Kind::Float, Device::Cpu));
    assert_eq!(losses, second.steps(20));
    assert_eq!(values(&first.model), values(&second.model));
    assert!(losses[19] < losses[0]);
}

#[test]
fn a_training_that_goes_on_is_one_that_was_not_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut whole, mut first) = (Trainer::new(), Trainer::new());
    whole.steps(6);
    first.steps(3);
    first.model.parameters().save(&folder.path().join("model")).unwrap();
    first.optimiser.save(first.model.parameters(), &folder.path().join("state")).unwrap();
    let mut second = Trainer::new();
    second.model.parameters_mut().load(&Weights::open(&folder.path().join("model")).unwrap()).unwrap();
    second.optimiser.load(second.model.parameters(), &folder.path().join("state")).unwrap();
    second.forward = Forward::training(9).at_pass(first.forward.pass());
    second.steps(3);
    assert_eq!(second.optimiser.steps(), 6);
    assert_eq!(values(&second.model), values(&whole.model));
}

#[test]
fn a_file_that_is_no_state_is_refused() {
    let mut trainer = Trainer::new();
    let error = trainer.optimiser.load(trainer.model.parameters(), &common::fixture().join("model.safetensors")).unwrap_err();
    assert!(error.to_string().contains("holds no optimiser state"), "{error}");
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let (ids, contexts, starts, ends) = rows();
    let (mut whole, mut pieces) = (common::model(), common::model());
    let gradient = |model: &mut BertForQuestionAnswering, from: usize, to: usize, share: f64| {
        let batch = packed(&ids[from..to], &contexts[from..to]);
        let cut = |labels: &Tensor| labels.slice(0, i64::try_from(from).unwrap(), i64::try_from(to).unwrap(), 1);
        let logits = model.forward(&batch, &mut Forward::training(0)).unwrap();
        let loss = span_loss(&logits, &batch, &cut(&starts), &cut(&ends)).unwrap() * share;
        model.parameters_mut().backward(&loss).unwrap();
    };
    gradient(&mut whole, 0, 3, 1.0);
    gradient(&mut pieces, 0, 1, 1.0 / 3.0);
    gradient(&mut pieces, 1, 3, 2.0 / 3.0);
    for name in ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.value.bias", "qa_outputs.weight"] {
        let of = |model: &BertForQuestionAnswering| model.parameters().gradient(name).unwrap();
        assert!(difference(&of(&whole), &of(&pieces)) < 1e-6, "{name}");
    }
    pieces.parameters_mut().zero_grad().unwrap();
    assert!(pieces.parameters().gradient("qa_outputs.weight").is_err());
}

#[test]
fn a_step_needs_a_gradient_and_uses_it_up() {
    let mut trainer = Trainer::new();
    let before = values(&trainer.model);
    assert!(trainer.optimiser.step(trainer.model.parameters_mut(), 0.1).is_err());
    assert!(trainer.optimiser.clip_grad_norm(trainer.model.parameters_mut(), 1.0).is_err());
    assert_eq!(values(&trainer.model), before);
    trainer.steps(1);
    assert!(trainer.optimiser.step(trainer.model.parameters_mut(), 0.1).is_err());
    assert_ne!(values(&trainer.model), before);
}

#[test]
fn a_gradient_left_at_the_leaves_is_found() {
    let (ids, contexts, starts, ends) = rows();
    let (mut trainer, batch) = (Trainer::new(), packed(&ids, &contexts));
    let logits = trainer.model.forward(&batch, &mut trainer.forward).unwrap();
    span_loss(&logits, &batch, &starts, &ends).unwrap().backward();
    trainer.optimiser.step(trainer.model.parameters_mut(), 0.01).unwrap();
    let mut other = Trainer::new();
    let logits = other.model.forward(&batch, &mut other.forward).unwrap();
    let loss = span_loss(&logits, &batch, &starts, &ends).unwrap();
    other.model.parameters_mut().backward(&loss).unwrap();
    other.optimiser.step(other.model.parameters_mut(), 0.01).unwrap();
    assert_eq!(values(&trainer.model), values(&other.model));
}

#[test]
fn snapshots_bring_values_back() {
    let mut trainer = Trainer::new();
    let (before, kept) = (values(&trainer.model), trainer.model.parameters().snapshot().unwrap());
    trainer.steps(2);
    assert_ne!(values(&trainer.model), before);
    trainer.model.parameters_mut().restore(&kept).unwrap();
    assert_eq!(values(&trainer.model), before);
    let (ids, contexts, ..) = rows();
    let answers =
        |model: &BertForQuestionAnswering| numbers(&model.forward(&packed(&ids, &contexts), &mut Forward::inference()).unwrap().start);
    assert_eq!(answers(&trainer.model), answers(&Trainer::new().model));
}

#[test]
fn dropout_is_only_for_training() {
    let (ids, contexts, ..) = rows();
    let (trainer, batch) = (Trainer::new(), packed(&ids, &contexts));
    let answers = |forward: &mut Forward| trainer.model.forward(&batch, forward).unwrap().start;
    assert_eq!(numbers(&answers(&mut Forward::inference())), numbers(&answers(&mut Forward::inference())));
    assert!(!answers(&mut Forward::inference()).requires_grad());
    let mut training = Forward::training(1);
    let (first, second) = (answers(&mut training), answers(&mut training));
    assert!(first.requires_grad());
    assert_ne!(numbers(&first), numbers(&second));
    assert_eq!(numbers(&second), numbers(&answers(&mut Forward::training(1).at_pass(1))));
}

#[test]
fn bf16_copies_follow_the_masters() {
    let (ids, contexts, starts, ends) = rows();
    let placement = Placement::training(Device::Cpu).with_kind(Kind::BFloat16);
    let weights = Weights::open_folder(&common::fixture()).unwrap();
    let mut model = BertForQuestionAnswering::load(&weights, &config(), &placement, 0).unwrap().0;
    let mut optimiser = AdamW::new(model.parameters(), AdamWConfig::default()).unwrap();
    let batch = packed(&ids, &contexts);
    assert_eq!(model.parameters().resident_bytes(), 2 * model.parameters().count());
    let mut losses = Vec::new();
    for _ in 0..10 {
        let logits = model.forward(&batch, &mut Forward::training(0)).unwrap();
        assert_eq!(logits.start.kind(), Kind::Float);
        let loss = span_loss(&logits, &batch, &starts, &ends).unwrap();
        model.parameters_mut().backward(&loss).unwrap();
        let norm = optimiser.clip_grad_norm(model.parameters_mut(), 1.0).unwrap();
        assert!(norm.double_value(&[]).is_finite());
        optimiser.step(model.parameters_mut(), 0.003).unwrap();
        losses.push(numbers(&loss)[0]);
    }
    assert!((f64::from(losses[0]) - common::golden().tensor("row_loss").unwrap().double_value(&[0])).abs() < 0.1);
    assert!(losses[9] < losses[0] - 0.1, "{losses:?}");
}

/// The span loss of plain numbers.
fn loss_of(start: &[f32], end: &[f32], batch: &Packed, starts: &[i64], ends: &[i64]) -> f64 {
    let logits = SpanLogits { start: Tensor::from_slice(start), end: Tensor::from_slice(end) };
    span_loss(&logits, batch, &Tensor::from_slice(starts), &Tensor::from_slice(ends)).unwrap().double_value(&[])
}

#[test]
fn the_loss_is_a_cross_entropy_over_each_sequence() {
    let batch = packed(&[vec![1, 2], vec![3]], &[0, 0]);
    let flat = loss_of(&[0.0, 0.0, 4.0], &[0.0, 0.0, 9.0], &batch, &[1, 0], &[0, 0]);
    assert!((flat - 0.5 * 2.0_f64.ln()).abs() < 1e-6);
    let outside = loss_of(&[0.0, 0.0, 4.0], &[0.0, 0.0, 9.0], &batch, &[1, 1], &[0, -1]);
    assert!((outside - 2.0_f64.ln()).abs() < 1e-6);
    assert!(loss_of(&[1.0, 2.0, 4.0], &[0.0, 0.0, 9.0], &batch, &[2, 1], &[2, 7]).abs() < 1e-12);
    let logits = SpanLogits { start: Tensor::zeros([3], (Kind::Float, Device::Cpu)), end: Tensor::zeros([3], (Kind::Float, Device::Cpu)) };
    assert!(span_loss(&logits, &batch, &Tensor::from_slice(&[0_i64]), &Tensor::from_slice(&[0_i64])).is_err());
}

#[test]
fn the_gradient_of_the_loss_is_its_slope() {
    let batch = packed(&[vec![1, 2, 3], vec![3], vec![4, 5]], &[0, 0, 0]);
    let values = [0.3, -1.2, 0.8, 2.0, -0.4, 0.1];
    let (starts, ends) = (Tensor::from_slice(&[2_i64, 0, 5]), Tensor::from_slice(&[1_i64, 0, 1]));
    let leaf = |values: &[f64]| Tensor::from_slice(values).set_requires_grad(true);
    let (start, end) = (leaf(&values), leaf(&[0.0; 6]));
    let loss = |start: &Tensor, end: &Tensor| {
        let logits = SpanLogits { start: start.shallow_clone(), end: end.shallow_clone() };
        span_loss(&logits, &batch, &starts, &ends).unwrap()
    };
    loss(&start, &end).backward();
    let slope = Vec::<f64>::try_from(start.grad()).unwrap();
    for at in 0..values.len() {
        let moved = |by: f64| {
            let mut moved = values;
            moved[at] += by;
            loss(&Tensor::from_slice(&moved), &end.detach()).double_value(&[])
        };
        let measured = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((slope[at] - measured).abs() < 1e-8, "{at}: {} and {measured}", slope[at]);
    }
    assert!(slope[3].abs() < 1e-12 && slope[4].abs() < 1e-12);
}
