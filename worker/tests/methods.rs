//! Pruning, quantizing and adapting: every method on every family, and one after the other.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeSet;

use common::{Lab, TINY_BERT, TINY_LSTM, TINY_MAMBA, TINY_T5, evaluate, fine_tune, logits, method, tiny_writer};
use qapipe_nn::models::{self, Stored};
use qapipe_nn::{AnyModel, Placement, Weights};
use qapipe_stages::tables::{MetricsRow, TrainingRow, read_table};
use tch::{Device, Kind, Tensor};

/// Every family, and how fast its weights and its scores learn.
const FAMILIES: [(&str, &str); 4] = [("bert", TINY_BERT), ("t5", TINY_T5), ("mamba", TINY_MAMBA), ("lstm", TINY_LSTM)];

const SMALL: &str = "limit_train = 96\nlimit_dev = 24";

/// A small data set, a model of a family and its features, and a little training.
fn begun(config: &str) -> String {
    tiny_writer(config, SMALL) + &fine_tune("tuned", "epochs = 2, lr = 2e-3, batch = 16", "")
}

fn metrics(lab: &Lab, stage: &str) -> MetricsRow {
    let rows: Vec<MetricsRow> = read_table(lab.path(&format!("{stage}.metrics"))).unwrap();
    rows.into_iter().next().unwrap()
}

fn load(lab: &Lab, output: &str) -> AnyModel {
    models::load(lab.path(output), &Placement::inference(Device::Cpu), 0).unwrap().0
}

fn value(model: &AnyModel, name: &str) -> Tensor {
    model.network().parameters().value(name).unwrap()
}

/// The names of a model's matrices that methods usually touch.
fn matrices(model: &AnyModel) -> Vec<String> {
    let usual = |site: &&qapipe_nn::Site| qapipe_nn::Selection::default().takes(site.module(), site.role);
    model.network().parameters().sites().iter().filter(usual).map(|site| site.name.clone()).collect()
}

