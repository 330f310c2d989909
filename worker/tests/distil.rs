//! Following a teacher: students of every family, what they are compared by, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use common::{Lab, TINY_BERT, TINY_LSTM, TINY_MAMBA, TINY_T5, evaluate, fine_tune, logits, method, tiny_writer};
use qapipe_nn::{AnyModel, Forward, Packed, Placement, Weights, models, span_distillation};
use qapipe_stages::examples::Part;
use qapipe_stages::features::Features;
use qapipe_stages::tables::{MetricsRow, PredictionRow, TrainingRow, read_table};
use tch::Device;

const SMALL: &str = "limit_train = 96\nlimit_dev = 24";
const TUNED: &str = "epochs = 2, lr = 2e-3, batch = 16";
/// A training that changes nothing.
const STILL: &str = "train = { steps = 1, lr = 0.0, batch = 4 }";
const QUIET: &str = ", hidden_dropout_prob = 0.0, attention_probs_dropout_prob = 0.0";

/// Every family with two layers.
fn families() -> [(&'static str, String); 4] {
    let lstm = format!("{TINY_LSTM}, num_hidden_layers = 2");
    [("bert", TINY_BERT.to_owned()), ("t5", TINY_T5.to_owned()), ("mamba", TINY_MAMBA.to_owned()), ("lstm", lstm)]
}

/// A small data set, a model of a family, its features, and the model tuned.
fn begun(config: &str) -> String {
    tiny_writer(config, SMALL) + &fine_tune("tuned", TUNED, "")
}

/// A distil stage after `@tuned`.
fn distil(name: &str, more: &str) -> String {
    format!("\n[stages.{name}]\nkind = \"distil\"\nteacher = \"@tuned\"\ndata = \"@features\"\n{more}\n")
}

/// A new model with the tokenizer of `@base`, which has run before.
fn beside(name: &str, config: &str) -> String {
    format!("\n[stages.{name}]\nkind = \"checkpoint\"\ntokenizer = \"base.model\"\nconfig = {{ {config} }}\n")
}

fn load(lab: &Lab, output: &str) -> AnyModel {
    models::load(lab.path(output), &Placement::inference(Device::Cpu), 0).unwrap().0
}

fn losses(lab: &Lab, stage: &str) -> Vec<f64> {
    read_table::<TrainingRow>(lab.path(&format!("{stage}.log"))).unwrap().into_iter().filter_map(|row| row.loss).collect()
}

/// The largest difference of what two models say.
fn off(lab: &Lab, one: &str, other: &str) -> f64 {
    (logits(&load(lab, one)) - logits(&load(lab, other))).abs().max().double_value(&[])
}

/// The mean divergence of a reader from another on the windows of a part.
fn divergence(lab: &Lab, student: &str, teacher: &str, part: Part) -> f64 {
    let features = Features::open(lab.path("features.features"), part).unwrap();
    let rows: Vec<(&[u32], u32)> = (0..features.len()).map(|row| (features.ids(row), features.segment_start(row))).collect();
    let packed = Packed::from_sequences(&rows, Device::Cpu).unwrap();
    let said = |stage: &str| load(lab, stage).into_reader().unwrap().forward(&packed, &mut Forward::inference()).unwrap();
    span_distillation(&said(student), &said(teacher), &packed, 1.0).unwrap().double_value(&[])
}

#[test]
fn a_student_of_half_the_layers_comes_nearer_to_its_teacher_than_one_that_learns_alone() {
    let mut lab = Lab::new();
    let train = "epochs = 12, lr = 2e-3, batch = 16";
    let text = tiny_writer(&format!("{TINY_BERT}{QUIET}"), "limit_train = 400\nlimit_dev = 120")
        + &fine_tune("tuned", train, "")
        + &distil("start", &format!("layers = [0]\n{STILL}"))
        + &method("alone", "fine-tune", "start", &format!("train = {{ {train} }}"))
        + &distil("taught", &format!("layers = [0]\nteacher_share = 1.0\ntrain = {{ {train} }}"))
        + &distil("shown", &format!("layers = [0]\nteacher_share = 1.0\nhidden = 1.0\nattention = 1.0\ntrain = {{ {train} }}"));
    let scored = ["tuned", "alone", "taught"].map(|stage| evaluate(&format!("{stage}_scores"), stage, "latency = 0"));
    lab.run(&(text + &scored.concat())).unwrap();
    for part in [Part::Train, Part::Dev] {
        let far = ["start", "alone", "taught", "shown"].map(|stage| divergence(&lab, &format!("{stage}.model"), "tuned.model", part));
        println!("{part:?}: divergence from the teacher of start, alone, taught, shown: {far:?}");
        assert!(far[2] < far[1] && far[2] < far[0] / 2.0 && far[3] < far[1], "{far:?}");
    }
    let answers = |stage: &str| read_table::<PredictionRow>(lab.path(&format!("{stage}_scores.predictions"))).unwrap();
    let alike =
        |stage: &str| answers(stage).iter().zip(&answers("tuned")).filter(|(one, other)| one.prediction == other.prediction).count();
    println!("of 120 answers are the teacher's: alone {}, taught {}", alike("alone"), alike("taught"));
    assert!(alike("taught") > alike("alone"));
    assert_eq!(lab.bytes("taught.model", "tokenizer.json"), lab.bytes("base.model", "tokenizer.json"));
    assert!(losses(&lab, "shown").iter().all(|loss| loss.is_finite()));
}

#[test]
fn every_family_learns_with_some_of_its_teachers_layers() {
    for (family, config) in families() {
        let mut lab = Lab::new();
        let train = "train = { epochs = 6, lr = 3e-3, batch = 16 }";
        let text = begun(&config)
            + &distil("same", &format!("layers = [0, 1]\n{STILL}"))
            + &distil("small", &format!("layers = [1]\nteacher_share = 0.8\nhidden = 0.1\n{train}"))
            + &evaluate("scores", "small", "latency = 0");
        lab.run(&text).unwrap_or_else(|error| panic!("{family}: {error:?}"));
        assert_eq!(off(&lab, "same.model", "tuned.model"), 0.0, "{family}");
        let losses = losses(&lab, "small");
        assert!(losses.last().unwrap() < &(0.9 * losses[0]), "{family}: {losses:?}");
        let row = read_table::<MetricsRow>(lab.path("scores.metrics")).unwrap().remove(0);
        let parameters = |stage: &str| load(&lab, stage).network().parameters().count();
        let (small, whole) = (parameters("small.model"), parameters("tuned.model"));
        assert!(small < whole && row.parameters == Some(small.try_into().unwrap()), "{family}: {small} of {whole}");
        assert_eq!(
            row.parameters_trained,
            Some(load(&lab, "small.model").network().parameters().iter().map(|one| one.shape().iter().product::<i64>()).sum())
        );
    }
}

#[test]
fn the_layers_of_a_decoder_are_chosen_apart() {
    let mut lab = Lab::new();
    let text = begun(TINY_T5)
        + &distil("small", &format!("layers = [0, 1]\ndecoder_layers = [1]\nhidden = 1.0\nattention = 1.0\n{STILL}"))
        + &evaluate("scores", "small", "latency = 0");
    lab.run(&text).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&lab.bytes("small.model", "config.json")).unwrap();
    assert_eq!((config["num_layers"].as_i64(), config["num_decoder_layers"].as_i64()), (Some(2), Some(1)));
}

