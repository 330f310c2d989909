//! Masks: what their scores learn, which weights stay, and how that is stored. All of it is exact.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;

use qapipe_nn::{
    AnyModel, BertConfig, BertForQuestionAnswering, Budget, Forward, Masking, Network, Parameters, Placement, Pruner, Selection, Tuning,
    Weights, Worth, models, span_loss,
};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use common::{fixture, numbers, packed, rows};

/// A BERT of which some matrices have a number of weights that is no multiple of eight, saved.
fn saved() -> TempDir {
    let config = BertConfig { intermediate_size: 17, num_hidden_layers: 3, initializer_range: 0.3, ..common::config() };
    let place = tempfile::tempdir().unwrap();
    BertForQuestionAnswering::init(&config, &Placement::inference(Device::Cpu), 4).unwrap().save(place.path()).unwrap();
    place
}

fn masking(weights: bool) -> Tuning {
    Tuning::Masks(Masking { targets: Selection::default(), scores: true, weights, head: false, score_rate: 1.0 })
}

fn pruner(budget: Budget) -> Pruner {
    Pruner { worth: Worth::Score, budget, temperature: 1.0 }
}

/// A model with masks.
fn masked(folder: &std::path::Path, weights: bool) -> AnyModel {
    models::load_tuned(folder, &Placement::training(Device::Cpu), 0, &masking(weights)).unwrap().0
}

/// The names of the masked tensors, in their order.
fn names(parameters: &Parameters) -> Vec<String> {
    parameters.masked().map(|module| format!("{module}.weight")).collect()
}

/// Random scores for every mask, those of later ones higher.
fn scored(parameters: &mut Parameters) -> BTreeMap<String, Tensor> {
    tch::manual_seed(7);
    let mut scores = BTreeMap::new();
    for (at, name) in names(parameters).into_iter().enumerate() {
        let shape = parameters.value(&name).unwrap().size();
        let values = Tensor::randn(shape, (Kind::Float, Device::Cpu)) + at as f64 / 4.0;
        parameters.set(&format!("{name}.scores"), &values).unwrap();
        scores.insert(name, values);
    }
    scores
}

/// Which weights stay, row by row: no weight is zero by itself.
fn stay(parameters: &Parameters, name: &str) -> Vec<bool> {
    numbers(&parameters.value(name).unwrap()).into_iter().map(|value| value != 0.0).collect()
}

fn count(truths: &[bool]) -> usize {
    truths.iter().filter(|&&truth| truth).count()
}

/// The fixture's loss, gone back from.
fn pass(model: &mut AnyModel) {
    let (ids, contexts, starts, ends) = rows();
    let batch = packed(&ids, &contexts);
    let AnyModel::Reader(reader) = model else { unreachable!() };
    let logits = reader.forward(&batch, &mut Forward::training(1)).unwrap();
    let loss = span_loss(&logits, &batch, &starts, &ends).unwrap();
    reader.parameters_mut().backward(&loss).unwrap();
}

/// dW' of every masked matrix: the gradient of a dense model whose weights are W ∘ M.
fn dense_gradients(pruned: &AnyModel) -> BTreeMap<String, Tensor> {
    let names = names(pruned.network().parameters());
    let (mut dense, _) = models::load(&fixture(), &Placement::training(Device::Cpu), 0).unwrap();
    for name in &names {
        let values = pruned.network().parameters().value(name).unwrap();
        dense.network_mut().parameters_mut().set(name, &values).unwrap();
    }
    pass(&mut dense);
    names.into_iter().map(|name| (name.clone(), dense.network().parameters().gradient(&name).unwrap())).collect()
}

#[test]
fn scores_learn_the_gradient_of_the_masked_weight_times_the_weight() {
    let mut model = masked(&fixture(), false);
    let parameters = model.network_mut().parameters_mut();
    let _scores = scored(parameters);
    pruner(Budget::Local).prune(parameters, 0.4).unwrap();
    let base = Weights::open_folder(&fixture()).unwrap();
    let wanted = dense_gradients(&model);
    pass(&mut model);
    let parameters = model.network().parameters();
    assert_eq!(parameters.iter().flat_map(|one| one.names()).count(), 12);
    for (name, gradient) in wanted {
        let weight = base.tensor(&name).unwrap();
        let found = parameters.gradient(&format!("{name}.scores")).unwrap();
        assert!(found.equal(&(gradient * &weight)), "{name}");
        // Those of weights that are left out learn as well: they may come back.
        let left_out = found.masked_select(&parameters.value(&name).unwrap().eq(0.0));
        assert!(left_out.abs().max().double_value(&[]) > 0.0, "{name}");
        assert!(parameters.gradient(&name).is_err(), "{name} trains");
    }
}