fn share_of_zeros(tensor: &Tensor) -> f64 {
    tensor.eq(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}

#[test]
fn every_family_can_be_pruned() {
    for (family, config) in FAMILIES {
        let mut lab = Lab::new();
        let train = "train = { epochs = 1, lr = 1e-3, batch = 16 }";
        let text = begun(config)
            + &method("static", "prune", "tuned", &format!("sparsity = 0.5\n{train}"))
            + &method("smallest", "prune", "tuned", &format!("sparsity = 0.8\nmethod = \"magnitude\"\nbudget = \"global\"\n{train}"))
            + &method("moving", "prune", "tuned", &format!("sparsity = 0.5\nmethod = \"movement\"\nteacher = \"@tuned\"\n{train}"))
            + &evaluate("scores", "static", "latency = 0")
            + &method("dense", "export", "static", "")
            + &evaluate("again", "dense", "latency = 0");
        lab.run(&text).unwrap_or_else(|error| panic!("{family}: {error:?}"));
        let (tuned, pruned) = (load(&lab, "tuned.model"), load(&lab, "static.model"));
        for name in matrices(&pruned) {
            let (before, after) = (value(&tuned, &name), value(&pruned, &name));
            assert!((share_of_zeros(&after) - 0.5).abs() < 0.01, "{family} {name}: {}", share_of_zeros(&after));
            assert!(after.eq(0.0).logical_or(&after.eq_tensor(&before)).all().int64_value(&[]) == 1, "{family} {name} moved");
        }
        let all: Vec<Tensor> = matrices(&pruned).iter().map(|name| value(&load(&lab, "smallest.model"), name).view([-1])).collect();
        assert!((share_of_zeros(&Tensor::cat(&all, 0)) - 0.8).abs() < 0.01, "{family}");
        let row = metrics(&lab, "scores");
        let (remaining, parameters) = (row.parameters_remaining.unwrap(), row.parameters.unwrap());
        let matrices: i64 = matrices(&pruned).iter().map(|name| value(&pruned, name).numel() as i64).sum();
        assert!((parameters - remaining - matrices / 2).abs() < 100, "{family}: {remaining} of {parameters}");
        assert!(row.bytes.unwrap() < 4 * parameters - 2 * matrices + matrices / 8 + 40_000, "{family}: {row:?}");
        let again = metrics(&lab, "again");
        assert_eq!((row.exact, row.f1, row.has_answer_f1), (again.exact, again.f1, again.has_answer_f1), "{family}");
        assert!(Weights::open_folder(lab.path("dense.model")).unwrap().names().all(|name| !name.ends_with(".mask")), "{family}");
    }
}

#[test]
fn every_family_can_be_quantized() {
    for (family, config) in FAMILIES {
        let mut lab = Lab::new();
        let mut text = begun(config);
        for scheme in ["int8", "nf4", "int4"] {
            text += &method(scheme, "quantize", "tuned", &format!("scheme = \"{scheme}\""));
            text += &evaluate(&format!("{scheme}_scores"), scheme, "latency = 0");
        }
        text += &method("dynamic", "quantize", "tuned", "scheme = \"int8\"\nactivations = \"dynamic\"\noutliers = 6.0");
        text += &evaluate("dynamic_scores", "dynamic", "latency = 0");
        text +=
            &method("calibrated", "quantize", "tuned", "scheme = \"int4\"\ngroup = 16\ncalibrate = \"@features\"\ncalibration_windows = 8");
        text += &method("dense", "export", "int8", "weights = \"float16\"");
        lab.run(&text).unwrap_or_else(|error| panic!("{family}: {error:?}"));
        let tuned = load(&lab, "tuned.model");
        for (scheme, bound) in [("int8", 0.01), ("nf4", 0.12), ("int4", 0.15), ("calibrated", 0.15)] {
            let packed = load(&lab, &format!("{scheme}.model"));
            for name in matrices(&packed) {
                let (before, after) = (value(&tuned, &name), value(&packed, &name));
                let off = (&before - &after).norm().double_value(&[]) / before.norm().double_value(&[]);
                assert!(off < bound && off > 0.0, "{family} {scheme} {name}: {off}");
            }
            let packed = packed.network().parameters();
            assert_eq!(packed.quantized().count(), matrices(&tuned).len(), "{family} {scheme}");
            assert_eq!(packed.count(), tuned.network().parameters().count());
        }
        let bytes = |scheme: &str| metrics(&lab, &format!("{scheme}_scores")).bytes.unwrap();
        assert!(bytes("nf4") < bytes("int8"), "{family}");
        assert!(metrics(&lab, "dynamic_scores").exact.is_some());
    }
}

#[test]
fn every_family_can_be_adapted() {
    for (family, config) in FAMILIES {
        let mut lab = Lab::new();
        let train = "train = { epochs = 2, lr = 5e-3, batch = 16 }";
        let text = begun(config)
            + &method("lora", "lora-adapt", "tuned", &format!("rank = 4\ndropout = 0.1\n{train}"))
            + &method("dora", "lora-adapt", "tuned", &format!("rank = 4\ndora = true\nrslora = true\n{train}"))
            + &method("nf4", "quantize", "tuned", "scheme = \"nf4\"\nrest = \"float32\"")
            + &method("qlora", "lora-adapt", "nf4", &format!("rank = 4\n{train}"))
            + &evaluate("scores", "lora", "latency = 0")
            + &evaluate("qscores", "qlora", "latency = 0")
            + &method("merged", "export", "lora", "")
            + &evaluate("again", "merged", "latency = 0")
            + &method("merged_dora", "export", "dora", "")
            + &method("merged_qlora", "export", "qlora", "");
        lab.run(&text).unwrap_or_else(|error| panic!("{family}: {error:?}"));
        for (adapter, base) in [("lora", "tuned"), ("dora", "tuned"), ("qlora", "nf4")] {
            let log: Vec<TrainingRow> = read_table(lab.path(&format!("{adapter}.log"))).unwrap();
            assert!(log.iter().filter_map(|row| row.loss).all(f64::is_finite), "{family} {adapter}");
            let held = |folder: &std::path::Path| std::fs::read(folder.join("model.safetensors")).unwrap();
            let folder = lab.path(&format!("{adapter}.model")).to_path_buf();
            assert_eq!(held(&Stored::base(&folder)), held(lab.path(&format!("{base}.model"))), "{family} {adapter}: the base has changed");
            assert_same_answers(
                &load(&lab, &format!("{adapter}.model")),
                &load(&lab, &format!("merged_{adapter}.model").replace("merged_lora", "merged")),
                &lab,
                family,
            );
        }
        let (row, again) = (metrics(&lab, "scores"), metrics(&lab, "again"));
        assert_eq!((row.exact, row.f1), (again.exact, again.f1), "{family}");
        assert!(row.parameters_trained.unwrap() * 4 < row.parameters.unwrap(), "{family}: {row:?}");
        assert!(row.bytes.unwrap() > again.bytes.unwrap(), "{family}");
    }
}

/// Merged or not, a model says the same, to 1e-5 of the largest number.
fn assert_same_answers(one: &AnyModel, other: &AnyModel, lab: &Lab, family: &str) {
    let (one, other) = (logits(one), logits(other));
    let off = (&one - &other).abs().max().double_value(&[]) / one.abs().clamp_max(1e3).max().double_value(&[]).max(1.0);
    assert!(off < 1e-5, "{family}: {off} ({})", lab.folder.path().display());
}

#[test]
fn methods_follow_one_another() {
    let mut lab = Lab::new();
    let train = "train = { epochs = 1, lr = 1e-3, batch = 16 }";
    let text = begun(TINY_BERT)
        + &method("pruned", "prune", "tuned", &format!("sparsity = 0.6\n{train}"))
        + &method("packed", "quantize", "pruned", "scheme = \"int8\"")
        + &method("adapted", "lora-adapt", "packed", &format!("rank = 2\n{train}"))
        + &method("sparse_lora", "lora-adapt", "pruned", &format!("rank = 2\n{train}"))
        + &method("again", "fine-tune", "pruned", train)
        + &method("taught", "prune", "tuned", &format!("sparsity = 0.5\nbudget = \"2:4\"\nteacher = \"@pruned\"\n{train}"))
        + &evaluate("scores", "adapted", "latency = 0");
    lab.run(&text).unwrap();
    let name = "bert.encoder.layer.1.output.dense.weight";
    for stage in ["pruned", "packed", "again", "sparse_lora", "adapted"] {
        let zeros = share_of_zeros(&value(&load(&lab, &format!("{stage}.model")), name));
        assert!((zeros - 0.6).abs() < 0.01, "{stage}: {zeros}");
    }
    let zeros = |stage: &str| value(&load(&lab, &format!("{stage}.model")), name).eq(0.0);
    assert!(zeros("pruned").equal(&zeros("again")), "what is left out stays left out");
    assert!(!value(&load(&lab, "again.model"), name).equal(&value(&load(&lab, "pruned.model"), name)), "what stays trains");
    let fours = zeros("taught").view([-1, 4]).to_kind(Kind::Int64).sum_dim_intlist(1_i64, false, Kind::Int64);
    assert_eq!((fours.min().int64_value(&[]), fours.max().int64_value(&[])), (2, 2));
    let row = metrics(&lab, "scores");
    assert!(row.parameters_remaining.unwrap() < row.parameters.unwrap() && row.exact.is_some(), "{row:?}");
}

#[test]
fn what_makes_no_sense_is_refused_in_one_message() {
    let mut lab = Lab::new();
    let train = "train = { steps = 1, lr = 1e-3, batch = 4 }";
    let base = begun(TINY_BERT)
        + &method("nf4", "quantize", "tuned", "scheme = \"nf4\"")
        + &method("pruned", "prune", "tuned", &format!("sparsity = 0.5\n{train}"));
    lab.run(&base).unwrap();
    // Brought from folders: what they hold is not known before it is read.
    let brought = |name: &str| format!("[stages.brought_{name}]\nkind = \"checkpoint\"\nsource = \"{name}.model\"\n");
    let base = base + &brought("nf4") + &brought("pruned");
    let mut refused = |stage: String| lab.run(&(base.clone() + &stage)).unwrap_err().message;
    let cases = [
        (
            method("w1", "lora-adapt", "tuned", &format!("rank = 65\n{train}")),
            "rank 65 is larger than the matrix of bert.encoder.layer.0.attention.self.query, [64, 64]",
        ),
        (
            method("w2", "lora-adapt", "tuned", &format!("targets = [\"querry\"]\n{train}")),
            "no matrix fits \"querry\"; there are bert.encoder.layer.*.attention.output.dense, ",
        ),
        (method("w3", "quantize", "brought_nf4", "scheme = \"int8\""), "the model is quantized already: bert.encoder.layer.0.attention"),
        (method("w4", "fine-tune", "brought_nf4", train), "is quantized, and quantized weights do not train"),
        (method("w5", "prune", "brought_nf4", &format!("sparsity = 0.5\n{train}")), "is quantized, and has no single weights to leave out"),
        (method("w6", "prune", "brought_pruned", &format!("sparsity = 0.5\n{train}")), "is pruned already"),
    ];
    let messages: BTreeSet<String> = cases
        .into_iter()
        .map(|(stage, wanted)| {
            let message = refused(stage);
            assert!(message.contains(wanted), "{wanted}: {message}");
            message
        })
        .collect();
    assert!(messages.iter().all(|message| !message.contains('\n')), "{messages:?}");
}

/// The sample's tiny BERT with a head for masked words at random, as pretraining leaves one.
fn pretrained(lab: &mut Lab) -> String {
    lab.run(&tiny_writer(TINY_BERT, SMALL)).unwrap();
    let (base, folder) = (lab.path("base.model").to_path_buf(), lab.folder.path().join("pretrained"));
    std::fs::create_dir(&folder).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(base.join(file), folder.join(file)).unwrap();
    }
    let weights = Weights::open_folder(&base).unwrap();
    let mut tensors: Vec<(String, Tensor)> = weights.names().map(|name| (name.to_owned(), weights.tensor(name).unwrap())).collect();
    tensors.retain(|(name, _)| !name.starts_with("qa_outputs"));
    let words = weights.shape("bert.embeddings.word_embeddings.weight").unwrap()[0];
    tch::manual_seed(7);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.1;
    for (name, shape) in [
        ("transform.dense.weight", vec![64, 64]),
        ("transform.dense.bias", vec![64]),
        ("transform.LayerNorm.bias", vec![64]),
        ("bias", vec![words]),
    ] {
        tensors.push((format!("cls.predictions.{name}"), random(&shape)));
    }
    tensors.push(("cls.predictions.transform.LayerNorm.weight".into(), Tensor::ones([64], (Kind::Float, Device::Cpu))));
    qapipe_nn::weights::write(&folder.join("model.safetensors"), tensors, &[]).unwrap();
    tiny_writer(TINY_BERT, SMALL) + &format!("[stages.pretrained]\nkind = \"checkpoint\"\nsource = \"{}\"\n", folder.display())
}