#[test]
fn a_teacher_that_is_pruned_quantized_or_adapted_leaves_dense_weights() {
    let mut lab = Lab::new();
    let train = "train = { epochs = 1, lr = 1e-3, batch = 16 }";
    let teacher = |name: &str, teacher: &str| distil(name, &format!("layers = [0, 1]\n{STILL}")).replace("@tuned", &format!("@{teacher}"));
    let small = TINY_BERT.replace("num_hidden_layers = 2", "num_hidden_layers = 1");
    let text = begun(TINY_BERT)
        + &method("pruned", "prune", "tuned", &format!("sparsity = 0.5\n{train}"))
        + &method("packed", "quantize", "tuned", "scheme = \"nf4\"\nrest = \"float32\"")
        + &method("adapted", "lora-adapt", "packed", &format!("rank = 2\n{train}"))
        + &teacher("of_pruned", "pruned")
        + &teacher("of_packed", "packed")
        + &teacher("of_adapted", "adapted")
        + &beside("new", &small)
        + &distil("follower", &format!("model = \"@new\"\n{train}")).replace("@tuned", "@adapted")
        + &distil("sparse", &format!("model = \"@pruned\"\nhidden = 1.0\n{train}"));
    lab.run(&text).unwrap();
    for stage in ["pruned", "packed", "adapted"] {
        assert!(off(&lab, &format!("of_{stage}.model"), &format!("{stage}.model")) < 1e-5, "{stage}");
        let (student, config) = (load(&lab, &format!("of_{stage}.model")), lab.bytes(&format!("of_{stage}.model"), "config.json"));
        let parameters = student.network().parameters();
        assert_eq!((parameters.quantized().count(), parameters.masked().count()), (0, 0), "{stage}");
        assert!(!String::from_utf8(config).unwrap().contains("quantization_config"), "{stage}");
    }
    let name = "bert.encoder.layer.1.output.dense.weight";
    let zeros = |stage: &str| load(&lab, stage).network().parameters().value(name).unwrap().eq(0.0);
    assert!(zeros("sparse.model").equal(&zeros("pruned.model")), "what is left out of a student stays left out");
}

