//! Models that write: training, answers, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use common::{Lab, TINY_T5, evaluate, fine_tune, tiny_writer};
use qapipe_stages::tables::{MetricsRow, read_table};

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
