//! What layers hand out, how far it is from a teacher's, and models with only some of another's layers.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use qapipe_nn::models::{self, keep_layers};
use qapipe_nn::{
    AnyModel, Forward, Matching, Packed, Pairs, Placement, Recorder, Stack, Wanted, Weights, attention_distance, state_distance,
};
use tch::{Device, Kind, Tensor};

use common::{difference, fixture_of, numbers};

const BOTH: Wanted = Wanted { states: true, attention: true };

/// Each family small, with three layers of each stack; of LSTMs two forms.
const CONFIGS: [(&str, &str); 5] = [
    (
        "bert",
        r#"{"model_type": "bert", "vocab_size": 24, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 16, "max_position_embeddings": 20, "initializer_range": 0.3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}"#,
    ),
    (
        "t5",
        r#"{"model_type": "t5", "vocab_size": 28, "d_model": 12, "d_kv": 4, "d_ff": 16, "num_layers": 3, "num_heads": 3, "dropout_rate": 0.0}"#,
    ),
    (
        "mamba",
        r#"{"model_type": "mamba", "vocab_size": 24, "hidden_size": 12, "num_hidden_layers": 3, "state_size": 5, "initializer_range": 0.5}"#,
    ),
    (
        "lstm",
        r#"{"model_type": "lstm", "vocab_size": 24, "word_size": 5, "hidden_size": 4, "num_hidden_layers": 3, "attention": "multi-head", "num_attention_heads": 2, "dropout_rate": 0.0, "train_words": false}"#,
    ),
    (
        "lstm of characters",
        r#"{"model_type": "lstm", "vocab_size": 24, "word_size": 5, "character_vocab_size": 9, "character_size": 3, "character_filters": 4, "character_kernel": 3, "word_length": 6, "hidden_size": 4, "num_hidden_layers": 3, "attention": "bidaf", "head": "span", "num_attention_heads": 2, "dropout_rate": 0.0}"#,
    ),
];

fn init(config: &str, seed: u64) -> AnyModel {
    qapipe_nn::device::set_threads(1);
    models::init(config, &Placement::training(Device::Cpu), seed).unwrap()
}

/// A pass: the logits and what layers handed out.
fn pass(model: &AnyModel, forward: Forward) -> (Tensor, Vec<Stack>) {
    let recorder = Recorder::new(BOTH);
    let mut forward = forward.recording(&recorder);
    let logits = match model {
        AnyModel::Reader(model) => {
            let packed = Packed::from_sequences(&[(&[2, 10, 11, 3, 20, 21, 22, 3], 4), (&[2, 12, 3, 23, 4, 3], 3)], Device::Cpu).unwrap();
            model.forward(&packed, &mut forward).unwrap().start
        }
        AnyModel::Writer(model) => {
            let pairs = Pairs::collate(model.form(), &[(&[5, 6, 7, 8], &[9, 1]), (&[15, 16], &[19, 20, 1])]).unwrap();
            model.logits(&pairs, &mut forward).unwrap()
        }
    };
    (logits, recorder.take())
}

#[test]
fn a_student_that_is_its_teacher_has_no_distance_and_another_one_learns() {
    for (family, config) in CONFIGS {
        let (mut student, teacher) = (init(config, 1), init(config, 2));
        let own = pass(&student, Forward::inference()).1;
        assert_eq!(own.len(), if family == "t5" { 2 } else { 1 });
        assert!(own.iter().all(|stack| stack.layers() == 3), "{family}");
        let same = pass(&student, Forward::training(3)).1;
        // Where gradients are recorded, a kernel may round otherwise.
        assert!(state_distance(&same, &own, &Matching::Even, None).unwrap().double_value(&[]) < 1e-12, "{family}");
        let (_, handed) = pass(&student, Forward::training(3));
        let (_, taught) = pass(&teacher, Forward::inference());
        let mut loss = state_distance(&handed, &taught, &Matching::Even, None).unwrap();
        if matches!(family, "bert" | "t5") {
            assert!(attention_distance(&same, &own, None).unwrap().double_value(&[]).abs() < 1e-7, "{family}");
            loss = loss.f_add(&attention_distance(&handed, &taught, None).unwrap()).unwrap();
        } else {
            let error = attention_distance(&handed, &taught, None).unwrap_err().to_string();
            assert!(error.contains("the student has no attention of its tokens to each other"), "{error}");
        }
        assert!(loss.double_value(&[]) > 0.0 && loss.kind() == Kind::Float, "{family}");
        let parameters = student.network_mut().parameters_mut();
        parameters.backward(&loss).unwrap();
        for site in parameters.sites().to_vec() {
            // What makes the answer is behind what is compared, and keys have no gradient where there is but one.
            let before = !["qa_outputs", "lm_head", "start", "end"].iter().any(|head| site.name.starts_with(head));
            let found = parameters.gradient(&site.name).unwrap().abs().max().double_value(&[]);
            assert_eq!(found > 0.0, before, "{family} {}: {found}", site.name);
        }
    }
}

