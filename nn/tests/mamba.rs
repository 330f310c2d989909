//! Mamba: agreement with the reference, loading, saving, refusing, packing, writing.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::path::Path;

use qapipe_nn::parity::TOLERANCE;
use qapipe_nn::{
    AdamW, AdamWConfig, Forward, Limits, LoadReport, MambaConfig, MambaForCausalLm, Network, NnError, Packed, Pairs, Placement, Weights,
    Writer, greedy, greedy_beside, models,
};
use tch::{Device, Kind, Tensor};

use common::{difference, fixture_of, numbers, same_gradients, values, write};

fn folder() -> std::path::PathBuf {
    fixture_of("mamba_tiny")
}

fn config() -> MambaConfig {
    qapipe_nn::device::set_threads(1);
    MambaConfig::parse(&std::fs::read_to_string(folder().join("config.json")).unwrap()).unwrap()
}

fn load(weights: &Weights) -> Result<(MambaForCausalLm, LoadReport), NnError> {
    MambaForCausalLm::load(weights, &config(), &Placement::training(Device::Cpu), 3)
}

fn model() -> MambaForCausalLm {
    load(&Weights::open_folder(&folder()).unwrap()).unwrap().0
}

fn golden() -> Weights {
    Weights::open(&folder().join("golden.safetensors")).unwrap()
}

/// The fixture's tensors under changed names, in a file.
fn renamed(folder: &Path, rename: impl Fn(&str) -> Option<String>, extra: &[(&str, Tensor)]) -> Weights {
    let weights = Weights::open_folder(&self::folder()).unwrap();
    let mut tensors: Vec<(String, Tensor)> =
        weights.names().filter_map(|name| Some((rename(name)?, weights.tensor(name).unwrap()))).collect();
    tensors.extend(extra.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())));
    let path = folder.join("model.safetensors");
    write(&path, &tensors);
    Weights::open(&path).unwrap()
}

/// The fixture's rows, each a source and a target.
fn rows() -> Vec<(Vec<u32>, Vec<u32>)> {
    let golden = golden();
    let list = |name: &str| Vec::<i64>::try_from(golden.tensor(name).unwrap()).unwrap();
    let table = Vec::<Vec<i64>>::try_from(golden.tensor("row_ids").unwrap()).unwrap();
    let unsigned = |number: i64| usize::try_from(number).unwrap();
    let cut = |((row, length), source): ((Vec<i64>, i64), i64)| {
        let row: Vec<u32> = row[..unsigned(length)].iter().map(|&id| u32::try_from(id).unwrap()).collect();
        (row[..unsigned(source)].to_vec(), row[unsigned(source)..].to_vec())
    };
    table.into_iter().zip(list("row_lengths")).zip(list("row_sources")).map(cut).collect()
}

fn pairs() -> Pairs {
    let rows = rows();
    let rows: Vec<(&[u32], &[u32])> = rows.iter().map(|(source, target)| (source.as_slice(), target.as_slice())).collect();
    Pairs::collate(qapipe_nn::Form::Causal, &rows).unwrap()
}

/// The mean over rows of each row's loss.
fn row_loss(model: &MambaForCausalLm, pairs: &Pairs, forward: &mut Forward) -> Tensor {
    let sums = pairs.sums(&model.forward(pairs, forward).unwrap()).unwrap();
    -(sums / Tensor::from_slice(pairs.lengths())).mean(Kind::Float)
}

fn packed(rows: &[&[u32]]) -> Packed {
    Packed::of_one_segment(rows).unwrap()
}

fn logits(model: &MambaForCausalLm, rows: &[&[u32]]) -> Tensor {
    model.forward_logits(&packed(rows), &mut Forward::inference()).unwrap()
}

#[test]
fn gradients_of_every_parameter_agree() {
    let (mut model, golden) = (model(), golden());
    assert_eq!(model.parameters().iter().flat_map(|one| one.names()).count(), 26);
    same_gradients(&mut model, &golden, TOLERANCE, &[], |model, share| {
        let loss = row_loss(model, &pairs(), &mut Forward::training(1));
        assert!(difference(&loss.view(1), &golden.tensor("row_loss").unwrap()) < TOLERANCE);
        model.parameters_mut().backward(&(loss * share)).unwrap();
    });
}

