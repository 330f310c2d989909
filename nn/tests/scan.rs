//! The selective scan: all its ways against a loop.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{difference, numbers};
use proptest::prelude::*;
use qapipe_nn::{Scan, ScanWay, device, selective_scan};
use tch::{Device, Kind, Tensor};

/// Names of a scan's tensors, in order, for messages.
const NAMES: [&str; 8] = ["input", "step", "gate", "entry", "exit", "decay_log", "skip", "step_bias"];

/// A scan's tensors, and what its gradient is asked with.
struct Case {
    tensors: Vec<Tensor>,
    lengths: Vec<i64>,
    asked: Tensor,
}

impl Case {
    /// A case at random. Rows of some tensors lie apart, as they do in a model.
    fn new(lengths: &[i64], channels: i64, state: i64, seed: i64) -> Self {
        tch::manual_seed(seed);
        device::set_threads(2);
        let tokens = lengths.iter().sum();
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let apart = |width: i64| random(&[tokens, 3 * width]).narrow(1, width, width);
        let tensors = vec![
            random(&[tokens, channels]),
            random(&[tokens, channels]) * 2.0,
            apart(channels),
            apart(state),
            apart(state),
            random(&[channels, state]) * 0.5,
            random(&[channels]),
            random(&[channels]) - 2.0,
        ];
        Self { tensors, lengths: lengths.to_vec(), asked: random(&[tokens, channels]) }
    }

    fn ends(&self) -> Tensor {
        let ends = self.lengths.iter().scan(0, |end, length| {
            *end += length;
            i32::try_from(*end).ok()
        });
        Tensor::from_slice(&std::iter::once(0).chain(ends).collect::<Vec<i32>>())
    }

    fn run(&self, tensors: &[Tensor], state: Option<&Tensor>, way: ScanWay) -> Tensor {
        let [input, step, gate, entry, exit, decay_log, skip, step_bias] = tensors else { unreachable!() };
        let ends = self.ends().to(input.device());
        selective_scan(&Scan { input, step, gate, entry, exit, decay_log, skip, step_bias, ends: &ends, state }, way).unwrap()
    }

    /// The result, and the gradients of all tensors.
    fn gradients(&self, way: ScanWay) -> (Tensor, Vec<Tensor>) {
        let leaves: Vec<Tensor> = self.tensors.iter().map(|tensor| tensor.detach().set_requires_grad(true)).collect();
        let out = self.run(&leaves, None, way);
        out.backward_with(&self.asked.to(out.device()));
        (out.detach(), leaves.iter().map(Tensor::grad).collect())
    }

    /// The result by the definition, token by token, in f64; and the states at the ends. `begin` is what sequences begin with.
    fn by_hand(&self, begin: Option<&Tensor>) -> (Tensor, Tensor) {
        let double: Vec<Tensor> = self.tensors.iter().map(|tensor| tensor.to_kind(Kind::Double)).collect();
        let [input, step, gate, entry, exit, decay_log, skip, step_bias] = double.as_slice() else { unreachable!() };
        let step = (step + step_bias).softplus();
        let (decay, mut rows, mut states, mut token) = (-decay_log.exp(), Vec::new(), Vec::new(), 0);
        for (sequence, &length) in self.lengths.iter().enumerate() {
            let mut state = begin.map_or(decay.zeros_like(), |all| all.get(i64::try_from(sequence).unwrap()).to_kind(Kind::Double));
            for _ in 0..length {
                let (step, input) = (step.get(token).unsqueeze(1), input.get(token).unsqueeze(1));
                state = (&step * &decay).exp() * state + &step * &input * entry.get(token).unsqueeze(0);
                let read = state.matmul(&exit.get(token)) + skip * input.squeeze_dim(1);
                rows.push(read * gate.get(token).silu());
                token += 1;
            }
            states.push(state);
        }
        (Tensor::stack(&rows, 0), Tensor::stack(&states, 0))
    }
}

trait BackwardWith {
    fn backward_with(&self, gradient: &Tensor);
}

impl BackwardWith for Tensor {
    fn backward_with(&self, gradient: &Tensor) {
        (self * gradient).sum(Kind::Float).backward();
    }
}

