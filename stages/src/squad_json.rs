//! SQuAD 1.1 and 2.0 in their official JSON form, plain or gzipped.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::error::Error;
use crate::examples::{Answer, Question};

/// The questions of a file, as they stand there: answers not yet checked against their contexts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Questions {
    /// The version that the file states, `1.1` or `2.0`.
    pub version: Option<String>,
    /// Each question, with where it stands in the file (`data[3].paragraphs[0].qas[2]`).
    pub rows: Vec<Question>,
    /// Article, paragraph and question number of each.
    pub places: Vec<[u32; 3]>,
    /// What each says of itself: `is_impossible`, where it is there.
    pub stated: Vec<Option<bool>>,
}

impl Questions {
    /// Where a question stands, for messages.
    pub fn place(&self, row: usize) -> String {
        match self.places.get(row) {
            Some([article, paragraph, question]) => format!("data[{article}].paragraphs[{paragraph}].qas[{question}]"),
            None => format!("row {row}"),
        }
    }
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Vec<Article<'a>>,
}

#[derive(Deserialize)]
struct Article<'a> {
    #[serde(borrow, default)]
    title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    paragraphs: Vec<Paragraph<'a>>,
}

#[derive(Deserialize)]
struct Paragraph<'a> {
    #[serde(borrow)]
    context: Cow<'a, str>,
    #[serde(borrow)]
    qas: Vec<Asked<'a>>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    question: Cow<'a, str>,
    #[serde(borrow, default)]
    answers: Option<Vec<Given<'a>>>,
    #[serde(default)]
    is_impossible: Option<bool>,
    // Never gold: what a reader of an unanswerable question might take for the answer.
    #[serde(default, rename = "plausible_answers")]
    _plausible: IgnoredAny,
}

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    answer_start: u32,
}

/// Reads a file.
///
/// # Errors
/// With the JSON path of what is missing or of a wrong type.
pub fn read(path: &Path) -> Result<Questions, Error> {
    parse(&read_text(path)?, &path.display().to_string())
}

/// Reads text; `name` is what the file is called in messages.
///
/// # Errors
/// With the JSON path of what is missing or of a wrong type.
pub fn parse(text: &str, name: &str) -> Result<Questions, Error> {
    let text = text.trim_start_matches('\u{feff}');
    match serde_json::from_str::<File<'_>>(text) {
        Ok(file) => flatten(file),
        Err(error) => Err(diagnose(text, name, &error)),
    }
}

fn flatten(file: File<'_>) -> Result<Questions, Error> {
    let mut found = Questions { version: file.version.as_deref().and_then(version), ..Questions::default() };
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    for (a, article) in file.data.into_iter().enumerate() {
        let title: Arc<str> = article.title.as_deref().unwrap_or("").into();
        for (p, paragraph) in article.paragraphs.into_iter().enumerate() {
            let context: Arc<str> = paragraph.context.as_ref().into();
            for (q, asked) in paragraph.qas.into_iter().enumerate() {
                found.places.push([number(a), number(p), number(q)]);
                found.stated.push(asked.is_impossible);
                found.rows.push(question(asked, &title, &context));
            }
        }
    }
    Ok(found)
}

fn question(asked: Asked<'_>, title: &Arc<str>, context: &Arc<str>) -> Question {
    let answers = asked.answers.unwrap_or_default().into_iter();
    let answers: Vec<Answer> = answers.map(|given| Answer { text: given.text.into_owned(), start: given.answer_start }).collect();
    let impossible = asked.is_impossible.unwrap_or(answers.is_empty());
    let (id, question) = (asked.id.into_owned(), asked.question.into_owned());
    Question { id, title: Arc::clone(title), context: Arc::clone(context), question, answers, impossible }
}

/// `1.1` or `2.0`, where a file's version means one of them.
fn version(stated: &str) -> Option<String> {
    match stated.trim_start_matches(['v', 'V']).chars().next() {
        Some('1') => Some("1.1".to_owned()),
        Some('2') => Some("2.0".to_owned()),
        _ => None,
    }
}

/// A file's text, unpacked where it is gzipped, whatever it is called.
///
/// # Errors
/// Where the file is missing, its gzip data is damaged, or it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Error> {
    let shown = path.display();
    let mut bytes = std::fs::read(path).map_err(Error::io(path))?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut text = Vec::with_capacity(bytes.len() * 5);
        let unpacked = MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text);
        unpacked.map_err(|e| Error::data(format!("{shown}: the gzip data is damaged or cut off: {e}")).help("download the file again"))?;
        bytes = text;
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::data(format!("{shown}: byte {at} is not UTF-8")).help("save the file as UTF-8")
    })
}

