//! SQuAD as the Hugging Face hub keeps it: Parquet with columns id, title, context, question, answers {text, answer_start}.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::Error;
use crate::examples::{Answer, Question};
use crate::squad_json::Questions;

const SCHEMA: &str = "the columns are id, title, context, question, answers {text: list of text, answer_start: list of int}";

/// Reads a file.
///
/// # Errors
/// With the name of a column that is missing or of another type.
pub fn read(path: &Path) -> Result<Questions, Error> {
    Error::unless_damaged(path, || read_batches(path))
}

fn read_batches(path: &Path) -> Result<Questions, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build).map_err(Error::parquet(path))?;
    let mut found = Questions::default();
    let mut known = HashMap::new();
    for batch in reader {
        let batch = batch.map_err(Error::arrow(path))?;
        append(&mut found, &mut known, &batch).map_err(|what| Error::data(format!("{}: {what}", path.display())).help(SCHEMA))?;
    }
    Ok(found)
}

fn append(found: &mut Questions, known: &mut HashMap<String, Arc<str>>, batch: &RecordBatch) -> Result<(), String> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`"));
    let (id, context, question) = (column("id")?, column("context")?, column("question")?);
    let title = batch.column_by_name("title");
    let answers = column("answers")?;
    let answers: &StructArray = answers.as_struct_opt().ok_or_else(|| format!("column `answers` is of type {}", answers.data_type()))?;
    let field = |name: &str| answers.column_by_name(name).ok_or_else(|| format!("column `answers` has no `{name}`"));
    let (texts, starts) = (field("text")?, field("answer_start")?);
    for row in 0..batch.num_rows() {
        let mut shared = |text: &str| Arc::clone(known.entry(text.to_owned()).or_insert_with(|| text.into()));
        let title = shared(title.map_or(Ok(""), |title| text(title, row, "title"))?);
        let context = shared(text(context, row, "context")?);
        let answers = if answers.is_null(row) { Vec::new() } else { given(texts, starts, row)? };
        let (id, question) = (text(id, row, "id")?.to_owned(), text(question, row, "question")?.to_owned());
        found.stated.push(None);
        found.rows.push(Question { id, title, context, question, impossible: answers.is_empty(), answers });
    }
    Ok(())
}

fn text<'a>(array: &'a ArrayRef, row: usize, name: &str) -> Result<&'a str, String> {
    if array.is_null(row) {
        return Err(format!("column `{name}` is null in row {row}"));
    }
    match array.data_type() {
        DataType::Utf8 => Ok(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Ok(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Ok(array.as_string_view().value(row)),
        other => Err(format!("column `{name}` is of type {other}, not text")),
    }
}

fn given(texts: &ArrayRef, starts: &ArrayRef, row: usize) -> Result<Vec<Answer>, String> {
    let (texts, starts) = (items(texts, row, "text")?, items(starts, row, "answer_start")?);
    if texts.len() != starts.len() {
        return Err(format!("row {row} has {} answer texts and {} starts", texts.len(), starts.len()));
    }
    let start = |at: usize| -> Result<u32, String> {
        let number = match starts.data_type() {
            DataType::Int32 => i64::from(starts.as_primitive::<Int32Type>().value(at)),
            DataType::Int64 => starts.as_primitive::<Int64Type>().value(at),
            other => return Err(format!("`answers.answer_start` holds {other}, not whole numbers")),
        };
        u32::try_from(number).map_err(|_| format!("`answers.answer_start` is {number} in row {row}"))
    };
    (0..texts.len()).map(|at| Ok(Answer { text: text(&texts, at, "answers.text")?.to_owned(), start: start(at)? })).collect()
}

fn items(array: &ArrayRef, row: usize, name: &str) -> Result<ArrayRef, String> {
    match array.data_type() {
        DataType::List(_) => Ok(array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Ok(array.as_list::<i64>().value(row)),
        other => Err(format!("`answers.{name}` is of type {other}, not a list")),
    }
}
