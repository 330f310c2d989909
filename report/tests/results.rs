//! Reading stored tables: what counts, what is missing, what is printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::path::Path;

use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, ParquetWriter, Series};
use qapipe_report::{Results, Scope, Standings, Table, Unit};
use serde_json::{Value, json};

fn write(folder: &Path, file: &str, columns: Vec<Column>) {
    let path = folder.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let height = columns.first().map_or(0, Column::len);
    let mut frame = DataFrame::new(height, columns).unwrap();
    ParquetWriter::new(File::create(path).unwrap()).finish(&mut frame).unwrap();
}

fn texts(name: &str, values: &[&str]) -> Column {
    Series::new(name.into(), values).into_column()
}

fn numbers(name: &str, values: &[Option<f64>]) -> Column {
    Series::new(name.into(), values).into_column()
}

/// A store's tables: two evaluations that count, one of an earlier state, one of another pipeline with fewer columns.
fn tables() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let row = |file: &str, stage: &str, key: &str, exact: f64, latency: Option<f64>| {
        let columns = vec![
            texts("pipeline", &["p"]),
            texts("stage", &[stage]),
            texts("key", &[key]),
            texts("dataset", &["squad"]),
            numbers("exact", &[Some(exact)]),
            numbers("exact_interval", &[Some(1.25)]),
            numbers("f1", &[Some(exact + 3.0)]),
            numbers("abstain_exact", &[Some(50.07)]),
            Series::new("parameters".into(), &[Some(22_000_000_i64)]).into_column(),
            numbers("latency_p50_ms", &[latency]),
        ];
        write(folder.path(), file, columns);
    };
    row("metrics/p.small.aaaaaaaa.parquet", "small", "aaaaaaaa11", 40.0, None);
    row("metrics/p.large.bbbbbbbb.parquet", "large", "bbbbbbbb22", 64.5, Some(3.25));
    row("metrics/p.large.cccccccc.parquet", "large", "cccccccc33", 60.0, None);
    write(
        folder.path(),
        "metrics/q.other.dddddddd.parquet",
        vec![texts("pipeline", &["q"]), texts("stage", &["other"]), texts("key", &["dddddddd44"]), numbers("exact", &[Some(70.0)])],
    );
    write(
        folder.path(),
        "stages/run-1.parquet",
        vec![texts("run", &["run-1"]), texts("stage", &["large"]), numbers("seconds", &[Some(2.0)])],
    );
    let current = folder.path().join("current");
    std::fs::create_dir_all(&current).unwrap();
    std::fs::write(current.join("p.json"), r#"{"small": "aaaaaaaa11", "large": "bbbbbbbb22"}"#).unwrap();
    std::fs::write(current.join("q.json"), r#"{"other": "dddddddd44"}"#).unwrap();
    folder
}

fn only(pipeline: &str) -> Scope {
    Scope { pipelines: vec![pipeline.to_owned()], ..Scope::default() }
}

#[test]
fn only_what_is_current_counts_unless_all_is_asked_for() {
    let folder = tables();
    let results = Results::at(folder.path());
    assert_eq!(results.metrics(&Scope::default()).unwrap().rows.len(), 3);
    assert_eq!(results.metrics(&only("p")).unwrap().rows.len(), 2);
    assert_eq!(results.metrics(&Scope { all: true, ..only("p") }).unwrap().rows.len(), 3);
    assert_eq!(results.metrics(&Scope { stages: vec!["small".to_owned()], ..Scope::default() }).unwrap().rows.len(), 1);
    assert_eq!(Results::at(&folder.path().join("nothing")).metrics(&Scope::default()).unwrap(), Table::default());
}

#[test]
fn a_column_that_a_file_lacks_is_null_there() {
    let folder = tables();
    let metrics = Results::at(folder.path()).metrics(&Scope::default()).unwrap();
    let other = (0..3).find(|&row| metrics.text(row, "pipeline") == Some("q")).unwrap();
    assert_eq!((metrics.number(other, "exact"), metrics.cell(other, "f1"), metrics.cell(other, "parameters")), (Some(70.0), None, None));
    assert_eq!(metrics.cell(0, "no such column"), None);
}

#[test]
fn standings_are_sorted_and_have_the_line_to_beat() {
    let folder = tables();
    let standings = Standings::of(&Results::at(folder.path()).metrics(&only("p")).unwrap());
    let titles: Vec<&str> = standings.headings.iter().map(|heading| heading.title).collect();
    assert_eq!(titles, ["SYSTEM", "EXACT", "±", "F1", "PARAMS", "P50"]);
    assert_eq!(standings.headings[4].unit, Unit::Count);
    let expected = vec![
        vec![json!("large"), json!(64.5), json!(1.25), json!(67.5), json!(22_000_000), json!(3.25)],
        vec![json!("(always abstain)"), json!(50.07), Value::Null, json!(50.07), Value::Null, Value::Null],
        vec![json!("small"), json!(40.0), json!(1.25), json!(43.0), json!(22_000_000), Value::Null],
    ];
    assert_eq!(standings.rows, expected);
}

#[test]
fn systems_are_told_apart_by_no_more_than_is_needed() {
    let folder = tables();
    let results = Results::at(folder.path());
    let several = Standings::of(&results.metrics(&Scope::default()).unwrap());
    assert_eq!(several.headings.iter().map(|heading| heading.title).take(3).collect::<Vec<_>>(), ["SYSTEM", "DATA", "EXACT"]);
    assert!(several.rows.iter().any(|row| row[0] == "q/other"));
    let all = Standings::of(&results.metrics(&Scope { all: true, ..only("p") }).unwrap());
    assert_eq!((all.headings[1].title, &all.rows[0][1]), ("KEY", &json!("bbbbbbbb")));
}

#[test]
fn sql_sees_all_tables_even_empty_ones() {
    let folder = tables();
    let results = Results::at(folder.path());
    let answer = results.query("select stage, exact from metrics where exact > 50 order by exact", &only("p")).unwrap();
    assert_eq!((answer.columns, answer.rows), (vec!["stage".to_owned(), "exact".to_owned()], vec![vec![json!("large"), json!(64.5)]]));
    let joined = "select m.stage, s.seconds from metrics m join stages s on m.stage = s.stage";
    assert_eq!(results.query(joined, &Scope::default()).unwrap().rows, [vec![json!("large"), json!(2.0)]]);
    assert!(results.query("select * from predictions", &Scope::default()).unwrap().rows.is_empty());
    for wrong in ["select", "select nonsense from metrics", "select * from nowhere"] {
        let error = results.query(wrong, &Scope::default()).unwrap_err();
        assert!(error.is_query() && !error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn a_broken_file_is_an_error_and_not_a_panic() {
    let folder = tables();
    std::fs::write(folder.path().join("metrics/p.small.aaaaaaaa.parquet"), "no Parquet").unwrap();
    let error = Results::at(folder.path()).metrics(&Scope::default()).unwrap_err();
    assert!(!error.is_query() && error.to_string().contains("metrics"), "{error}");
    std::fs::write(folder.path().join("current/p.json"), "{").unwrap();
    assert!(Results::at(folder.path()).metrics(&Scope::default()).unwrap_err().to_string().contains("p.json"));
}

/// Stages of a sweep: a whole and a broken number, text and truth, and a stage without axes.
#[test]
fn each_axis_is_a_column() {
    let folder = tempfile::tempdir().unwrap();
    let row = |stage: &str, axes: Option<&str>, exact: f64| {
        let axes = Series::new("axes".into(), &[axes]).into_column();
        let columns = vec![texts("pipeline", &["p"]), texts("stage", &[stage]), axes, numbers("exact", &[Some(exact)])];
        write(folder.path(), &format!("metrics/p.{stage}.aaaaaaaa.parquet"), columns);
    };
    row("a", Some(r#"{"rank":4,"rate":0.5,"base":"nf4","fast":true}"#), 1.0);
    row("b", Some(r#"{"rank":8,"rate":1,"base":"none","fast":false}"#), 2.0);
    row("c", None, 3.0);
    let results = Results::at(folder.path());
    let scope = Scope { all: true, ..Scope::default() };
    let query = "select axis_rank, axis_rate, axis_base, axis_fast from metrics order by exact";
    let rows = results.query(query, &scope).unwrap().rows;
    assert_eq!(rows[..2], [vec![json!(4), json!(0.5), json!("nf4"), json!(true)], vec![json!(8), json!(1.0), json!("none"), json!(false)]]);
    assert_eq!(rows[2], vec![Value::Null; 4]);
    let mean = results.query("select avg(exact) as mean from metrics where axis_rank > 5", &scope).unwrap();
    assert_eq!(mean.rows, [[json!(2.0)]]);
    assert_eq!(Standings::of(&results.metrics(&scope).unwrap()).rows.len(), 3);
}
