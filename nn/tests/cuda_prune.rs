//! Which weights stay on CUDA: kernels choose what plain operations choose. Passes without doing anything where there is no CUDA device.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use qapipe_nn::{
    AnyModel, BertConfig, BertForQuestionAnswering, Budget, Forward, Masking, Network, Packed, Parameters, Placement, Pruner, Selection,
    Tuning, Worth, device, models, span_loss,
};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use common::cuda;

/// A BERT at random of some sizes, saved.
fn saved(layers: i64, hidden: i64, intermediate: i64) -> TempDir {
    device::set_threads(8);
    let config = BertConfig {
        vocab_size: 200,
        hidden_size: hidden,
        num_hidden_layers: layers,
        // Heads of 32 numbers, as kernels of attention want them.
        num_attention_heads: (hidden / 32).max(1),
        intermediate_size: intermediate,
        max_position_embeddings: 64,
        initializer_range: 0.1,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        ..BertConfig::default()
    };
    let place = tempfile::tempdir().unwrap();
    BertForQuestionAnswering::init(&config, &Placement::inference(Device::Cpu), 4).unwrap().save(place.path()).unwrap();
    place
}

/// It with masks, with scores or with weights that train.
fn masked(folder: &TempDir, placement: &Placement, worth: Worth) -> AnyModel {
    let scores = worth == Worth::Score;
    let masking = Masking { targets: Selection::default(), scores, weights: !scores, head: false, score_rate: 1.0 };
    models::load_tuned(folder.path(), placement, 0, &Tuning::Masks(masking)).unwrap().0
}

fn names(parameters: &Parameters) -> Vec<String> {
    parameters.masked().map(|module| format!("{module}.weight")).collect()
}

/// Scores for every mask, drawn on the host: at random; with many equal ones, zeros of both signs among them; or all equal.
fn score(parameters: &mut Parameters, sort: i64) {
    tch::manual_seed(7 + sort);
    for (at, name) in names(parameters).into_iter().enumerate() {
        let shape = parameters.value(&name).unwrap().size();
        let values = Tensor::randn(shape, (Kind::Float, Device::Cpu)) + at as f64 / 4.0;
        let values = match sort {
            0 => values,
            1 => values.randn_like().sign() * (values * 2.0).round(),
            _ => values.zeros_like(),
        };
        parameters.set(&format!("{name}.scores"), &values).unwrap();
    }
}

/// Which weights stay, of each matrix: no weight is zero by itself.
fn stay(parameters: &Parameters) -> Vec<Tensor> {
    names(parameters).iter().map(|name| parameters.value(name).unwrap().ne(0.0)).collect()
}

/// In how many places two choices differ, at most in one matrix.
fn apart(one: &[Tensor], two: &[Tensor]) -> i64 {
    one.iter().zip(two).map(|(one, two)| one.ne_tensor(two).sum(Kind::Int64).int64_value(&[])).max().unwrap()
}

const KEEPS: [f64; 7] = [0.0, 0.001, 0.1, 1.0 / 3.0, 0.5, 0.999, 1.0];

/// Asserts that kernels choose what plain operations choose on the card; and on the host, where all is exact.
fn compare(card: &Parameters, host: Option<&Parameters>, worth: Worth, what: &str) {
    for (budget, most) in [(Budget::Local, 0), (Budget::Global, 0), (Budget::Shared, 1)] {
        for (keep, temperature) in KEEPS.into_iter().zip([1.0, 0.3, 4.0].into_iter().cycle()) {
            let pruner = Pruner { worth, budget, temperature };
            pruner.prune(card, keep).unwrap();
            let found = stay(card);
            pruner.prune_plainly(card, keep).unwrap();
            let off = apart(&found, &stay(card));
            assert!(off <= most, "{what} {budget:?} {keep}: {off}");
            pruner.prune(card, keep).unwrap();
            assert_eq!(apart(&found, &stay(card)), 0, "{what} {budget:?} {keep}: not the same again");
            if let Some(host) = host.filter(|_| budget != Budget::Shared) {
                pruner.prune(host, keep).unwrap();
                assert_eq!(apart(&found, &stay(host)), 0, "{what} {budget:?} {keep}: not as on the host");
            }
        }
    }
}

