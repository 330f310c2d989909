//! Answers that are there already: the official JSON form, or a predictions table.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::Prediction;
use crate::error::Error;
use crate::examples::Examples;
use crate::squad_json::read_text;
use crate::tables::{PredictionRow, read_table};

/// How many ids an error shows.
const SHOWN: usize = 3;

/// Reads answers, one a question of `examples`, in their order: JSON `{"id": "answer", …}`, plain or gzipped, or a predictions
/// table in Parquet.
///
/// # Errors
/// Where the file is neither, or does not name every question exactly once and no other.
pub fn read_predictions(path: &Path, examples: &Examples) -> Result<Vec<Prediction>, Error> {
    let mut answers = if is_parquet(path)? { of_table(path)? } else { of_json(path)? };
    let mut found = Vec::with_capacity(examples.len());
    let mut missing = Vec::new();
    for row in 0..examples.len() {
        match answers.remove(examples.id(row)) {
            Some(answer) => found.push(answer),
            None => missing.push(examples.id(row)),
        }
    }
    let shown = path.display();
    if !missing.is_empty() {
        let message = format!("{shown}: {} of {} questions have no answer: {}", missing.len(), examples.len(), some(&missing));
        return Err(Error::data(message)
            .help("write \"\" for a question that is answered with nothing, or limit the data set to the questions that were asked"));
    }
    if !answers.is_empty() {
        let mut strange: Vec<&str> = answers.keys().map(String::as_str).collect();
        strange.sort_unstable();
        let message = format!("{shown}: {} answers belong to no question of the data: {}", strange.len(), some(&strange));
        return Err(Error::data(message).help("take the data set that these answers were made for, all of it"));
    }
    Ok(found)
}

fn some(ids: &[&str]) -> String {
    let more = if ids.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", ids[..ids.len().min(SHOWN)].join(", "))
}

fn is_parquet(path: &Path) -> Result<bool, Error> {
    use std::io::Read;
    let mut magic = [0; 4];
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    match file.read_exact(&mut magic) {
        Ok(()) => Ok(&magic == b"PAR1"),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(Error::io(path)(e)),
    }
}

fn of_table(path: &Path) -> Result<HashMap<String, Prediction>, Error> {
    let rows: Vec<PredictionRow> = read_table(path)?;
    let count = rows.len();
    let entry = |row: PredictionRow| {
        (row.id, Prediction { text: row.prediction, candidate: row.candidate, score: row.score, na_score: row.na_score })
    };
    let answers: HashMap<String, Prediction> = rows.into_iter().map(entry).collect();
    if answers.len() < count {
        return Err(Error::data(format!("{}: {} rows repeat an id", path.display(), count - answers.len())));
    }
    Ok(answers)
}

fn of_json(path: &Path) -> Result<HashMap<String, Prediction>, Error> {
    let text = read_text(path)?;
    let form = "the official form is {\"question id\": \"answer\", …}";
    let wrong = |what: String| Error::data(format!("{}: {what}", path.display())).help(form);
    let value: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("not JSON: {e}")))?;
    let Value::Object(entries) = value else { return Err(wrong("the top level is no object".to_owned())) };
    let answer = |(id, answer): (String, Value)| match answer {
        Value::String(text) => Ok((id, Prediction { text, ..Prediction::default() })),
        other => Err(wrong(format!("the answer of {id} is no text but {}", crate::squad_json::noun(&other)))),
    };
    entries.into_iter().map(answer).collect()
}