#[test]
fn nothing_is_handed_out_where_nobody_asks() {
    let model = init(CONFIGS[0].1, 1);
    let quiet = Recorder::new(Wanted::default());
    let AnyModel::Reader(reader) = &model else { return };
    let packed = Packed::from_sequences(&[(&[2, 10, 3, 20, 3], 3)], Device::Cpu).unwrap();
    reader.forward(&packed, &mut Forward::inference().recording(&quiet)).unwrap();
    assert!(quiet.take().iter().all(|stack| stack.layers() == 0));
    // A pass forgets what the one before left.
    let recorder = Recorder::new(BOTH);
    let mut forward = Forward::inference().recording(&recorder);
    reader.forward(&packed, &mut forward).unwrap();
    reader.forward(&packed, &mut forward).unwrap();
    assert_eq!(recorder.take().len(), 1);
}

#[test]
fn gradients_of_both_distances_agree_with_differences() {
    for (family, config) in &CONFIGS[..2] {
        let (mut student, teacher) = (init(config, 1), init(config, 2));
        let taught = pass(&teacher, Forward::inference()).1;
        let loss = |student: &AnyModel, forward: Forward| {
            let handed = pass(student, forward).1;
            state_distance(&handed, &taught, &Matching::Even, None).unwrap() + attention_distance(&handed, &taught, None).unwrap()
        };
        let whole = loss(&student, Forward::training(3));
        student.network_mut().parameters_mut().backward(&whole).unwrap();
        let name =
            if *family == "bert" { "bert.encoder.layer.1.output.dense.weight" } else { "encoder.block.1.layer.1.DenseReluDense.wo.weight" };
        let gradient = student.network().parameters().gradient(name).unwrap();
        let (value, step) = (student.network().parameters().value(name).unwrap(), 1e-3 * &gradient / gradient.norm());
        let mut at = |values: &Tensor| {
            student.network_mut().parameters_mut().set(name, values).unwrap();
            loss(&student, Forward::inference()).double_value(&[])
        };
        let found = (at(&(&value + &step)) - at(&(&value - &step))) / 2e-3;
        let wanted = gradient.norm().double_value(&[]);
        assert!((found - wanted).abs() < 0.02 * wanted, "{family}: {found} and not {wanted}");
    }
}

/// Writes a model at random, and gives a model with some of its layers.
fn shallower(config: &str, kept: &[Vec<usize>], folder: &Path) -> Result<(AnyModel, AnyModel, Vec<Vec<usize>>), qapipe_nn::NnError> {
    let (whole, part) = (folder.join("whole"), folder.join("part"));
    for place in [&whole, &part] {
        std::fs::create_dir_all(place).unwrap();
    }
    let model = init(config, 1);
    model.network().save(&whole).unwrap();
    let kept = keep_layers(&whole, kept, &part)?;
    let (part, report) = models::load(&part, &Placement::training(Device::Cpu), 0)?;
    assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
    Ok((model, part, kept))
}

#[test]
fn all_layers_kept_are_the_model_itself() {
    for (family, config) in CONFIGS {
        let folder = tempfile::tempdir().unwrap();
        let (whole, same, kept) = shallower(config, &[], folder.path()).unwrap();
        assert!(kept.iter().all(|layers| *layers == [0, 1, 2]) && !kept.is_empty(), "{family}");
        assert_eq!(numbers(&pass(&whole, Forward::inference()).0), numbers(&pass(&same, Forward::inference()).0), "{family}");
    }
}

#[test]
fn layers_that_stay_are_the_ones_that_were_named() {
    for (family, config) in CONFIGS {
        let folder = tempfile::tempdir().unwrap();
        let (whole, part, kept) = shallower(config, &[vec![0, 2]], folder.path()).unwrap();
        let all = whole.network().parameters();
        let own = part.network().parameters();
        let stacks = ["bert.encoder.layer.", "encoder.block.", "backbone.layers.", "layers."];
        for name in own.names() {
            let moved = stacks.iter().find_map(|stack| Some(format!("{stack}2.{}", name.strip_prefix(stack)?.strip_prefix("1.")?)));
            let before = moved.unwrap_or_else(|| name.to_owned());
            assert_eq!(difference(&own.as_it_is(name).unwrap(), &all.as_it_is(&before).unwrap()), 0.0, "{family} {name}");
        }
        assert_eq!(kept[0], [0, 2]);
        let stacks = pass(&part, Forward::inference()).1;
        let layers: Vec<usize> = stacks.iter().map(Stack::layers).collect();
        assert_eq!(layers, if family == "t5" { vec![2, 3] } else { vec![2] });
        assert!(state_distance(&stacks, &pass(&whole, Forward::inference()).1, &Matching::Kept(kept), None).is_ok());
    }
}

