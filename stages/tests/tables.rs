//! Result tables: written, read, and collected after a run.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::bytes;
use qapipe_cache::Store;
use qapipe_engine::{Engine, Event, Kinds, Observer, Options, Outcome, Pipeline};
use qapipe_stages::KINDS;
use qapipe_stages::tables::{Lineage, MetricsRow, PredictionRow, Row, StageRow, TrainingRow, collect, read_table, write_table};
use serde_json::json;

struct Silent;

impl Observer for Silent {
    fn event(&self, _event: &Event) {}
}

#[test]
fn rows_come_back_and_equal_rows_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        MetricsRow { exact: Some(0.1 + 0.2), total: Some(3), dataset: Some("squad".to_owned()), ..MetricsRow::default() },
        MetricsRow::default(),
    ];
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    write_table(&one, &rows).unwrap();
    write_table(&two, &rows).unwrap();
    assert_eq!(read_table::<MetricsRow>(&one).unwrap(), rows);
    assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
    // Columns that a row type does not know are passed over; columns that a file lacks stay empty.
    let log = [TrainingRow { step: 4, epoch: 0.5, loss: Some(1.0), ..TrainingRow::default() }];
    write_table(&one, &log).unwrap();
    assert_eq!(read_table::<MetricsRow>(&one).unwrap(), [MetricsRow::default()]);
    assert_eq!(read_table::<TrainingRow>(&one).unwrap(), log);
    write_table::<PredictionRow>(&one, &[]).unwrap();
    assert_eq!(read_table::<PredictionRow>(&one).unwrap(), []);
}

/// polars 1.x, and other readers of its age, know no other order of columns.
#[test]
fn tables_are_read_by_older_readers_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    write_table(file.path(), &[MetricsRow { exact: Some(50.0), ..MetricsRow::default() }]).unwrap();
    let reader = parquet::file::serialized_reader::SerializedFileReader::new(file.reopen().unwrap()).unwrap();
    let orders = parquet::file::reader::FileReader::metadata(&reader).file_metadata().column_orders().unwrap();
    assert!(orders.iter().all(|order| matches!(order, parquet::basic::ColumnOrder::TYPE_DEFINED_ORDER(_))), "{orders:?}");
}

#[test]
fn every_column_is_documented_and_a_figure_may_be_missing() {
    let metrics = MetricsRow::columns();
    assert!(metrics.iter().all(|column| column.nullable));
    let mut all = [Lineage::columns(), metrics].concat();
    let names: std::collections::HashSet<&str> = all.iter().map(|column| column.name).collect();
    assert_eq!(names.len(), all.len());
    all.extend([PredictionRow::columns(), TrainingRow::columns(), StageRow::columns()].concat());
    assert!(all.iter().all(|column| column.doc.ends_with('.') && !column.doc.starts_with(' ')));
}

const PIPELINE: &str = r#"
    name = "study"
    [stages.squad]
    kind = "dataset"
    dev = "dev.json"
    [matrix]
    draws = [10]
    [stages.scores]
    kind = "evaluate"
    predictions = "answers.json"
    data = "@squad"
    bootstrap = "${matrix.draws}"
"#;

const SCORES: &str = "scores[draws=10]";

fn run(folder: &Path) -> (Pipeline, Store, Outcome) {
    let file = folder.join("study.toml");
    std::fs::write(&file, PIPELINE).unwrap();
    let load = || Pipeline::load(&file, &Kinds::new(KINDS), &[]).unwrap();
    let open = || Store::open(&folder.join(".qapipe")).unwrap();
    let engine = Engine::new(open(), load(), Options::default()).unwrap();
    let outcome = engine.run(&Silent, &AtomicBool::new(false)).unwrap();
    (load(), open(), outcome)
}

fn current(folder: &Path) -> BTreeMap<String, String> {
    serde_json::from_slice(&std::fs::read(folder.join(".qapipe/tables/current/study.json")).unwrap()).unwrap()
}

#[test]
fn a_run_is_collected_once() {
    let folder = tempfile::tempdir().unwrap();
    let asked = json!({ "data": [{ "paragraphs": [{ "context": "The cat.", "qas": [{ "id": "q", "question": "Who?", "answers": [{ "text": "cat", "answer_start": 4 }] }] }] }] });
    std::fs::write(folder.path().join("dev.json"), asked.to_string()).unwrap();
    std::fs::write(folder.path().join("answers.json"), json!({ "q": "a cat" }).to_string()).unwrap();
    let (pipeline, store, outcome) = run(folder.path());
    assert_eq!(outcome.count(|state| matches!(state, qapipe_engine::StageState::Ran)), 2, "{outcome:?}");
    let key = outcome.stages.iter().find(|stage| stage.stage == SCORES).unwrap().key.unwrap();
    let written = collect(&pipeline, &outcome, &store).unwrap().written;
    let short = key.short();
    let wanted = [
        format!("metrics/study.{SCORES}.{short}.parquet"),
        format!("predictions/study.{SCORES}.{short}.parquet"),
        "current/study.json".to_owned(),
        format!("stages/{}.parquet", outcome.run),
    ];
    assert_eq!(written, wanted);
    let tables = folder.path().join(".qapipe/tables");
    let rows: Vec<(Lineage, MetricsRow)> = read_table(&tables.join(&wanted[0])).unwrap();
    assert_eq!((rows[0].0.stage.as_str(), rows[0].0.key.clone(), rows[0].1.exact), (SCORES, key.to_string(), Some(100.0)));
    assert_eq!((rows[0].0.base_model.clone(), rows[0].0.method.clone(), rows[0].1.train_seconds), (None, None, None));
    assert_eq!(current(folder.path()), BTreeMap::from([(SCORES.to_owned(), key.to_string())]));
    assert_eq!(rows[0].0.axes.as_deref(), Some(r#"{"draws":10}"#));
    let stages: Vec<StageRow> = read_table(&tables.join(&wanted[3])).unwrap();
    assert_eq!(stages.iter().map(|row| row.axes.as_deref()).collect::<Vec<_>>(), [None, Some(r#"{"draws":10}"#)]);
    assert_eq!(stages.iter().map(|row| row.state.as_str()).collect::<Vec<_>>(), ["ran", "ran"]);
    // Everything cached: nothing is written.
    let (pipeline, store, outcome) = run(folder.path());
    assert!(collect(&pipeline, &outcome, &store).unwrap().written.is_empty());
    assert_eq!(bytes(&tables.join("metrics")).len(), 1);
    // A stage that fails has no current result.
    std::fs::write(folder.path().join("answers.json"), "{}").unwrap();
    let (pipeline, store, outcome) = run(folder.path());
    collect(&pipeline, &outcome, &store).unwrap();
    assert!(current(folder.path()).is_empty());
}
