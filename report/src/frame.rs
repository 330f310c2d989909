//! Between Parquet files, polars, and plain tables. Nothing of polars leaves this file's callers.

use std::path::PathBuf;

use polars::prelude::{AnyValue, DataFrame, IntoLazy, LazyFrame, PlRefPath, PolarsResult, ScanArgsParquet, UnionArgs, concat_lf_diagonal};
use serde_json::Value;

use crate::error::ReportError;
use crate::table::Table;

/// All files one below the other. Columns are matched by name; one that a file lacks is null in its rows.
pub(crate) fn scan(table: &'static str, files: &[PathBuf]) -> Result<LazyFrame, ReportError> {
    let failed = |error: polars::error::PolarsError| ReportError::Table { table, message: first_line(&error.to_string()) };
    let args = || ScanArgsParquet { glob: false, ..ScanArgsParquet::default() };
    let frames = files.iter().map(|file| LazyFrame::scan_parquet(PlRefPath::try_from_path(file)?, args()));
    let frames = frames.collect::<PolarsResult<Vec<_>>>().map_err(failed)?;
    match frames.len() {
        0 => Ok(DataFrame::empty().lazy()),
        _ => concat_lf_diagonal(frames, UnionArgs { to_supertypes: true, maintain_order: true, ..UnionArgs::default() }).map_err(failed),
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