#[test]
fn kernels_choose_by_scores_what_plain_operations_choose() {
    let Some(place) = cuda() else { return };
    // Matrices of a few numbers that begin anywhere, and some of several chunks.
    for (layers, hidden, intermediate) in [(3, 8, 17), (2, 128, 517)] {
        let folder = saved(layers, hidden, intermediate);
        let mut host = masked(&folder, &Placement::training(Device::Cpu), Worth::Score);
        for kind in [Kind::BFloat16, Kind::Float] {
            let mut card = masked(&folder, &Placement::training(place).with_kind(kind), Worth::Score);
            for sort in 0..3 {
                score(host.network_mut().parameters_mut(), sort);
                score(card.network_mut().parameters_mut(), sort);
                let what = format!("{hidden} {kind:?} {sort}");
                compare(card.network().parameters(), Some(host.network().parameters()), Worth::Score, &what);
            }
        }
    }
}

#[test]
fn kernels_choose_by_magnitude_what_plain_operations_choose() {
    let Some(place) = cuda() else { return };
    // Rows of an odd length: in bf16 most matrices begin at no multiple of eight bytes, and weights are often equal.
    for (layers, hidden, intermediate) in [(3, 8, 17), (2, 128, 517)] {
        let folder = saved(layers, hidden, intermediate);
        let host = masked(&folder, &Placement::training(Device::Cpu), Worth::Magnitude);
        for kind in [Kind::BFloat16, Kind::Float] {
            let card = masked(&folder, &Placement::training(place).with_kind(kind), Worth::Magnitude);
            let host = (kind == Kind::Float).then(|| host.network().parameters());
            compare(card.network().parameters(), host, Worth::Magnitude, &format!("{hidden} {kind:?}"));
        }
    }
}

#[test]
fn scores_that_are_no_numbers_neither_hang_nor_spread() {
    let Some(place) = cuda() else { return };
    let mut card = masked(&saved(2, 8, 17), &Placement::training(place), Worth::Score);
    let parameters = card.network_mut().parameters_mut();
    score(parameters, 0);
    let name = names(parameters).swap_remove(0);
    let shape = parameters.value(&name).unwrap().size();
    parameters.set(&format!("{name}.scores"), &Tensor::full(shape, f64::NAN, (Kind::Float, Device::Cpu))).unwrap();
    let count = |parameters: &Parameters| stay(parameters).iter().map(|one| one.sum(Kind::Int64).int64_value(&[])).collect::<Vec<_>>();
    for budget in [Budget::Local, Budget::Global, Budget::Shared] {
        Pruner { worth: Worth::Score, budget, temperature: 1.0 }.prune(parameters, 0.5).unwrap();
        let all: Vec<i64> = stay(parameters).iter().map(|one| i64::try_from(one.numel()).unwrap()).collect();
        match budget {
            Budget::Local => assert_eq!(count(parameters), all.iter().map(|all| all / 2).collect::<Vec<_>>()),
            Budget::Global => {
                assert_eq!(count(parameters).iter().sum::<i64>(), all.iter().sum::<i64>() / 2);
                assert_eq!(count(parameters)[0], all[0]);
            }
            _ => assert_eq!(count(parameters)[0], 0),
        }
    }
}

/// A training pass over a model with masks; all gradients by name.
fn pass(model: &mut AnyModel) -> Vec<(String, Tensor)> {
    let AnyModel::Reader(reader) = model else { unreachable!() };
    let place = reader.parameters().device();
    let ids: Vec<Vec<u32>> = [40_u32, 7, 64].iter().map(|&length| (0..length).map(|at| 1 + (at * 7 + length) % 199).collect()).collect();
    let rows: Vec<(&[u32], u32)> = ids.iter().map(|row| (row.as_slice(), 5)).collect();
    let batch = Packed::from_sequences(&rows, Device::Cpu).unwrap();
    let batch = if place.is_cuda() { batch.pinned().unwrap().to_device(place).unwrap() } else { batch };
    let labels = Tensor::from_slice(&[20_i64, 3, 50]).to(place);
    let logits = reader.forward(&batch, &mut Forward::training(1)).unwrap();
    let loss = span_loss(&logits, &batch, &labels, &labels).unwrap();
    reader.parameters_mut().backward(&loss).unwrap();
    gradients(reader.parameters())
}

fn gradients(parameters: &Parameters) -> Vec<(String, Tensor)> {
    let names = parameters.iter().flat_map(|one| one.names());
    names.map(|name| (name.to_owned(), parameters.gradient(name).unwrap())).collect()
}