#[test]
fn weights_that_train_learn_where_they_stay_and_scores_everywhere() {
    let mut model = masked(&fixture(), true);
    let parameters = model.network_mut().parameters_mut();
    let _scores = scored(parameters);
    pruner(Budget::Global).prune(parameters, 0.6).unwrap();
    let base = Weights::open_folder(&fixture()).unwrap();
    let wanted = dense_gradients(&model);
    pass(&mut model);
    let parameters = model.network().parameters();
    for (name, gradient) in wanted {
        let mask = parameters.value(&name).unwrap().ne(0.0);
        assert!(parameters.gradient(&name).unwrap().equal(&(&gradient * mask)), "{name}");
        assert!(parameters.gradient(&format!("{name}.scores")).unwrap().equal(&(gradient * base.tensor(&name).unwrap())), "{name}");
    }
}

/// The gradient of `price` times the mean over matrices of the mean sigmoid of scores, as autograd finds it in f64.
fn charged(scores: &BTreeMap<String, Tensor>, price: f64) -> BTreeMap<String, Tensor> {
    let leaves: Vec<Tensor> = scores.values().map(|scores| scores.to_kind(Kind::Double).set_requires_grad(true)).collect();
    let means: Vec<Tensor> = leaves.iter().map(|leaf| leaf.sigmoid().mean(Kind::Double)).collect();
    (Tensor::stack(&means, 0).mean(Kind::Double) * price).backward();
    scores.keys().cloned().zip(leaves.iter().map(Tensor::grad)).collect()
}

#[test]
fn what_scores_cost_is_the_gradient_of_their_mean_sigmoid() {
    let mut model = masked(&fixture(), false);
    let parameters = model.network_mut().parameters_mut();
    parameters.charge_scores(1.0).unwrap_err();
    let scores: BTreeMap<String, Tensor> = scored(parameters).into_iter().map(|(name, scores)| (name, scores * 6.0)).collect();
    scores.iter().for_each(|(name, values)| parameters.set(&format!("{name}.scores"), values).unwrap());
    pruner(Budget::Local).prune(parameters, 0.5).unwrap();
    pass(&mut model);
    let parameters = model.network_mut().parameters_mut();
    let all = |parameters: &Parameters| parameters.iter().flat_map(|one| one.names()).map(str::to_owned).collect::<Vec<_>>();
    let gradient = |parameters: &Parameters, name: &str| parameters.gradient(name).unwrap();
    let before: Vec<Tensor> = all(parameters).iter().map(|name| gradient(parameters, name)).collect();
    // Much, so that what is added stands out; and what it is added to is taken away.
    parameters.charge_scores(1e6).unwrap();
    let wanted = charged(&scores, 1e6);
    for (name, before) in all(parameters).iter().zip(before) {
        let added = gradient(parameters, name).to_kind(Kind::Double) - before.to_kind(Kind::Double);
        let Some(slope) = name.strip_suffix(".scores").and_then(|name| wanted.get(name)) else {
            assert_eq!(added.abs().max().double_value(&[]), 0.0, "{name}");
            continue;
        };
        let off = (added - slope).abs() - before.abs() * 1.2e-7;
        let most = (off / slope).max().double_value(&[]);
        assert!(most < 1e-6, "{name}: {most}");
    }
}