#[test]
fn optimiser_steps_agree() {
    let (mut model, golden, pairs) = (model(), golden(), pairs());
    let mut optimiser = AdamW::new(model.parameters(), AdamWConfig::default()).unwrap();
    for _ in 0..3 {
        let loss = row_loss(&model, &pairs, &mut Forward::training(1));
        let parameters = model.parameters_mut();
        parameters.backward(&loss).unwrap();
        let _norm = optimiser.clip_grad_norm(parameters, 0.1).unwrap();
        optimiser.step(parameters, 0.01).unwrap();
    }
    for name in golden.names().filter_map(|name| name.strip_prefix("after.")) {
        let found = difference(&model.parameters().value(name).unwrap(), &golden.tensor(&format!("after.{name}")).unwrap());
        assert!(found < 5.0 * TOLERANCE, "{name}: {found}");
    }
}

#[test]
fn a_packed_batch_is_each_sequence_alone() {
    let (model, rows) = (model(), rows());
    let rows: Vec<Vec<u32>> = rows.into_iter().map(|(source, target)| [source, target].concat()).collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let (all, mut at) = (logits(&model, &rows), 0);
    for row in rows {
        let length = i64::try_from(row.len()).unwrap();
        assert!(difference(&all.narrow(0, at, length), &logits(&model, &[row])) < 1e-5);
        at += length;
    }
}

#[test]
fn the_names_of_the_authors_files_give_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let table = Weights::open_folder(&self::folder()).unwrap().tensor("backbone.embeddings.weight").unwrap();
    let extra = [("lm_head.weight", table), ("stray", Tensor::zeros([1], (Kind::Float, Device::Cpu)))];
    let weights = renamed(folder.path(), |name| Some(name.replace("backbone.embeddings.", "backbone.embedding.")), &extra);
    let (again, report) = load(&weights).unwrap();
    assert_eq!((report.initialised, report.unused), (vec![], vec!["stray".to_owned()]));
    assert_eq!(values(&again), values(&model()));
    let bare = renamed(folder.path(), |name| Some(name.trim_start_matches("backbone.").to_owned()), &[]);
    assert_eq!(load(&bare).unwrap().1, LoadReport::default());
}

#[test]
fn what_is_saved_loads_again_bit_for_bit() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    model().save(first.path()).unwrap();
    let (again, report) = models::load(first.path(), &Placement::training(Device::Cpu), 0).unwrap();
    assert_eq!(report, LoadReport::default());
    again.network().save(second.path()).unwrap();
    for file in ["config.json", "model.safetensors"] {
        assert_eq!(std::fs::read(first.path().join(file)).unwrap(), std::fs::read(second.path().join(file)).unwrap(), "{file}");
    }
    let names: Vec<String> = Weights::open_folder(&folder()).unwrap().names().map(str::to_owned).collect();
    assert_eq!(Weights::open_folder(first.path()).unwrap().names().collect::<Vec<_>>(), names);
}

#[test]
fn a_head_of_its_own_is_a_parameter() {
    let untied = MambaConfig { tie_word_embeddings: false, ..config() };
    let folder = tempfile::tempdir().unwrap();
    let model = MambaForCausalLm::init(&untied, &Placement::training(Device::Cpu), 1).unwrap();
    model.save(folder.path()).unwrap();
    let (again, report) = models::load(folder.path(), &Placement::training(Device::Cpu), 0).unwrap();
    assert_eq!(report, LoadReport::default());
    assert_eq!(again.network().parameters().count(), model.parameters().count());
    assert!(model.parameters().value("lm_head.weight").is_ok());
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let keep = |name: &str| (!name.contains("layers.1.mixer.A_log") && !name.contains("embeddings")).then(|| name.to_owned());
    let text = load(&renamed(folder.path(), keep, &[])).unwrap_err().to_string();
    assert!(text.contains("missing: backbone.embeddings.weight, backbone.layers.1.mixer.A_log"), "{text}");
    let wide = MambaConfig { state_size: 6, ..config() };
    let weights = Weights::open_folder(&self::folder()).unwrap();
    let text = MambaForCausalLm::load(&weights, &wide, &Placement::inference(Device::Cpu), 0).unwrap_err().to_string();
    assert!(text.contains("backbone.layers.0.mixer.A_log is [24, 5] and should be [24, 6]"), "{text}");
}

