//! Trainings that go on where an earlier one was stopped, or from the end of a shorter one.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::path::PathBuf;

use common::{Lab, TINY_BERT, TINY_LSTM, TINY_MAMBA, TINY_T5, fine_tune, method, tiny_writer};
use qapipe_stages::tables::{TrainingRow, read_table};

const SMALL: &str = "limit_train = 64\nlimit_dev = 8";

/// A training's model, and its log but for the seconds.
fn result(lab: &Lab, stage: &str, file: &str) -> (Vec<u8>, Vec<TrainingRow>) {
    let log: Vec<TrainingRow> = read_table(lab.path(&format!("{stage}.log"))).unwrap();
    let log = log.into_iter().map(|row| TrainingRow { seconds: None, ..row }).collect();
    (lab.bytes(&format!("{stage}.model"), file), log)
}

fn said(lab: &Lab, words: &str) -> Option<String> {
    lab.ear.log.lock().unwrap().iter().rev().find(|line| line.contains(words)).cloned()
}

/// Runs `stage` in a laboratory of its own, stopped after so many rows, and again until it ends.
fn stopped(begun: &str, stage: &str, rows: u64) -> Lab {
    let mut lab = Lab::new();
    lab.run(begun).unwrap();
    lab.ear.cancel_after = Some(rows);
    lab.ear.progress.lock().unwrap().clear();
    assert!(lab.run(&(begun.to_owned() + stage)).is_err(), "it is stopped");
    (lab.ear.cancel_after, lab.ear.cancel) = (None, false.into());
    lab.run(&(begun.to_owned() + stage)).unwrap();
    assert!(said(&lab, "goes on after step").is_some());
    lab
}

/// The folders of all states.
fn states(lab: &Lab) -> Vec<PathBuf> {
    let entries = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    entries(lab.folder.path().join("trainings")).into_iter().flat_map(entries).filter(|path| path.is_dir()).collect()
}

#[test]
fn a_training_that_was_stopped_ends_with_the_same_bits() {
    let dropout = TINY_BERT.to_owned() + ", hidden_dropout_prob = 0.1, attention_probs_dropout_prob = 0.1";
    let train = "epochs = 3, lr = 2e-3, batch = 8, holdout = 0.3, evaluations = 2, keep = \"best\"";
    let hints = "hints = { micro_batch_tokens = 400, log_every = 3 }";
    for config in [&dropout, TINY_T5, TINY_MAMBA, TINY_LSTM] {
        let (begun, stage) = (tiny_writer(config, SMALL), fine_tune("tuned", train, hints));
        let mut whole = Lab::new();
        whole.run(&(begun.clone() + &stage)).unwrap();
        for rows in [1, 60] {
            let lab = stopped(&begun, &stage, rows);
            let (one, other) = (result(&lab, "tuned", "model.safetensors"), result(&whole, "tuned", "model.safetensors"));
            assert!(one.0 == other.0, "{config} {rows}: the weights differ");
            assert_eq!(one.1, other.1, "{config} {rows}");
            assert_eq!(lab.bytes("tuned.model", "qapipe.json"), whole.bytes("tuned.model", "qapipe.json"), "{config} {rows}");
            assert!(states(&lab).len() <= 1);
        }
    }
}

#[test]
fn every_method_that_trains_goes_on() {
    let begun = tiny_writer(TINY_BERT, SMALL) + &fine_tune("tuned", "epochs = 1, lr = 2e-3, batch = 16", "");
    let train = "train = { epochs = 2, lr = 1e-3, batch = 8 }";
    for (kind, more, file) in [
        ("prune", format!("sparsity = 0.5\nteacher = \"@tuned\"\n{train}"), "model.safetensors"),
        ("prune", format!("sparsity = 0.5\nmethod = \"movement\"\n{train}"), "model.safetensors"),
        ("lora-adapt", format!("rank = 2\ndropout = 0.1\n{train}"), "adapter_model.safetensors"),
        ("lora-adapt", format!("rank = 2\ndora = true\n{train}"), "adapter_model.safetensors"),
    ] {
        let stage = method("made", kind, "tuned", &more);
        let mut whole = Lab::new();
        whole.run(&(begun.clone() + &stage)).unwrap();
        let lab = stopped(&begun, &stage, 30);
        assert!(result(&lab, "made", file) == result(&whole, "made", file), "{kind} {more}");
    }
}

#[test]
fn more_epochs_go_on_from_the_end_of_fewer() {
    let begun = tiny_writer(TINY_BERT, SMALL);
    for schedule in ["schedule = \"constant\", warmup = 0.0", "schedule = \"inverse-sqrt\", warmup_steps = 5", "schedule_steps = 40"] {
        let train = |name: &str, epochs: u32| {
            fine_tune(
                name,
                &format!("epochs = {epochs}, lr = 1e-3, batch = 8, holdout = 0.3, evaluations = 1, {schedule}"),
                "hints = { log_every = 3 }",
            )
        };
        let mut lab = Lab::new();
        lab.run(&(begun.clone() + &train("short", 1) + &train("long", 3) + &train("longer", 4))).unwrap();
        assert!(said(&lab, "goes on after step").is_some(), "{schedule}");
        for (name, epochs) in [("long", 3), ("longer", 4)] {
            let mut whole = Lab::new();
            whole.run(&(begun.clone() + &train(name, epochs))).unwrap();
            let file = "model.safetensors";
            assert!(result(&lab, name, file) == result(&whole, name, file), "{schedule} {epochs}");
        }
        assert_eq!(states(&lab).len(), 1, "only the furthest is kept");
    }
}

#[test]
fn a_schedule_that_knows_its_end_begins_anew() {
    let begun = tiny_writer(TINY_BERT, SMALL);
    let train = |name: &str, epochs: u32| fine_tune(name, &format!("epochs = {epochs}, lr = 1e-3, batch = 8"), "");
    let mut lab = Lab::new();
    lab.run(&(begun.clone() + &train("short", 1) + &train("long", 2))).unwrap();
    assert_eq!(said(&lab, "goes on after step"), None);
    assert!(states(&lab).is_empty(), "nothing is kept of what nothing can go on from");
}

#[test]
fn a_damaged_state_costs_time_alone_and_what_is_done_goes() {
    let begun = tiny_writer(TINY_BERT, SMALL);
    let stage = fine_tune("tuned", "epochs = 2, lr = 1e-3, batch = 8", "");
    let mut lab = Lab::new();
    lab.run(&begun).unwrap();
    lab.ear.cancel_after = Some(20);
    assert!(lab.run(&(begun.clone() + &stage)).is_err());
    let path = states(&lab)[0].join("moments.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    (lab.ear.cancel_after, lab.ear.cancel) = (None, false.into());
    lab.run(&(begun.clone() + &stage)).unwrap();
    assert!(said(&lab, "a state of the training is of no use").unwrap().contains("moments.safetensors is damaged"));
    let mut whole = Lab::new();
    whole.run(&(begun.clone() + &stage)).unwrap();
    assert!(result(&lab, "tuned", "model.safetensors") == result(&whole, "tuned", "model.safetensors"));
    // The next training removes what this one no longer needs.
    lab.run(&(begun.clone() + &stage + &fine_tune("other", "steps = 1, lr = 1e-3, batch = 8", ""))).unwrap();
    assert!(states(&lab).is_empty());
}