/// The difference, for numbers of about one relatively and for large ones.
fn apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    difference(ours, theirs) / theirs.abs().max().double_value(&[]).max(1.0)
}

/// Compares all ways of a case with the loop and with each other.
fn compare(case: &Case, chunk: i64) {
    let (wanted, _) = case.by_hand(None);
    let (plain, slopes) = case.gradients(ScanWay::Plain { chunk: Some(chunk) });
    assert!(apart(&plain, &wanted) < 1e-5, "plain: {}", apart(&plain, &wanted));
    let (best, found) = case.gradients(ScanWay::Best);
    assert!(apart(&best, &wanted) < 1e-5, "kernel: {}", apart(&best, &wanted));
    for ((name, ours), theirs) in NAMES.iter().zip(&found).zip(&slopes) {
        assert!(apart(ours, theirs) < 2e-5, "{name}: {}", apart(ours, theirs));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn all_ways_agree(lengths in proptest::collection::vec(1_i64..40, 1..5), chunk in 1_i64..50, channels in 1_i64..40, state in 1_i64..9, seed in 0_i64..1000) {
        compare(&Case::new(&lengths, channels, state, seed), chunk);
    }
}

#[test]
fn long_sequences_agree() {
    compare(&Case::new(&[384, 7, 391], 24, 16, 1), 20);
    let case = Case::new(&[384, 1, 130], 16, 16, 2);
    let whole = case.run(&case.tensors, None, ScanWay::Plain { chunk: None });
    assert!(apart(&whole, &case.by_hand(None).0) < 1e-5);
}

#[test]
fn a_single_token_has_a_gradient() {
    compare(&Case::new(&[1], 3, 2, 5), 1);
    compare(&Case::new(&[1, 1, 1], 3, 2, 5), 1);
}

#[test]
fn the_gradient_is_the_slope() {
    let mut case = Case::new(&[3, 5], 2, 3, 4);
    let (_, found) = case.gradients(ScanWay::Best);
    let value = |case: &Case| (case.by_hand(None).0 * &case.asked).sum(Kind::Double).double_value(&[]);
    for (which, slopes) in found.iter().enumerate() {
        for at in [0, 1] {
            let moved = |case: &mut Case, by: f64| {
                let place = case.tensors[which].select(-1, at);
                let mut place = if place.dim() == 0 { place } else { place.get(0) };
                let _same = place.f_add_scalar_(by).unwrap();
            };
            let slope = slopes.select(-1, at);
            let slope = if slope.dim() == 0 { slope } else { slope.get(0) }.double_value(&[]);
            moved(&mut case, 0.01);
            let above = value(&case);
            moved(&mut case, -0.02);
            let measured = (above - value(&case)) / 0.02;
            moved(&mut case, 0.01);
            assert!((slope - measured).abs() < 1e-2 * (1.0 + measured.abs()), "{}: {slope} and {measured}", NAMES[which]);
        }
    }
}

#[test]
fn a_scan_goes_on_from_a_state() {
    for way in [ScanWay::Best, ScanWay::Plain { chunk: Some(4) }] {
        let case = Case::new(&[5, 1, 12], 18, 4, 6);
        let begin = Tensor::randn([3, 18, 4], (Kind::Float, Device::Cpu));
        let (wanted, end) = case.by_hand(Some(&begin));
        let state = begin.copy();
        let found = tch::no_grad(|| case.run(&case.tensors, Some(&state), way));
        assert!(apart(&found, &wanted) < 1e-5 && apart(&state, &end) < 1e-5, "{way:?}");
    }
}

#[test]
fn half_precision_rounds_its_input_and_its_output_alone() {
    let case = Case::new(&[30, 9], 20, 16, 7);
    let half: Vec<Tensor> =
        case.tensors.iter().enumerate().map(|(at, one)| if at < 5 { one.to_kind(Kind::BFloat16) } else { one.copy() }).collect();
    let back: Vec<Tensor> = half.iter().map(|one| one.to_kind(Kind::Float)).collect();
    for way in [ScanWay::Best, ScanWay::Plain { chunk: None }] {
        let (ours, theirs) = (case.run(&half, None, way), case.run(&back, None, way));
        assert_eq!(ours.kind(), Kind::BFloat16);
        assert_eq!(numbers(&ours), numbers(&theirs.to_kind(Kind::BFloat16)));
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let case = Case::new(&[60, 33], 70, 16, 8);
    let run = |threads| {
        device::set_threads(threads);
        let (out, slopes) = case.gradients(ScanWay::Best);
        std::iter::once(&out).chain(&slopes).flat_map(numbers).map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(2));
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let case = Case::new(&[4], 3, 2, 9);
    let [input, step, gate, entry, exit, decay_log, skip, step_bias] = case.tensors.as_slice() else { unreachable!() };
    let ends = case.ends();
    let scan = Scan { input, step, gate, entry, exit, decay_log, skip, step_bias, ends: &ends, state: None };
    assert!(selective_scan(&Scan { skip: input, ..scan }, ScanWay::Best).unwrap_err().to_string().contains("selective scan"));
    assert!(selective_scan(&Scan { decay_log: &decay_log.to_kind(Kind::BFloat16), ..scan }, ScanWay::Best).is_err());
    let wide = input.to_kind(Kind::Double);
    assert!(selective_scan(&Scan { input: &wide, ..scan }, ScanWay::Kernel).unwrap_err().to_string().contains("no kernel"));
}

/// The CUDA device, where there is one.
fn cuda() -> Option<Device> {
    let found = device::resolve("cuda:0");
    if let Err(error) = &found {
        eprintln!("skipped: {error}");
    }
    found.ok()
}

#[test]
fn the_kernel_for_cuda_agrees_with_plain_operations() {
    let Some(place) = cuda() else { return };
    for (lengths, channels, state) in [(&[384, 1, 17, 391, 16][..], 96, 16), (&[5, 33], 20, 13), (&[64], 1, 1)] {
        let case = Case::new(lengths, channels, state, 3);
        for (kind, most) in [(Kind::Float, 1e-4), (Kind::BFloat16, 2e-2)] {
            let rounded = |at: usize, tensor: &Tensor| if at < 5 { tensor.to_kind(kind).to_kind(Kind::Float) } else { tensor.copy() };
            let exact = Case {
                tensors: case.tensors.iter().enumerate().map(|(at, one)| rounded(at, one)).collect(),
                ..Case::new(lengths, channels, state, 3)
            };
            let moved = |at: usize, tensor: &Tensor| tensor.to(place).to_kind(if at < 5 { kind } else { Kind::Float });
            let card = Case {
                tensors: case.tensors.iter().enumerate().map(|(at, one)| moved(at, one)).collect(),
                ..Case::new(lengths, channels, state, 3)
            };
            let (out, slopes) = card.gradients(ScanWay::Kernel);
            let (wanted, theirs) = exact.gradients(ScanWay::Plain { chunk: None });
            let found = apart(&out.to_kind(Kind::Float).to(Device::Cpu), &wanted);
            assert!(found < most, "{kind:?} {lengths:?}: {found}");
            for ((name, ours), theirs) in NAMES.iter().zip(&slopes).zip(&theirs) {
                let found = apart(&ours.to_kind(Kind::Float).to(Device::Cpu), theirs);
                assert!(found < most, "{kind:?} {lengths:?} {name}: {found}");
            }
        }
    }
}

#[test]
fn the_kernel_for_cuda_goes_on_from_states() {
    let Some(place) = cuda() else { return };
    let case = Case::new(&[7, 40], 24, 16, 5);
    let card: Vec<Tensor> = case.tensors.iter().map(|tensor| tensor.to(place)).collect();
    let begin = Tensor::randn([2, 24, 16], (Kind::Float, Device::Cpu));
    let state = begin.to(place);
    let out = case.run(&card, Some(&state), ScanWay::Kernel);
    let (wanted, ends) = case.by_hand(Some(&begin));
    assert!(apart(&out.to(Device::Cpu), &wanted) < 1e-5);
    assert!(apart(&state.to(Device::Cpu), &ends) < 1e-5);
}