#[test]
fn students_of_another_width_follow_too() {
    let mut lab = Lab::new();
    let narrow = "model_type = \"bert\", hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 64, max_position_embeddings = 160";
    let t5 = TINY_T5.replace("d_model = 64", "d_model = 32").replace("num_layers = 2", "num_layers = 1");
    let train = "train = { epochs = 4, lr = 2e-3, batch = 16 }";
    for (family, config, student, more) in [
        ("bert", TINY_BERT, narrow, "attention = 1.0"),
        ("t5", TINY_T5, &*t5, "attention = 1.0"),
        ("mamba", TINY_MAMBA, &TINY_MAMBA.replace("64", "32"), ""),
    ] {
        lab.outputs.clear();
        let text = begun(config)
            + &beside("new", student)
            + &distil("small", &format!("model = \"@new\"\nhidden = 1.0\n{more}\n{train}"))
            + &evaluate("scores", "small", "latency = 0");
        lab.run(&text).unwrap_or_else(|error| panic!("{family}: {error:?}"));
        let losses = losses(&lab, "small");
        assert!(losses.last() < losses.first(), "{family}: {losses:?}");
    }
}

#[test]
fn micro_batches_do_not_change_what_a_student_learns() {
    for config in [format!("{TINY_BERT}{QUIET}"), TINY_T5.to_owned()] {
        let mut lab = Lab::new();
        let more = "layers = [0]\nhidden = 1.0\nattention = 1.0\ntrain = { epochs = 1, lr = 1e-3, batch = 16 }";
        let text = begun(&config)
            + &distil("whole", &format!("{more}\nhints = {{ log_every = 1 }}"))
            + &distil("pieces", &format!("{more}\nhints = {{ micro_batch_tokens = 300, log_every = 1 }}"));
        lab.run(&text).unwrap();
        let (whole, pieces) = (losses(&lab, "whole"), losses(&lab, "pieces"));
        assert!(whole.len() > 3 && whole.len() == pieces.len());
        for (whole, pieces) in whole.iter().zip(&pieces) {
            assert!((whole - pieces).abs() < 1e-3 * whole, "{whole} {pieces}");
        }
    }
}