#[test]
fn some_parts_of_a_stacked_matrix_may_be_masked() {
    let tuning =
        Tuning::Masks(Masking { targets: Selection::of(&["query", "value"]), scores: true, weights: true, head: false, score_rate: 1.0 });
    let mut model = models::load_tuned(&fixture(), &Placement::training(Device::Cpu), 0, &tuning).unwrap().0;
    let parameters = model.network_mut().parameters_mut();
    let learnt: Vec<String> = names(parameters).into_iter().filter(|name| !name.contains("key")).collect();
    tch::manual_seed(7);
    for name in &learnt {
        let shape = parameters.value(name).unwrap().size();
        parameters.set(&format!("{name}.scores"), &Tensor::randn(shape, (Kind::Float, Device::Cpu))).unwrap();
    }
    pruner(Budget::Local).prune(parameters, 0.5).unwrap();
    let base = Weights::open_folder(&fixture()).unwrap();
    let wanted = dense_gradients(&model);
    pass(&mut model);
    let parameters = model.network().parameters();
    for (name, gradient) in wanted {
        let scores = parameters.gradient(&format!("{name}.scores"));
        assert_eq!(scores.is_ok(), learnt.contains(&name), "{name}");
        assert!(scores.is_err() || scores.unwrap().equal(&(&gradient * base.tensor(&name).unwrap())), "{name}");
        let mask = parameters.value(&name).unwrap().ne(0.0);
        assert!(parameters.gradient(&name).unwrap().equal(&(gradient * mask)), "{name}");
    }
}

#[test]
fn of_equal_scores_the_first_stay() {
    let place = saved();
    let mut model = masked(place.path(), false);
    let parameters = model.network_mut().parameters_mut();
    for name in names(parameters) {
        let scores = Tensor::zeros(parameters.value(&name).unwrap().size(), (Kind::Float, Device::Cpu));
        parameters.set(&format!("{name}.scores"), &scores).unwrap();
    }
    let first = |truths: &[bool], kept: usize| truths.iter().enumerate().all(|(at, &truth)| truth == (at < kept));
    for budget in [Budget::Local, Budget::Shared] {
        pruner(budget).prune(parameters, 0.3).unwrap();
        for name in names(parameters) {
            let truths = stay(parameters, &name);
            assert!(first(&truths, 3 * truths.len() / 10), "{budget:?} {name}");
        }
    }
    pruner(Budget::Global).prune(parameters, 0.3).unwrap();
    let all: Vec<bool> = names(parameters).iter().flat_map(|name| stay(parameters, name)).collect();
    assert!(first(&all, 3 * all.len() / 10));
    pruner(Budget::TwoOfFour).prune(parameters, 0.5).unwrap_err();
}

/// The share of weights as numbers that stay, rounded down.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn floor(share: f64, all: usize) -> usize {
    (share * all as f64).floor() as usize
}

#[test]
fn a_local_budget_keeps_the_best_of_each_matrix() {
    let place = saved();
    let mut model = masked(place.path(), false);
    let parameters = model.network_mut().parameters_mut();
    let scores = scored(parameters);
    for keep in [0.0, 0.03, 0.1, 1.0 / 3.0, 0.5, 0.9, 0.999, 1.0] {
        pruner(Budget::Local).prune(parameters, keep).unwrap();
        for (name, scores) in &scores {
            let (truths, scores) = (stay(parameters, name), numbers(scores));
            assert_eq!(count(&truths), floor(keep, truths.len()), "{name} {keep}");
            assert_best(&truths, &scores, name);
        }
    }
}

/// Asserts that none that is left out is better than one that stays.
fn assert_best(truths: &[bool], scores: &[f32], name: &str) {
    let of = |wanted: bool| truths.iter().zip(scores).filter(move |&(&truth, _)| truth == wanted).map(|(_, &score)| score);
    assert!(of(false).fold(f32::NEG_INFINITY, f32::max) <= of(true).fold(f32::INFINITY, f32::min), "{name}");
}

#[test]
fn a_global_budget_keeps_the_best_of_all() {
    let place = saved();
    let mut model = masked(place.path(), false);
    let parameters = model.network_mut().parameters_mut();
    let scores = scored(parameters);
    let worth: Vec<f32> = names(parameters).iter().flat_map(|name| numbers(&scores[name])).collect();
    for keep in [0.0, 0.1, 0.5, 0.77, 1.0] {
        pruner(Budget::Global).prune(parameters, keep).unwrap();
        let truths: Vec<bool> = names(parameters).iter().flat_map(|name| stay(parameters, name)).collect();
        assert_eq!(count(&truths), floor(keep, truths.len()), "{keep}");
        assert_best(&truths, &worth, "all");
        let (density, all) = parameters.density().unwrap();
        assert_eq!(all, truths.len() as u64);
        assert!((density * all as f64 - count(&truths) as f64).abs() < 1e-6);
        assert_eq!(parameters.remaining().unwrap(), parameters.weights() - (truths.len() - count(&truths)) as u64);
    }
}