#[test]
fn both_forms_of_a_configuration_are_read() {
    let original = r#"{"d_model": 768, "n_layer": 24, "vocab_size": 50277, "ssm_cfg": {}, "rms_norm": true, "residual_in_fp32": true,
        "fused_add_norm": true, "pad_vocab_size_multiple": 8}"#;
    assert_eq!(MambaConfig::parse(original).unwrap(), MambaConfig::small());
    assert_eq!(models::family(original).unwrap().family, "mamba");
    let named = r#"{"model_type": "mamba", "d_model": 768, "n_layer": 24, "num_hidden_layers": 24, "time_step_rank": 48}"#;
    let config = MambaConfig::parse(named).unwrap();
    assert_eq!((config.num_hidden_layers, config.rank(), config.channels()), (24, 48, 1536));
    assert_eq!(MambaConfig::parse(r#"{"time_step_rank": "auto", "hidden_size": 100}"#).unwrap().rank(), 7);
}

#[test]
fn configurations_that_cannot_be_are_refused_by_field() {
    let field = |text: &str| match MambaConfig::parse(text).unwrap_err() {
        NnError::Config { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(r#"{"model_type": "mamba2"}"#), "model_type");
    assert_eq!(field(r#"{"hidden_act": "gelu"}"#), "hidden_act");
    assert_eq!(field(r#"{"hidden_size": 0}"#), "hidden_size");
    assert_eq!(field(r#"{"expand": 9223372036854775807}"#), "expand");
    assert_eq!(field(r#"{"expand": 16777216}"#), "intermediate_size");
    assert_eq!(field(r#"{"state_size": 100000}"#), "state_size");
    assert_eq!(field(r#"{"conv_kernel": 0}"#), "conv_kernel");
    assert_eq!(field(r#"{"time_step_rank": -1}"#), "time_step_rank");
    assert_eq!(field(r#"{"time_step_min": 0}"#), "time_step_min");
    assert_eq!(field(r#"{"time_step_min": 0.2}"#), "time_step_min");
    assert_eq!(field(r#"{"time_step_init_scheme": "zeros"}"#), "time_step_init_scheme");
    assert_eq!(field(r#"{"layer_norm_epsilon": 0}"#), "layer_norm_epsilon");
    assert_eq!(field(r#"{"initializer_range": -1}"#), "initializer_range");
    assert_eq!(field(r#"{"eos_token_id": 50280}"#), "eos_token_id");
    assert_eq!(field(r#"{"d_model": 8, "n_layer": 1, "ssm_cfg": {"layer": "Mamba2"}}"#), "ssm_cfg");
    assert_eq!(field(r#"{"d_model": 8, "n_layer": 1, "rms_norm": false}"#), "rms_norm");
    assert_eq!(field(r#"{"d_model": 8, "n_layer": 1, "attn_layer_idx": [1]}"#), "attn_layer_idx");
    assert_eq!(field(r#"{"d_model": 8, "n_layer": 1, "pad_vocab_size_multiple": 0}"#), "pad_vocab_size_multiple");
    let text = MambaConfig::parse(r#"{"time_step_rank": "half"}"#).unwrap_err().to_string();
    assert!(text.contains("must be a whole number or \"auto\""), "{text}");
    let told = models::family(r#"{"model_type": "falcon_mamba"}"#).err().unwrap().to_string();
    assert_eq!(told, "model_type \"falcon_mamba\" is not known; known are bert, lstm, mamba, t5");
}

#[test]
fn a_random_model_begins_as_published() {
    let config = MambaConfig { hidden_size: 64, num_hidden_layers: 4, vocab_size: 100, ..MambaConfig::small() };
    let init = |seed| MambaForCausalLm::init(&config, &Placement::training(Device::Cpu), seed).unwrap();
    let model = init(5);
    assert_eq!(values(&model), values(&init(5)));
    assert_ne!(values(&model), values(&init(6)));
    let value = |name: &str| model.parameters().value(&format!("backbone.layers.2.mixer.{name}")).unwrap();
    let steps = numbers(&value("dt_proj.bias").softplus());
    assert!(steps.iter().all(|step| (0.000_99..0.1001).contains(step)));
    let middle = steps.iter().filter(|&&step| step < 0.01).count();
    assert!((45..84).contains(&middle), "{middle} of 128 are in the lower half of the logarithmic scale");
    let decays = Vec::<Vec<f32>>::try_from(value("A_log").exp()).unwrap();
    assert!(decays.iter().all(|row| row.iter().zip(1_u8..).all(|(decay, number)| (decay - f32::from(number)).abs() < 1e-4)));
    assert!(numbers(&value("D")).iter().all(|&skip| (skip - 1.0).abs() < f32::EPSILON));
    let bound = |name: &str, most: f64| {
        let found = value(name).abs().max().double_value(&[]);
        assert!(found <= most && found > 0.9 * most, "{name}: {found} and {most}");
    };
    bound("out_proj.weight", 128_f64.powf(-0.5) / 2.0);
    bound("dt_proj.weight", 0.5);
    bound("in_proj.weight", 0.125);
    let spread = model.parameters().value("backbone.embeddings.weight").unwrap().std(false).double_value(&[]);
    assert!((spread - 0.02).abs() < 1e-3);
}

#[test]
fn some_parameters_have_no_weight_decay() {
    let model = model();
    let plain = |name: &&str| name.ends_with("bias") || name.contains("norm") || name.ends_with("A_log") || name.ends_with(".D");
    for parameter in model.parameters().iter() {
        for name in parameter.names() {
            assert_eq!(parameter.decays(), !plain(&name), "{name}");
        }
    }
}

#[test]
fn half_precision_keeps_some_parameters_in_full() {
    let placements = [Placement::training(Device::Cpu), Placement::inference(Device::Cpu)];
    for placement in placements.map(|placement| placement.with_kind(Kind::BFloat16)) {
        let weights = Weights::open_folder(&folder()).unwrap();
        let (mut half, whole) = (MambaForCausalLm::load(&weights, &config(), &placement, 0).unwrap().0, model());
        let same = |name: &str, model: &MambaForCausalLm| numbers(&model.parameters().value(name).unwrap());
        for name in ["A_log", "D", "dt_proj.bias"].map(|name| format!("backbone.layers.1.mixer.{name}")) {
            assert_eq!(same(&name, &half), same(&name, &whole), "{name}");
        }
        // Two layers, each with 24 channels: five logarithms of decays, a skip and a step bias a channel; and three norms of 12.
        let precise = 2 * 24 * 7 + 3 * 12;
        assert_eq!(half.parameters().resident_bytes(), 2 * (half.parameters().count() + precise));
        let (one, two) = (logits(&half, &[&[3, 1, 4, 1, 5]]), logits(&whole, &[&[3, 1, 4, 1, 5]]));
        assert!(difference(&one, &two) < 0.2, "{}", difference(&one, &two));
        let kept = half.parameters().snapshot().unwrap();
        half.parameters_mut().restore(&kept).unwrap();
        let file = tempfile::tempdir().unwrap();
        half.save(file.path()).unwrap();
        half.parameters_mut().load(&Weights::open_folder(file.path()).unwrap()).unwrap();
        assert!(difference(&logits(&half, &[&[3, 1, 4, 1, 5]]), &one) < 1e-9);
    }
}

#[test]
fn training_in_half_precision_learns_every_parameter() {
    let placement = Placement::training(Device::Cpu).with_kind(Kind::BFloat16);
    let mut model = MambaForCausalLm::load(&Weights::open_folder(&folder()).unwrap(), &config(), &placement, 0).unwrap().0;
    let before = values(&model);
    let (pairs, mut losses) = (pairs(), Vec::new());
    let mut optimiser = AdamW::new(model.parameters(), AdamWConfig::default()).unwrap();
    for _ in 0..10 {
        let loss = row_loss(&model, &pairs, &mut Forward::training(1));
        model.parameters_mut().backward(&loss).unwrap();
        optimiser.step(model.parameters_mut(), 0.003).unwrap();
        losses.push(numbers(&loss)[0]);
    }
    assert!(losses[9] < losses[0] - 0.2, "{losses:?}");
    for ((name, before), (_, after)) in before.iter().zip(values(&model)) {
        assert_ne!(*before, after, "{name}");
    }
}

#[test]
fn writing_is_what_reading_all_gives() {
    let (model, rows) = (model(), rows());
    let sources: Vec<&[u32]> = rows.iter().map(|(source, _)| source.as_slice()).collect();
    let most = 7;
    let found = greedy(&model, &packed(&sources), &Limits { most, ends: vec![], not_first: None }).unwrap();
    for (source, written) in sources.iter().zip(&found) {
        let mut text = source.to_vec();
        let mut score = 0.0;
        for _ in 0..most {
            let scores = logits(&model, &[&text]).select(0, -1).log_softmax(-1, Kind::Double);
            let best = scores.argmax(None, false).int64_value(&[]);
            score += scores.double_value(&[best]);
            text.push(u32::try_from(best).unwrap());
        }
        assert_eq!(written.tokens, text[source.len()..]);
        assert!((written.log_probability - score).abs() < 1e-4, "{} and {score}", written.log_probability);
    }
}

#[test]
fn another_text_is_told_its_probability_beside_and_what_is_written_stays_the_same() {
    let (model, rows) = (model(), rows());
    let sources: Vec<&[u32]> = rows.iter().map(|(source, _)| source.as_slice()).collect();
    let limits = Limits { most: 5, ends: vec![0], not_first: None };
    let (written, beside) = greedy_beside(&model, &packed(&sources), &limits, &[3, 14, 15]).unwrap();
    assert_eq!(written, greedy(&model, &packed(&sources), &limits).unwrap());
    let targets: Vec<(&[u32], &[u32])> = sources.iter().map(|&source| (source, &[3, 14, 15, 0][..])).collect();
    let pairs = Pairs::collate(qapipe_nn::Form::Causal, &targets).unwrap();
    let sums = numbers(&pairs.sums(&model.forward(&pairs, &mut Forward::inference()).unwrap()).unwrap());
    for (told, sum) in beside.iter().zip(sums) {
        assert!((told - f64::from(sum)).abs() < 1e-4, "{told} and {sum}");
    }
}

#[test]
fn logits_of_a_text_under_way_are_those_of_the_whole() {
    let (model, rows) = (model(), rows());
    let text = [rows[3].0.clone(), rows[3].1.clone()].concat();
    // A source that is shorter than the convolution, and one that is longer.
    for begin in [1, 2, 9] {
        let sources = packed(&[&text[..begin], &text[..begin + 3]]);
        let mut decoding = model.start(&sources, 20).unwrap();
        let mut last = None;
        for at in 0..12 {
            let found = decoding.next(last.as_ref()).unwrap();
            for (row, end) in [(0, begin + at), (1, begin + at + 3)] {
                let whole = logits(&model, &[&text[..end]]).select(0, -1);
                assert!(difference(&found.select(0, row), &whole) < 1e-5, "{begin} {at} {row}");
            }
            last = Some(Tensor::from_slice(&[i64::from(text[begin + at]), i64::from(text[begin + at + 3])]));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = model();
    let told = model.forward_logits(&packed(&[&[1, 24]]), &mut Forward::inference()).unwrap_err().to_string();
    assert_eq!(told, "input: token id 24 is not below vocab_size 24: the tokenizer is another model's");
    assert!(model.start(&packed(&[&[24]]), 1).is_err());
    let pairs = Pairs::collate(qapipe_nn::Form::Seq2Seq { start: 0 }, &[(&[1], &[2])]).unwrap();
    let told = model.forward(&pairs, &mut Forward::inference()).unwrap_err().to_string();
    assert!(told.contains("this is a language model"), "{told}");
}

#[test]
fn the_smallest_published_shape_has_its_parameters() {
    qapipe_nn::device::set_threads(1);
    let model = MambaForCausalLm::init(&MambaConfig::small(), &Placement::inference(Device::Cpu), 1).unwrap();
    assert_eq!(model.parameters().count(), 129_135_360);
    assert!((model.flops(512, 1) / 512.0 / 1e9 - 0.185).abs() < 0.005, "{}", model.flops(512, 1) / 512.0 / 1e9);
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    drop(model);
    let (again, report) = models::load(folder.path(), &Placement::inference(Device::Cpu), 1).unwrap();
    assert_eq!(report, LoadReport::default());
    assert_eq!(again.network().parameters().count(), 129_135_360);
}