#[test]
fn one_seed_gives_one_student() {
    let mut lab = Lab::new();
    let more = "layers = [1]\nhidden = 0.5\nattention = 0.5\ntrain = { epochs = 1, lr = 1e-3, batch = 16 }";
    lab.run(&(begun(TINY_BERT) + &distil("a", more) + &distil("b", more))).unwrap();
    for file in ["model.safetensors", "config.json", "tokenizer.json", "qapipe.json"] {
        assert_eq!(lab.bytes("a.model", file), lab.bytes("b.model", file), "{file}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_one_message() {
    let train = "train = { steps = 1, lr = 1e-3, batch = 4 }";
    let other = "\n[stages.other]\nkind = \"checkpoint\"\nvocabulary = \"@sample\"\nvocab_size = 200\nconfig = { CONFIG }\n"
        .replace("CONFIG", TINY_BERT);
    let base = begun(TINY_BERT)
        + &other
        + &beside(
            "odd",
            &TINY_BERT.replace("num_attention_heads = 4", "num_attention_heads = 1").replace("hidden_size = 64", "hidden_size = 30"),
        )
        + &beside("lstm", TINY_LSTM);
    let mut lab = Lab::new();
    lab.run(&base).unwrap();
    let cases = [
        ("layers = [0, 2]".to_owned(), "of bert.encoder.layer.* the layers [0, 2] are to stay, and there are 0 to 1"),
        ("layers = [0]\ndecoder_layers = [0]".to_owned(), "the model has 1: it has no decoder"),
        ("model = \"@other\"".to_owned(), "the vocabulary does not fit the model: the features' tokenizer needs"),
        ("model = \"@odd\"\nattention = 1.0".to_owned(), "the student's 1 heads of 30 cannot be split into the teacher's 4"),
        ("model = \"@lstm\"\nattention = 1.0".to_owned(), "cannot be compared"),
    ];
    for (number, (more, wanted)) in cases.iter().enumerate() {
        let error = lab.run(&(base.clone() + &distil(&format!("w{number}"), &format!("{more}\n{train}")))).unwrap_err();
        assert!(error.message.contains(wanted) && !error.message.contains('\n'), "{wanted}: {}", error.message);
    }
    // A teacher without a head, as pretraining leaves it.
    let folder = lab.folder.path().join("headless");
    std::fs::create_dir(&folder).unwrap();
    let weights = Weights::open_folder(lab.path("tuned.model")).unwrap();
    let body = weights.names().filter(|name| !name.starts_with("qa_outputs")).map(|name| (name.to_owned(), weights.tensor(name).unwrap()));
    qapipe_nn::weights::write(&folder.join("model.safetensors"), body.collect(), &[]).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::write(folder.join(file), lab.bytes("tuned.model", file)).unwrap();
    }
    let base = base + "\n[stages.headless]\nkind = \"checkpoint\"\nsource = \"headless\"\n";
    for (teacher, wanted) in [
        ("headless", "the teacher cannot answer yet: it has no qa_outputs.weight, qa_outputs.bias"),
        ("other", "the teacher: the vocabulary does not fit the model"),
    ] {
        let stage =
            distil("small", &format!("model = \"@tuned\"\n{train}")).replace("teacher = \"@tuned\"", &format!("teacher = \"@{teacher}\""));
        let error = lab.run(&(base.clone() + &stage)).unwrap_err();
        assert!(error.message.contains(wanted), "{wanted}: {}", error.message);
    }
}

#[test]
fn families_without_attention_say_so() {
    for (family, config) in families().into_iter().skip(2) {
        let mut lab = Lab::new();
        let error = lab.run(&(begun(&config) + &distil("small", &format!("layers = [0]\nattention = 1.0\n{STILL}")))).unwrap_err();
        assert!(
            error.message.contains("has no attention of its tokens to each other that could be compared; BERT and T5 have"),
            "{family}: {}",
            error.message
        );
    }
}

#[test]
fn a_teacher_of_another_form_is_refused() {
    let mut lab = Lab::new();
    let text = begun(TINY_T5) + &beside("reader", TINY_BERT);
    lab.run(&text).unwrap();
    let refused = |lab: &mut Lab, more: &str| lab.run(&(text.clone() + more)).unwrap_err().message;
    let points = distil("w1", &format!("model = \"@base\"\n{STILL}")).replace("@tuned", "@reader");
    let wanted = "the features are texts to answer, and the model points at answers in windows";
    assert!(refused(&mut lab, &points).contains(wanted));
    assert!(refused(&mut lab, &distil("w2", &format!("model = \"@reader\"\n{STILL}"))).contains(wanted));
}