#[test]
fn the_head_for_masked_words_can_find_answers() {
    let mut lab = Lab::new();
    let begun = pretrained(&mut lab);
    let head = "train_head = false\nsparsity = 0.5\ntrain = { epochs = 2, lr = 1e-3, batch = 16 }\nhead_words = ";
    let text = begun.clone()
        + &method("pruned", "prune", "pretrained", &format!("{head}[\"is\", \"the\"]"))
        + &evaluate("scores", "pruned", "latency = 0");
    lab.run(&text).unwrap();
    let weights = Weights::open_folder(lab.path("pruned.model")).unwrap();
    let pretrained = Weights::open_folder(lab.path("pretrained.model")).unwrap();
    let tokenizer = qapipe_stages::tokenizer::load(lab.path("pretrained.model")).unwrap();
    let row = |word: &str| {
        pretrained.floats("bert.embeddings.word_embeddings.weight").unwrap().get(i64::from(tokenizer.token_to_id(word).unwrap()))
    };
    let head = weights.floats("qa_words.weight").unwrap();
    assert!(head.get(0).equal(&row("is")) && head.get(1).equal(&row("the")), "the head is frozen");
    let kept = "cls.predictions.transform.dense.weight";
    assert!(weights.floats(kept).unwrap().equal(&pretrained.floats(kept).unwrap()), "all of it");
    let (row, trained) = (metrics(&lab, "scores"), matrices(&load(&lab, "pruned.model")).len());
    assert_eq!(trained, 12, "six matrices a layer are masked");
    assert!(
        row.exact.is_some() && row.parameters_trained.unwrap() == 2 * (4 * 64 * 64 + 2 * 64 * 128),
        "scores train and nothing else: {row:?}"
    );
    let wrong = "sparsity = 0.5\ntrain_head = false\nhead_words = ";
    let mut refused = |base: &str, words: &str| {
        lab.run(&(begun.clone() + &method(&format!("from_{base}"), "prune", base, &format!("{wrong}{words}")))).unwrap_err().message
    };
    assert!(refused("pretrained", "[\"is\", \"neverthere\"]").contains("the model's tokenizer has no token \"neverthere\""));
    assert!(
        refused("base", "[\"is\", \"the\"]")
            .contains("the model has no head for masked words: it lacks cls.predictions.transform.dense.weight")
    );
}