/// What a JSON value is, in a sentence.
pub(crate) fn noun(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Finds the first thing that is not as it should be; slow, and only for files that did not parse.
fn diagnose(text: &str, name: &str, error: &serde_json::Error) -> Error {
    let help = "the form is {\"data\": [{\"title\", \"paragraphs\": [{\"context\", \"qas\": [{\"id\", \"question\", \"answers\": [{\"text\", \"answer_start\"}]}]}]}]}";
    let message = match serde_json::from_str::<Value>(text) {
        Err(error) => format!("{name}: not JSON: {error}"),
        Ok(value) => match Walk::default().file(&value) {
            Some(problem) => format!("{name}: {problem}"),
            None => format!("{name}: not in the SQuAD form: {error}"),
        },
    };
    Error::data(message).help(help)
}

/// A walk down a file that is JSON; every step gives the first problem.
#[derive(Default)]
struct Walk {
    path: String,
}

impl Walk {
    fn file(&mut self, value: &Value) -> Option<String> {
        if !value.is_object() {
            return Some(format!("the top level is {}, not an object", noun(value)));
        }
        self.list(value, "data", |walk, article| {
            walk.text(article, "title", true).or_else(|| walk.list(article, "paragraphs", |walk, paragraph| walk.paragraph(paragraph)))
        })
    }

    fn paragraph(&mut self, value: &Value) -> Option<String> {
        self.text(value, "context", false).or_else(|| self.list(value, "qas", |walk, asked| walk.asked(asked)))
    }

    fn asked(&mut self, value: &Value) -> Option<String> {
        let texts = self.text(value, "id", false).or_else(|| self.text(value, "question", false));
        let truth = || match value.get("is_impossible") {
            None | Some(Value::Null | Value::Bool(_)) => None,
            Some(other) => Some(self.wrong("is_impossible", "true or false", other)),
        };
        let problem = texts.or_else(truth);
        match value.get("answers") {
            None | Some(Value::Null) => problem,
            Some(_) => problem.or_else(|| self.list(value, "answers", |walk, given| walk.given(given))),
        }
    }

    fn given(&mut self, value: &Value) -> Option<String> {
        let start = |walk: &Self| match value.get("answer_start") {
            Some(Value::Number(number)) if number.as_u64().is_some_and(|number| u32::try_from(number).is_ok()) => None,
            Some(Value::Number(number)) => Some(format!("{}.answer_start is {number}, not a whole number from 0", walk.path)),
            Some(other) => Some(walk.wrong("answer_start", "a whole number", other)),
            None => Some(walk.missing("answer_start")),
        };
        self.text(value, "text", false).or_else(|| start(self))
    }

    fn text(&self, value: &Value, key: &str, optional: bool) -> Option<String> {
        match value.get(key) {
            Some(Value::String(_)) => None,
            None | Some(Value::Null) if optional => None,
            None => Some(self.missing(key)),
            Some(other) => Some(self.wrong(key, "a text", other)),
        }
    }

    fn list(&mut self, value: &Value, key: &str, each: impl Fn(&mut Self, &Value) -> Option<String>) -> Option<String> {
        let items = match value.get(key) {
            Some(Value::Array(items)) => items,
            None => return Some(self.missing(key)),
            Some(other) => return Some(self.wrong(key, "a list", other)),
        };
        let length = self.path.len();
        for (at, item) in items.iter().enumerate() {
            let dot = if length == 0 { "" } else { "." };
            self.path.push_str(&format!("{dot}{key}[{at}]"));
            let problem = if item.is_object() { each(self, item) } else { Some(format!("{} is {}, not an object", self.path, noun(item))) };
            if problem.is_some() {
                return problem;
            }
            self.path.truncate(length);
        }
        None
    }

    fn missing(&self, key: &str) -> String {
        let whole = if self.path.is_empty() { "the top level" } else { &self.path };
        format!("{whole} has no `{key}`")
    }

    fn wrong(&self, key: &str, wanted: &str, found: &Value) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        format!("{}{dot}{key} is {}, not {wanted}", self.path, noun(found))
    }
}