#[test]
fn scores_learn_on_cuda_as_on_the_cpu_and_are_charged() {
    let Some(place) = cuda() else { return };
    let folder = saved(2, 128, 256);
    let mut host = masked(&folder, &Placement::training(Device::Cpu), Worth::Score);
    let mut card = masked(&folder, &Placement::training(place), Worth::Score);
    let pruner = Pruner { worth: Worth::Score, budget: Budget::Local, temperature: 1.0 };
    for model in [&mut host, &mut card] {
        score(model.network_mut().parameters_mut(), 0);
        pruner.prune(model.network().parameters(), 0.6).unwrap();
    }
    let (ours, theirs) = (pass(&mut card), pass(&mut host));
    for ((name, one), (_, two)) in ours.iter().zip(&theirs) {
        let found = ((one - two).norm() / two.norm()).double_value(&[]);
        // Those of keys and queries are small differences of large numbers.
        assert!(found < if name.contains("query") || name.contains("key") { 0.3 } else { 0.1 }, "{name}: {found}");
    }
    let parameters = card.network_mut().parameters_mut();
    parameters.charge_scores(1e6).unwrap();
    for ((name, after), (_, before)) in gradients(parameters).iter().zip(&ours) {
        let added = after.to_kind(Kind::Double) - before.to_kind(Kind::Double);
        let scores = parameters.value(name).unwrap().to_kind(Kind::Double);
        let slope = scores.sigmoid() * (-&scores).sigmoid() * 1e6 / (scores.numel() * ours.len()) as f64;
        let off = ((added - &slope).abs() - before.abs() * 1.2e-7) / slope;
        assert!(off.max().double_value(&[]) < 1e-6, "{name}");
    }
}

/// Microseconds of a piece of work: until the host may go on, and until the device is done.
fn time(place: Device, times: u32, mut work: impl FnMut()) -> [f64; 2] {
    work();
    device::synchronize(place).unwrap();
    let start = std::time::Instant::now();
    (0..times).for_each(|_| work());
    let host = start.elapsed();
    device::synchronize(place).unwrap();
    [host, start.elapsed()].map(|elapsed| elapsed.as_secs_f64() * 1e6 / f64::from(times))
}

/// Tells how fast kernels and plain operations choose for matrices like MiniLM's and BERT-base's, and asserts that kernels are the faster ones.
#[test]
fn kernels_are_fast() {
    let Some(place) = cuda() else { return };
    for (what, layers, hidden) in [("36 matrices of MiniLM", 6, 384), ("72 matrices of BERT-base", 12, 768)] {
        let folder = saved(layers, hidden, hidden * 4);
        for worth in [Worth::Score, Worth::Magnitude] {
            let mut card = masked(&folder, &Placement::training(place), worth);
            let sorts: &[&str] = if worth == Worth::Score { &["all zero", "random"] } else { &["weights"] };
            for &sort in sorts {
                if sort == "random" {
                    score(card.network_mut().parameters_mut(), 0);
                }
                let parameters = card.network().parameters();
                for budget in [Budget::Local, Budget::Shared, Budget::Global] {
                    let pruner = Pruner { worth, budget, temperature: 1.0 };
                    let [host, kernels] = time(place, 20, || pruner.prune(parameters, 0.3).unwrap());
                    let [_, plain] = time(place, 5, || pruner.prune_plainly(parameters, 0.3).unwrap());
                    eprintln!("{what}, {worth:?} {sort}, {budget:?}: {kernels:.0} us ({host:.0} on the host), plainly {plain:.0} us");
                    assert!(kernels * 2.0 < plain, "{kernels} {plain}");
                }
            }
        }
    }
}

/// Tells how fast scores are charged.
#[test]
fn charging_is_fast() {
    let Some(place) = cuda() else { return };
    let mut card = masked(&saved(6, 384, 1536), &Placement::training(place), Worth::Score);
    let _gradients = pass(&mut card);
    let parameters = card.network_mut().parameters_mut();
    let [host, charge] = time(place, 20, || parameters.charge_scores(1.0).unwrap());
    eprintln!("36 matrices of MiniLM: charged in {charge:.0} us ({host:.0} on the host)");
    assert!(charge < 1000.0, "{charge}");
}
