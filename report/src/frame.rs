//! Between Parquet files, polars, and plain tables. Nothing of polars leaves this file's callers.

use std::path::PathBuf;

use polars::prelude::{
    AnyValue, DataFrame, Expr, IntoLazy, LazyFrame, PlRefPath, PolarsResult, ScanArgsParquet, UnionArgs, col, concat_lf_diagonal, lit,
};
use serde_json::{Map, Value};

use crate::error::ReportError;
use crate::table::Table;

/// The column of the axes that a row's stage depends on, with its values, as JSON.
const AXES: &str = "axes";

/// The table of which a file is of a run, with the rows of many stages.
const OF_RUNS: &str = "stages";

/// All files one below the other. Columns are matched by name; one that a file lacks is null in its rows. Where a file is of one
/// stage, each of its axes is a column `axis_NAME` too.
pub(crate) fn scan(table: &'static str, files: &[PathBuf]) -> Result<LazyFrame, ReportError> {
    let failed = |error: polars::error::PolarsError| ReportError::Table { table, message: first_line(&error.to_string()) };
    let args = || ScanArgsParquet { glob: false, ..ScanArgsParquet::default() };
    let frames = files.iter().map(|file| {
        let frame = LazyFrame::scan_parquet(PlRefPath::try_from_path(file)?, args())?;
        if table == OF_RUNS { Ok(frame) } else { with_axes(frame) }
    });
    let frames = frames.collect::<PolarsResult<Vec<_>>>().map_err(failed)?;
    match frames.len() {
        0 => Ok(DataFrame::empty().lazy()),
        _ => concat_lf_diagonal(frames, UnionArgs { to_supertypes: true, maintain_order: true, ..UnionArgs::default() }).map_err(failed),
    }
}

/// The rows of a file of one stage, which are all of one cell, with a column for each axis.
fn with_axes(mut frame: LazyFrame) -> PolarsResult<LazyFrame> {
    let schema = frame.collect_schema()?;
    if !schema.contains(AXES) {
        return Ok(frame);
    }
    let first = frame.clone().select([col(AXES)]).limit(1).collect()?;
    let text = first.columns().first().and_then(|axes| axes.get(0).ok()).and_then(|axes| axes.extract_str().map(str::to_owned));
    let axes: Map<String, Value> = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    Ok(frame.with_columns(axes.iter().map(|(axis, value)| literal(value).alias(format!("axis_{axis}"))).collect::<Vec<_>>()))
}

fn literal(value: &Value) -> Expr {
    match value {
        Value::Bool(truth) => lit(*truth),
        Value::Number(number) => number.as_i64().map_or_else(|| lit(number.as_f64().unwrap_or(f64::NAN)), lit),
        Value::String(text) => lit(text.as_str()),
        other => lit(other.to_string()),
    }
}

/// The rows of a lazy frame.
pub(crate) fn collect(frame: LazyFrame) -> PolarsResult<Table> {
    let frame = frame.collect()?;
    let columns = frame.get_column_names().into_iter().map(ToString::to_string).collect();
    let row = |at: usize| frame.columns().iter().map(|column| column.get(at).map(|value| cell(&value))).collect();
    let rows = (0..frame.height()).map(row).collect::<PolarsResult<_>>()?;
    Ok(Table { columns, rows })
}

/// The first line of an error: polars adds the whole plan below it.
pub(crate) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}

/// A value as JSON; what JSON cannot hold (NaN) is null.
fn cell(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(truth) => Value::Bool(*truth),
        AnyValue::Float64(number) => Value::from(*number),
        AnyValue::Float32(number) => number.to_string().parse::<f64>().map_or(Value::Null, Value::from),
        AnyValue::List(items) => Value::Array(items.iter().map(|item| cell(&item)).collect()),
        other => {
            if let Some(text) = other.extract_str() {
                Value::from(text)
            } else if other.dtype().is_integer() {
                integer(other)
            } else {
                Value::from(other.to_string())
            }
        }
    }
}

fn integer(value: &AnyValue<'_>) -> Value {
    match (value.extract::<i64>(), value.extract::<u64>()) {
        (Some(number), _) => Value::from(number),
        (None, Some(number)) => Value::from(number),
        (None, None) => Value::from(value.to_string()),
    }
}
