//! LSTMs: vocabularies of whole words, vectors, and training through the one loop.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::fmt::Write as _;

use common::{Lab, evaluate, fine_tune};
use qapipe_nn::{LstmForQuestionAnswering, Weights};
use qapipe_stages::tables::{MetricsRow, read_table};
use qapipe_stages::tokenizer;

/// The sample, a small LSTM, and the windows.
fn tiny(config: &str, more: &str) -> String {
    format!(
        r#"
        name = "tiny"
        seed = 13
        [stages.sample]
        kind = "dataset"
        source = "sample"
        [stages.base]
        kind = "checkpoint"
        vocabulary = "@sample"
        vocab_size = 3000
        config = {{ model_type = "lstm", hidden_size = 32, word_size = 32, {config} }}
        {more}
        [stages.features]
        kind = "tokenize"
        dataset = "@sample"
        model = "@base"
        max_length = 128
        stride = 32
        "#
    )
}

/// What a small LSTM reaches on the sample.
fn reached(config: &str, train: &str) -> MetricsRow {
    let mut lab = Lab::new();
    lab.run(&(tiny(config, "") + &fine_tune("tuned", train, "") + &evaluate("scores", "tuned", "latency = 2"))).unwrap();
    let rows: Vec<MetricsRow> = read_table(lab.path("scores.metrics")).unwrap();
    rows.into_iter().next().unwrap()
}

const TRAIN: &str = "epochs = 12, lr = 3e-3, batch = 16, clip = 5.0, weight_decay = 0.0";

#[test]
fn the_strong_one_learns_to_answer() {
    let strong =
        r#"attention = "bidaf", head = "span", exact_match = true, character_vocab_size = 60, character_filters = 20, dropout_rate = 0.1"#;
    let row = reached(strong, TRAIN);
    assert!(row.exact.unwrap() > row.abstain_exact.unwrap() + 10.0, "{row:?}");
    assert!(row.has_answer_exact.unwrap() > 30.0 && row.flops.unwrap() > 1e6 && row.latency_p50_ms.unwrap() > 0.0, "{row:?}");
}

#[test]
fn scores_of_positions_learn_to_answer() {
    let row = reached(r#"attention = "dot", dropout_rate = 0.1"#, TRAIN);
    assert!(row.exact.unwrap() > row.abstain_exact.unwrap() + 5.0, "{row:?}");
}

#[test]
fn the_greatest_values_over_all_positions_train_at_least() {
    for attention in ["multi-head", "self-attention"] {
        let config = format!(r#"attention = "{attention}", head = "max-pooling", residual = true, positions = 120"#);
        let row = reached(&config, "epochs = 3, lr = 3e-3, batch = 16, l2 = 1e-4, weight_decay = 0.0");
        eprintln!("{attention}: {:?} against {:?}", row.exact, row.abstain_exact);
        assert!(row.exact.unwrap() > 20.0, "{row:?}");
    }
}

/// A file of vectors for some of the words of a tokenizer.
fn vectors(lab: &Lab, width: usize, every: usize) -> std::path::PathBuf {
    let tokenizer = tokenizer::load(lab.path("base.model")).unwrap();
    let mut text = String::new();
    for (word, id) in tokenizer.get_vocab(false).into_iter().filter(|(_, id)| *id > 3 && (*id as usize).is_multiple_of(every)) {
        let _ = writeln!(text, "{word}{}", format!(" {id}.5").repeat(width));
    }
    let file = lab.folder.path().join("some.txt");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn words_get_their_vectors_and_the_share_is_told() {
    let mut lab = Lab::new();
    let config = r#"train_words = false, attention = "dot", character_vocab_size = 40"#;
    lab.run(&tiny(config, "")).unwrap();
    let file = vectors(&lab, 32, 2);
    lab.outputs.clear();
    let more = format!("vectors = \"{}\"\ncover = \"@sample\"", file.display());
    lab.run(&tiny(config, &more)).unwrap();
    let weights = Weights::open_folder(lab.path("base.model")).unwrap();
    let table = Vec::<Vec<f32>>::try_from(&weights.floats(LstmForQuestionAnswering::WORDS).unwrap()).unwrap();
    assert!(table[10].iter().all(|&value| value == 10.5) && table[11].iter().any(|&value| value != table[11][0]));
    let characters =
        Vec::<Vec<i64>>::try_from(&weights.whole_numbers(LstmForQuestionAnswering::CHARACTERS).unwrap().to_kind(tch::Kind::Int64)).unwrap();
    assert!(characters[2].iter().all(|&one| one == 0) && characters[10][0] > 1 && characters[10].iter().all(|&one| one < 40));
    let share = lab.ear.measures.lock().unwrap()["vectors_coverage"];
    assert!((share - 0.5).abs() < 0.01, "{share}");
    assert!(lab.ear.log.lock().unwrap().iter().any(|line| line.starts_with("vectors for ") && line.contains("% of the running text")));
}

#[test]
fn words_of_the_vectors_can_join() {
    let mut lab = Lab::new();
    let file = lab.folder.path().join("other.vec");
    let row = |word: &str| format!("{word}{}\n", " 0.25".repeat(32));
    std::fs::write(&file, ["zebra", "the", "U.S.", "quokka"].map(row).concat()).unwrap();
    lab.run(&tiny("train_words = false", &format!("vectors = \"{}\"\nvector_words = 3", file.display()))).unwrap();
    let tokenizer = tokenizer::load(lab.path("base.model")).unwrap();
    assert!(tokenizer.token_to_id("zebra").is_some() && tokenizer.token_to_id("quokka").is_none());
    let table = Weights::open_folder(lab.path("base.model")).unwrap().floats(LstmForQuestionAnswering::WORDS).unwrap();
    let zebra = i64::from(tokenizer.token_to_id("zebra").unwrap());
    assert_eq!(table.double_value(&[zebra, 0]), 0.25);
}

#[test]
fn vectors_of_another_width_are_refused() {
    let mut lab = Lab::new();
    lab.run(&tiny("", "")).unwrap();
    let file = vectors(&lab, 5, 1);
    lab.outputs.clear();
    let error = lab.run(&tiny("", &format!("vectors = \"{}\"", file.display()))).unwrap_err();
    assert_eq!(error.message, "the vectors have 5 dimensions, the model's word_size is 32");
    assert!(error.help.unwrap().contains("word_size = 5"));
}

#[test]
fn training_twice_gives_the_same_bytes() {
    let mut lab = Lab::new();
    let train = "steps = 3, lr = 1e-3, batch = 8";
    let config = r#"attention = "bidaf", head = "span", exact_match = true, character_vocab_size = 60"#;
    lab.run(&(tiny(config, "") + &fine_tune("one", train, "") + &fine_tune("two", train, ""))).unwrap();
    assert_eq!(lab.bytes("one.model", "model.safetensors"), lab.bytes("two.model", "model.safetensors"));
}
