//! Models that write: training, answers, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use common::{Lab, TINY_T5, evaluate, fine_tune, tiny_writer};
use qapipe_stages::tables::{MetricsRow, PredictionRow, read_table};

fn metrics(lab: &Lab, stage: &str) -> MetricsRow {
    let rows: Vec<MetricsRow> = read_table(lab.path(&format!("{stage}.metrics"))).unwrap();
    rows.into_iter().next().unwrap()
}

#[test]
fn a_tiny_t5_learns_to_answer() {
    let mut lab = Lab::new();
    let train = "epochs = 20, lr = 3e-3, batch = 16, warmup = 0.05, weight_decay = 0.0";
    let text = tiny_writer(TINY_T5, "") + &fine_tune("tuned", train, "") + &evaluate("scores", "tuned", "latency = 3");
    lab.run(&text).unwrap();
    let row = metrics(&lab, "scores");
    eprintln!("{row:?} {:?} {:?}", lab.ear.measures.lock().unwrap(), lab.ear.log.lock().unwrap());
    assert!(row.exact.unwrap() > row.abstain_exact.unwrap() + 10.0, "{row:?}");
}

/// A tiny T5, as it comes, asked by prompts.
fn asking(limits: &str, prompt: &str) -> String {
    tiny_writer(TINY_T5, limits)
        + &format!("[stages.asked]\nkind = \"prompt\"\nmodel = \"@base\"\ndata = \"@sample\"\nmax_answer_length = 4\n{prompt}\n")
        + "[stages.scores]\nkind = \"evaluate\"\npredictions = \"@asked\"\ndata = \"@sample\"\n"
}

fn line(lab: &Lab, word: &str) -> String {
    lab.ear.log.lock().unwrap().iter().rev().find(|line| line.contains(word)).cloned().unwrap_or_default()
}

#[test]
fn prompts_give_an_answer_a_question_and_every_answer_is_kept() {
    let mut lab = Lab::new();
    lab.run(&asking("limit_dev = 20", "shots = 2")).unwrap();
    let first: Vec<PredictionRow> = read_table(lab.path("asked.predictions")).unwrap();
    assert_eq!(first.len(), 20);
    assert!(line(&lab, "answered before").starts_with("20 questions, 0 of them"));
    assert_eq!(metrics(&lab, "scores").total, Some(20));
    assert!(lab.ear.measures.lock().unwrap().contains_key("throughput"));
    // Ten more questions cost ten questions; the examples, and so the prompts, are the same.
    let again = asking("limit_dev = 30", "shots = 2").replace("[stages.asked]", "[stages.more]").replace("@asked", "@more");
    lab.outputs.remove("sample.examples");
    lab.run(&again).unwrap();
    assert!(line(&lab, "answered before").starts_with("30 questions, 20 of them"));
    let more: Vec<PredictionRow> = read_table(lab.path("more.predictions")).unwrap();
    let of = |id: &str| more.iter().find(|row| row.id == id).cloned();
    assert!(first.iter().all(|row| of(&row.id).as_ref() == Some(row)));
    // Other words are other prompts.
    lab.run(&again.replace("[stages.more]", "[stages.other]").replace("@more", "@other").replace("shots = 2", "shots = 0")).unwrap();
    assert!(line(&lab, "answered before").starts_with("30 questions, 0 of them"));
}

#[test]
fn a_prompt_that_is_too_long_is_named() {
    let mut lab = Lab::new();
    let error = lab.run(&asking("limit_dev = 5", "shots = 0\nmax_length = 20")).unwrap_err();
    assert!(error.message.contains("the prompt has") && error.message.contains("max_length is 20"), "{error:?}");
    let error = Lab::new().run(&asking("limit_dev = 5", "shots = 40\nmax_length = 200")).unwrap_err();
    assert!(error.message.contains("0 examples that fit"), "{error:?}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let mut lab = Lab::new();
    let bert = common::tiny("", "") + "[stages.asked]\nkind = \"prompt\"\nmodel = \"@base\"\ndata = \"@sample\"\n";
    let error = lab.run(&bert).unwrap_err();
    assert!(error.message.contains("points at answers, it does not write"), "{error:?}");
    // Windows of a BERT for a T5.
    let config = TINY_T5;
    let both = common::tiny("", "")
        + &format!("[stages.writer]\nkind = \"checkpoint\"\nvocabulary = \"@sample\"\nvocab_size = 2000\nconfig = {{ {config} }}\n")
        + &fine_tune("tuned", "epochs = 1", "").replace("model = \"@base\"", "model = \"@writer\"");
    let error = lab.run(&both).unwrap_err();
    assert!(error.message.contains("windows to point into"), "{error:?}");
}

#[test]
fn training_twice_gives_the_same_bytes_and_micro_batches_the_same_answers() {
    let train = "steps = 4, lr = 1e-3, batch = 8";
    let mut lab = Lab::new();
    let text = tiny_writer(TINY_T5, "limit_train = 60\nlimit_dev = 10");
    lab.run(&(text.clone() + &fine_tune("one", train, "") + &fine_tune("two", train, ""))).unwrap();
    assert_eq!(lab.bytes("one.model", "model.safetensors"), lab.bytes("two.model", "model.safetensors"));
    lab.run(&(text + &fine_tune("pieces", train, "hints = { micro_batch_tokens = 200 }"))).unwrap();
    let weights = |stage: &str| qapipe_nn::Weights::open(&lab.path(&format!("{stage}.model")).join("model.safetensors")).unwrap();
    let (whole, pieces) = (weights("one"), weights("pieces"));
    for name in whole.names() {
        let difference = (whole.floats(name).unwrap() - pieces.floats(name).unwrap()).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}