#[test]
fn adapters_of_others_are_brought_in_and_belong_to_one_model() {
    let mut lab = Lab::new();
    let train = "rank = 2\ntrain = { steps = 3, lr = 1e-2, batch = 8 }";
    let text = begun(TINY_BERT) + &method("lora", "lora-adapt", "tuned", train) + &evaluate("scores", "lora", "latency = 0");
    lab.run(&text).unwrap();
    // As PEFT leaves it: without the model.
    let (theirs, folder) = (lab.path("lora.model").to_path_buf(), lab.folder.path().join("theirs"));
    std::fs::create_dir(&folder).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(theirs.join(file), folder.join(file)).unwrap();
    }
    let brought = |name: &str, base: &str| format!("[stages.{name}]\nkind = \"checkpoint\"\nsource = \"{}\"\n{base}\n", folder.display());
    let text = text + &brought("brought", "base = \"@tuned\"") + &evaluate("again", "brought", "latency = 0");
    lab.run(&text).unwrap();
    assert_eq!(metrics(&lab, "scores").exact, metrics(&lab, "again").exact);
    assert_same_answers(&load(&lab, "lora.model"), &load(&lab, "brought.model"), &lab, "bert");
    let mut refused = |stage: String| lab.run(&(text.clone() + &stage)).unwrap_err();
    let alone = refused(brought("alone", ""));
    assert!(alone.message.contains("holds adapters, not a model") && alone.help.unwrap().contains("base"), "{}", alone.message);
    let narrow = TINY_BERT.replace("hidden_size = 64", "hidden_size = 32");
    let other = format!("[stages.narrow]\nkind = \"checkpoint\"\nvocabulary = \"@sample\"\nvocab_size = 2000\nconfig = {{ {narrow} }}\n");
    let message = refused(other + &brought("misfit", "base = \"@narrow\"")).message;
    assert!(message.contains("weights do not fit the model: of another shape: ") && !message.contains('\n'), "{message}");
}
