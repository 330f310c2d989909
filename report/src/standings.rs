//! The metrics table as people read it: one line a system, best first, and the line that every system must beat.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::table::Table;

/// What the figures of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// No figures but text.
    Text,
    /// Of a hundred.
    Percent,
    /// How many.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// So many a second.
    Rate,
}

/// The title of a column and what stands under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heading {
    /// Title.
    pub title: &'static str,
    /// What the figures are.
    pub unit: Unit,
}

/// The metrics table as people read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standings {
    /// The columns.
    pub headings: Vec<Heading>,
    /// The lines; a figure that was not measured is null.
    pub rows: Vec<Vec<Value>>,
}

/// A column of the lines after the system's name.
struct Figure {
    heading: Heading,
    /// The figure of a row of the metrics table.
    of: fn(&Table, usize) -> Option<Value>,
    /// The figure of always answering "" with this exact match.
    abstain: fn(f64) -> Option<Value>,
}

/// A figure that is a column of the metrics table, and unknown or senseless for always answering "".
macro_rules! figure {
    ($title:literal, $unit:ident, $column:literal) => {
        figure!($title, $unit, $column, |_| None)
    };
    ($title:literal, $unit:ident, $column:literal, $abstain:expr) => {
        Figure {
            heading: Heading { title: $title, unit: Unit::$unit },
            of: |metrics, row| metrics.cell(row, $column).cloned(),
            abstain: $abstain,
        }
    };
}

/// The columns after the system's name, in order. One that no system fills is left out.
const FIGURES: &[Figure] = &[
    figure!("EXACT", Percent, "exact", |exact| Some(exact.into())),
    figure!("±", Percent, "exact_interval"),
    figure!("F1", Percent, "f1", |exact| Some(exact.into())),
    figure!("HASANS", Percent, "has_answer_exact", |exact| (exact < 100.0).then(|| 0.0.into())),
    figure!("NOANS", Percent, "no_answer_exact", |exact| (exact > 0.0).then(|| 100.0.into())),
    figure!("BEST", Percent, "best_exact", |exact| Some(exact.into())),
    figure!("PARAMS", Count, "parameters"),
    Figure {
        heading: Heading { title: "TRAINED", unit: Unit::Count },
        of: |metrics, row| {
            metrics.cell(row, "parameters_trained").filter(|&trained| Some(trained) != metrics.cell(row, "parameters")).cloned()
        },
        abstain: |_| None,
    },
    figure!("LEFT", Count, "parameters_remaining"),
    figure!("SIZE", Bytes, "bytes"),
    figure!("TRAINING", Seconds, "train_seconds"),
    figure!("MEMORY", Bytes, "peak_memory_bytes"),
    figure!("P50", Milliseconds, "latency_p50_ms"),
    figure!("P95", Milliseconds, "latency_p95_ms"),
    figure!("THROUGHPUT", Rate, "throughput"),
];

/// What always answering "" scores on the row's questions.
const ABSTAIN: &str = "abstain_exact";
/// Name of the line for always answering "".
const ALWAYS_ABSTAIN: &str = "(always abstain)";

impl Standings {
    /// The lines for a metrics table: data set by data set, by exact match downwards, with a line for always abstaining.
    #[must_use]
    pub fn of(metrics: &Table) -> Self {
        let rows = 0..metrics.rows.len();
        let names = Names::of(metrics);
        let shown: Vec<&Figure> = FIGURES.iter().filter(|figure| rows.clone().any(|row| (figure.of)(metrics, row).is_some())).collect();
        let mut lines: Vec<Line> = rows.map(|row| Line::of(metrics, row, &names, &shown)).collect();
        lines.extend(baselines(metrics, &names, &shown));
        lines.sort_by(Line::order);
        let figures = shown.iter().map(|figure| figure.heading);
        Self { headings: names.headings().chain(figures).collect(), rows: lines.into_iter().map(|line| line.cells).collect() }
    }
}

/// How the systems are told apart: by no more than is needed.
struct Names {
    /// With the pipeline in front.
    pipelines: bool,
    /// With a column for the data set.
    datasets: bool,
    /// With a column for the key: the same stage stands there in several states.
    keys: bool,
}

impl Names {
    fn of(metrics: &Table) -> Self {
        let distinct = |columns: &[&str]| {
            let value = |row| columns.iter().map(|column| metrics.text(row, column).unwrap_or_default()).collect::<Vec<_>>();
            (0..metrics.rows.len()).map(value).collect::<BTreeSet<_>>().len()
        };
        let stages = distinct(&["pipeline", "stage"]);
        Self {
            pipelines: distinct(&["pipeline"]) > 1,
            datasets: distinct(&["dataset", "dataset_version"]) > 1,
            keys: distinct(&["pipeline", "stage", "key"]) > stages,
        }
    }

    fn headings(&self) -> impl Iterator<Item = Heading> {
        let heading = |title, shown: bool| shown.then_some(Heading { title, unit: Unit::Text });
        [heading("SYSTEM", true), heading("KEY", self.keys), heading("DATA", self.datasets)].into_iter().flatten()
    }

    fn cells(&self, system: String, key: Value, dataset: &str) -> Vec<Value> {
        let cells = [Some(system.into()), self.keys.then_some(key), self.datasets.then(|| dataset.into())];
        cells.into_iter().flatten().collect()
    }
}

/// One line with what it is sorted by.
struct Line {
    dataset: String,
    exact: Option<f64>,
    cells: Vec<Value>,
}

impl Line {
    fn of(metrics: &Table, row: usize, names: &Names, figures: &[&Figure]) -> Self {
        let stage = metrics.text(row, "stage").unwrap_or("-");
        let system = match metrics.text(row, "pipeline") {
            Some(pipeline) if names.pipelines => format!("{pipeline}/{stage}"),
            _ => stage.to_owned(),
        };
        let key = metrics.text(row, "key").map_or(Value::Null, |key| key.chars().take(8).collect::<String>().into());
        let dataset = data_set(metrics, row);
        let mut cells = names.cells(system, key, &dataset);
        cells.extend(figures.iter().map(|figure| (figure.of)(metrics, row).unwrap_or(Value::Null)));
        Self { dataset, exact: metrics.number(row, "exact"), cells }
    }

    fn order(&self, other: &Self) -> Ordering {
        let exact = |line: &Self| line.exact.unwrap_or(f64::NEG_INFINITY);
        self.dataset.cmp(&other.dataset).then(exact(other).total_cmp(&exact(self)))
    }
}

/// The data set that a row's questions are of, with its version: figures of one are not to be compared with those of the other.
fn data_set(metrics: &Table, row: usize) -> String {
    let part = |column| metrics.text(row, column).unwrap_or_default();
    format!("{} {}", part("dataset"), part("dataset_version")).trim().to_owned()
}

/// A line for always answering "" for each set of questions.
fn baselines(metrics: &Table, names: &Names, figures: &[&Figure]) -> Vec<Line> {
    let mut known = BTreeMap::new();
    for row in 0..metrics.rows.len() {
        if let Some(exact) = metrics.number(row, ABSTAIN) {
            known.insert((data_set(metrics, row), exact.to_bits()), exact);
        }
    }
    let line = |((dataset, _), exact): ((String, u64), f64)| {
        let mut cells = names.cells(ALWAYS_ABSTAIN.to_owned(), Value::Null, &dataset);
        cells.extend(figures.iter().map(|figure| (figure.abstain)(exact).unwrap_or(Value::Null)));
        Line { dataset, exact: Some(exact), cells }
    };
    known.into_iter().map(line).collect()
}