#[test]
fn layers_share_the_budget_of_their_type_by_the_mean_sigmoid_of_their_scores() {
    let place = saved();
    let mut model = masked(place.path(), false);
    let parameters = model.network_mut().parameters_mut();
    let scores = scored(parameters);
    let kind = |name: &str| name.split('.').skip(4).map(str::to_owned).collect::<Vec<_>>();
    for (temperature, keep) in [(1.0, 0.1), (1.0, 0.5), (4.0, 0.8), (0.05, 0.9)] {
        Pruner { temperature, ..pruner(Budget::Shared) }.prune(parameters, keep).unwrap();
        let mean = |scores: &Tensor| (scores / temperature).sigmoid().mean(Kind::Double).double_value(&[]);
        for (name, own) in &scores {
            let layers: Vec<f64> = scores.iter().filter(|(other, _)| kind(other) == kind(name)).map(|(_, scores)| mean(scores)).collect();
            assert_eq!(layers.len(), 3, "{name}");
            let share = mean(own) / layers.iter().sum::<f64>() * keep * 3.0;
            let truths = stay(parameters, name);
            assert_eq!(count(&truths), floor(share.min(1.0), truths.len()), "{name} {temperature} {keep} {share}");
            assert_best(&truths, &numbers(own), name);
        }
    }
}

#[test]
fn two_of_four_neighbours_stay() {
    let mut model = masked(&fixture(), false);
    let parameters = model.network_mut().parameters_mut();
    let scores = scored(parameters);
    pruner(Budget::TwoOfFour).prune(parameters, 0.5).unwrap();
    for (name, scores) in scores {
        for (truths, scores) in stay(parameters, &name).chunks(4).zip(numbers(&scores).chunks(4)) {
            assert_eq!(count(truths), 2, "{name}");
            assert_best(truths, scores, &name);
        }
    }
}

/// What numpy's `packbits` gives: the first of eight in the highest bit, zeros at the end.
fn packbits(truths: &[bool]) -> Vec<u8> {
    truths.chunks(8).map(|eight| eight.iter().enumerate().fold(0, |byte, (at, &truth)| byte | u8::from(truth) << (7 - at))).collect()
}

#[test]
fn masks_are_stored_as_bits_and_come_back() {
    let place = saved();
    let mut model = masked(place.path(), false);
    let parameters = model.network_mut().parameters_mut();
    let _scores = scored(parameters);
    pruner(Budget::Shared).prune(parameters, 0.35).unwrap();
    for kind in [Kind::Float, Kind::Half] {
        let folder = tempfile::tempdir().unwrap();
        model.network().save_pruned(folder.path(), kind).unwrap();
        let (again, report) = models::load(folder.path(), &Placement::inference(Device::Cpu), 0).unwrap();
        assert_eq!(report, qapipe_nn::LoadReport::default());
        let (file, parameters, again) =
            (Weights::open_folder(folder.path()).unwrap(), model.network().parameters(), again.network().parameters());
        for name in names(parameters) {
            let (value, truths) = (parameters.value(&name).unwrap(), stay(parameters, &name));
            let bits = Vec::<u8>::try_from(file.tensor(&format!("{name}.mask")).unwrap()).unwrap();
            assert_eq!(bits, packbits(&truths), "{name}");
            let kept = file.tensor(&format!("{name}.mask_values")).unwrap();
            assert!(kept.equal(&value.masked_select(&value.ne(0.0)).to_kind(kind)), "{name}");
            let shape = Vec::<i32>::try_from(file.tensor(&format!("{name}.mask_shape")).unwrap()).unwrap();
            assert_eq!(shape.into_iter().map(i64::from).collect::<Vec<_>>(), value.size());
            assert!(again.value(&name).unwrap().equal(&value.to_kind(kind).to_kind(Kind::Float)), "{name}");
        }
        assert_eq!(again.remaining().unwrap(), parameters.remaining().unwrap());
        assert_eq!(names(again), names(parameters));
    }
}