#[test]
fn a_stack_of_t5_keeps_its_positions_without_its_first_layer() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, part, kept) = shallower(CONFIGS[1].1, &[vec![1, 2], vec![2]], folder.path()).unwrap();
    assert_eq!(kept, [vec![1, 2], vec![2]]);
    let value = |model: &AnyModel, name: &str| numbers(&model.network().parameters().value(name).unwrap());
    for stack in ["encoder", "decoder"] {
        let positions = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        assert_eq!(value(&whole, &positions), value(&part, &positions));
    }
    let query = "layer.0.SelfAttention.q.weight";
    assert_eq!(value(&part, &format!("encoder.block.0.{query}")), value(&whole, &format!("encoder.block.1.{query}")));
    assert_eq!(value(&part, &format!("decoder.block.0.{query}")), value(&whole, &format!("decoder.block.2.{query}")));
}

#[test]
fn published_files_become_shallower_too() {
    for (name, kept) in [("bert_tiny", vec![1]), ("t5_tiny", vec![0]), ("t5_v11_tiny", vec![1]), ("mamba_tiny", vec![1])] {
        let folder = tempfile::tempdir().unwrap();
        keep_layers(&fixture_of(name), &[kept], folder.path()).unwrap();
        let (_, report) = models::load(folder.path(), &Placement::inference(Device::Cpu), 0).unwrap();
        assert!(report.initialised.is_empty() && report.unused.is_empty(), "{name}: {report:?}");
        let names = |folder: &Path| Weights::open_folder(folder).unwrap().names().count();
        assert!(names(folder.path()) < names(&fixture_of(name)), "{name}");
    }
}

#[test]
fn lists_of_layers_that_make_no_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |config: &str, kept: &[Vec<usize>]| shallower(config, kept, folder.path()).err().unwrap().to_string();
    for list in [vec![], vec![1, 0], vec![1, 1], vec![0, 3]] {
        let error = refused(CONFIGS[0].1, std::slice::from_ref(&list));
        let wanted = format!("of bert.encoder.layer.* the layers {list:?} are to stay, and there are 0 to 2: each once, ascending");
        assert!(error.contains(&wanted), "{error}");
    }
    assert!(refused(CONFIGS[0].1, &[vec![0], vec![0]]).contains("it has no decoder"));
    assert!(refused(CONFIGS[1].1, &[vec![0], vec![7]]).contains("of decoder.block.* the layers [7] are to stay"));
    let dot = CONFIGS[3].1.replace("multi-head", "dot");
    let error = refused(&dot, &[vec![1, 2]]);
    assert!(error.contains("layer 1 cannot come first: layers.1.") && error.contains("keep layer 0"), "{error}");
    assert!(shallower(&dot, &[vec![0, 2]], folder.path()).is_ok());
}

#[test]
fn students_of_another_shape_are_compared_where_that_means_something() {
    let teacher = init(CONFIGS[0].1, 2);
    let taught = pass(&teacher, Forward::inference()).1;
    let with = |hidden: i64, heads: i64| {
        let config = CONFIGS[0].1.replace("\"hidden_size\": 12", &format!("\"hidden_size\": {hidden}"));
        init(&config.replace("heads\": 3", &format!("heads\": {heads}")).replace("layers\": 3", "layers\": 2"), 1)
    };
    let mut narrow = with(6, 2);
    let handed = pass(&narrow, Forward::training(3)).1;
    let loss = state_distance(&handed, &taught, &Matching::Even, None).unwrap() + attention_distance(&handed, &taught, None).unwrap();
    assert!(loss.double_value(&[]) > 0.0);
    narrow.network_mut().parameters_mut().backward(&loss).unwrap();
    let gradient = narrow.network().parameters().gradient("bert.encoder.layer.1.attention.self.query.weight").unwrap();
    assert!(gradient.abs().max().double_value(&[]) > 0.0);
    let error = attention_distance(&pass(&with(8, 2), Forward::inference()).1, &taught, None).unwrap_err().to_string();
    assert!(error.contains("the student's 2 heads of 4 cannot be split into the teacher's 3: their width does not allow it"), "{error}");
    let lstm = pass(&init(CONFIGS[3].1, 1), Forward::inference()).1;
    let error = state_distance(&lstm, &taught, &Matching::Even, None).unwrap_err().to_string();
    assert!(error.contains("read different tokens"), "{error}");
}
