//! Questions with their contexts and answers: the `examples` artifact.
//!
//! A folder with `train.arrow` and/or `dev.arrow`, one row a question, and `info.json`. Contexts and titles are dictionaries: each
//! distinct text is stored once, in the order of first use. Equal content gives equal bytes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, BooleanArray, DictionaryArray, Int32Array, ListArray, StringArray, UInt32Array};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field};
use serde::{Deserialize, Serialize};

use crate::arrow_file::{self, column};
use crate::error::Error;

/// Name of the file that says what a data set is.
pub const INFO: &str = "info.json";

/// One of the two parts of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// What models learn from.
    Train,
    /// What they are measured on.
    Dev,
}

impl Part {
    /// Both parts.
    pub const ALL: [Self; 2] = [Self::Train, Self::Dev];

    /// The word for it, in parameters and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
        }
    }

    /// Name of the file of rows: `train.arrow`, `dev.arrow`.
    pub fn file(self) -> &'static str {
        match self {
            Self::Train => "train.arrow",
            Self::Dev => "dev.arrow",
        }
    }
}

/// A gold answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text, as it stands in the context.
    pub text: String,
    /// Where it begins in the context, in code points.
    pub start: u32,
}

/// One question, as it is read from the user's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Unique within a part.
    pub id: String,
    /// Title of the article.
    pub title: Arc<str>,
    /// The paragraph that is asked about.
    pub context: Arc<str>,
    /// The question, untouched.
    pub question: String,
    /// Gold answers, repeats included; empty where there is none.
    pub answers: Vec<Answer>,
    /// Whether the data set says that the paragraph does not answer it.
    pub impossible: bool,
}

/// What `info.json` of an examples artifact says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// What the data set is called in results.
    pub name: String,
    /// `1.1` or `2.0`.
    pub version: String,
}

impl Info {
    /// Reads it from an artifact's folder.
    ///
    /// # Errors
    /// Where it is missing or broken.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        read_json(&folder.join(INFO))
    }

    /// Writes it into an artifact's folder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        write_json(&folder.join(INFO), self)
    }
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&text).map_err(|e| Error::data(format!("{}: {e}", path.display())))
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::data(format!("{}: {e}", path.display())))?;
    text.push('\n');
    std::fs::write(path, text).map_err(Error::io(path))
}

/// Writes one part.
///
/// # Errors
/// What the file system says, or a part of more than 2 GiB of text in one column.
pub fn write(path: &Path, questions: &[Question]) -> Result<(), Error> {
    let text = |name: &str, texts: Vec<&str>| -> Result<ArrayRef, Error> { Ok(Arc::new(strings(path, name, &texts)?)) };
    let answers = || questions.iter().flat_map(|question| &question.answers);
    let ends = OffsetBuffer::<i32>::from_lengths(questions.iter().map(|question| question.answers.len()));
    let starts: Vec<i32> = answers().map(|answer| i32::try_from(answer.start).unwrap_or(i32::MAX)).collect();
    let list = |item: ArrayRef| -> Result<ArrayRef, Error> {
        let field = Arc::new(Field::new("item", item.data_type().clone(), false));
        Ok(Arc::new(ListArray::try_new(field, ends.clone(), item, None::<NullBuffer>).map_err(Error::arrow(path))?))
    };
    let columns = vec![
        ("id", text("id", questions.iter().map(|question| question.id.as_str()).collect())?),
        ("title", dictionary(path, "title", questions.iter().map(|question| &*question.title))?),
        ("context", dictionary(path, "context", questions.iter().map(|question| &*question.context))?),
        ("question", text("question", questions.iter().map(|question| question.question.as_str()).collect())?),
        ("answer_text", list(text("answer_text", answers().map(|answer| answer.text.as_str()).collect())?)?),
        ("answer_start", list(Arc::new(Int32Array::from(starts)))?),
        ("impossible", Arc::new(BooleanArray::from_iter(questions.iter().map(|question| Some(question.impossible)))) as ArrayRef),
    ];
    arrow_file::write(path, columns.into_iter().map(|(name, array)| (name, without_nulls(array))).collect())
}

/// Drops an all-valid null mask, so that equal content has one form.
fn without_nulls(array: ArrayRef) -> ArrayRef {
    match array.as_any().downcast_ref::<BooleanArray>() {
        Some(booleans) => Arc::new(BooleanArray::new(booleans.values().clone(), None)),
        None => array,
    }
}

fn strings(path: &Path, name: &str, texts: &[&str]) -> Result<StringArray, Error> {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    if i32::try_from(bytes).is_err() {
        let message = format!("{}: column `{name}` holds {bytes} bytes of text, more than 2 GiB", path.display());
        return Err(Error::data(message).help("split the data set, or limit it with `limit_train`"));
    }
    Ok(StringArray::from_iter_values(texts))
}

fn dictionary<'a>(path: &Path, name: &str, texts: impl Iterator<Item = &'a str>) -> Result<ArrayRef, Error> {
    let mut known: HashMap<&str, u32> = HashMap::new();
    let mut values: Vec<&str> = Vec::new();
    let mut keys = Vec::new();
    for text in texts {
        let next = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let key = *known.entry(text).or_insert(next);
        if key == next {
            values.push(text);
        }
        keys.push(key);
    }
    let values = strings(path, name, &values)?;
    let array = DictionaryArray::<UInt32Type>::try_new(UInt32Array::from(keys), Arc::new(values)).map_err(Error::arrow(path))?;
    Ok(Arc::new(array))
}

/// One part of an examples artifact, mapped from its file.
#[derive(Clone, Debug)]
pub struct Examples {
    ids: StringArray,
    titles: Dictionary,
    contexts: Dictionary,
    questions: StringArray,
    ends: OffsetBuffer<i32>,
    texts: StringArray,
    starts: Int32Array,
    impossible: BooleanArray,
}

#[derive(Clone, Debug)]
struct Dictionary {
    keys: UInt32Array,
    values: StringArray,
}

impl Dictionary {
    fn of(array: &DictionaryArray<UInt32Type>, path: &Path) -> Result<Self, Error> {
        let values = array.values().as_any().downcast_ref::<StringArray>().cloned();
        let wrong = || Error::arrow(path)(arrow_schema::ArrowError::SchemaError("a dictionary holds no text".to_owned()));
        Ok(Self { keys: array.keys().clone(), values: values.ok_or_else(wrong)? })
    }

    fn get(&self, row: usize) -> &str {
        self.values.value(self.keys.value(row) as usize)
    }
}

impl Examples {
    /// Opens a file of rows (`train.arrow`, `dev.arrow`, or the copies in a features artifact).
    ///
    /// # Errors
    /// Where it is missing or broken.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let batch = arrow_file::read(path)?;
        let texts: ListArray = column(&batch, "answer_text", path)?;
        let starts: ListArray = column(&batch, "answer_start", path)?;
        let wrong = |what: &str| Error::arrow(path)(arrow_schema::ArrowError::SchemaError(what.to_owned()));
        if texts.offsets() != starts.offsets() {
            return Err(wrong("answers and their starts differ in number"));
        }
        let values = |list: &ListArray, ty: &DataType| {
            (list.value_type() == *ty).then(|| Arc::clone(list.values())).ok_or_else(|| wrong("answers of a wrong type"))
        };
        let (text_values, start_values) = (values(&texts, &DataType::Utf8)?, values(&starts, &DataType::Int32)?);
        Ok(Self {
            ids: column(&batch, "id", path)?,
            titles: Dictionary::of(&column(&batch, "title", path)?, path)?,
            contexts: Dictionary::of(&column(&batch, "context", path)?, path)?,
            questions: column(&batch, "question", path)?,
            ends: texts.offsets().clone(),
            texts: text_values.as_any().downcast_ref::<StringArray>().cloned().ok_or_else(|| wrong("answers without text"))?,
            starts: start_values.as_any().downcast_ref::<Int32Array>().cloned().ok_or_else(|| wrong("answers without starts"))?,
            impossible: column(&batch, "impossible", path)?,
        })
    }

    /// Opens one part of an artifact's folder, if it has that part.
    ///
    /// # Errors
    /// Where the file is broken.
    pub fn open_part(folder: &Path, part: Part) -> Result<Option<Self>, Error> {
        let path = folder.join(part.file());
        if path.exists() { Self::open(&path).map(Some) } else { Ok(None) }
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// A question's id.
    pub fn id(&self, row: usize) -> &str {
        self.ids.value(row)
    }

    /// Title of the article that a question is about.
    pub fn title(&self, row: usize) -> &str {
        self.titles.get(row)
    }

    /// Number of the article that a question is about, among the distinct titles.
    pub fn title_index(&self, row: usize) -> u32 {
        self.titles.keys.value(row)
    }

    /// Number of distinct titles.
    pub fn titles(&self) -> usize {
        self.titles.values.len()
    }

    /// The question's text, untouched.
    pub fn question(&self, row: usize) -> &str {
        self.questions.value(row)
    }

    /// The paragraph that a question is about.
    pub fn context(&self, row: usize) -> &str {
        self.contexts.get(row)
    }

    /// Number of the paragraph that a question is about, among the distinct paragraphs.
    pub fn context_index(&self, row: usize) -> u32 {
        self.contexts.keys.value(row)
    }

    /// Number of distinct paragraphs.
    pub fn contexts(&self) -> usize {
        self.contexts.values.len()
    }

    /// A distinct paragraph.
    pub fn context_text(&self, index: usize) -> &str {
        self.contexts.values.value(index)
    }

    /// Texts of a question's gold answers, repeats included.
    pub fn golds(&self, row: usize) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.range(row).map(|at| self.texts.value(at))
    }

    /// Where a question's gold answers begin in the context, in code points; as many as [`Examples::golds`].
    pub fn starts(&self, row: usize) -> &[i32] {
        &self.starts.values()[self.range(row)]
    }

    /// Whether a question has a gold answer: what the official metric calls HasAns.
    pub fn has_answer(&self, row: usize) -> bool {
        !self.range(row).is_empty()
    }

    /// Whether the data set says that the paragraph does not answer a question.
    pub fn impossible(&self, row: usize) -> bool {
        self.impossible.value(row)
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let end = |at: usize| usize::try_from(self.ends[at]).unwrap_or(0);
        end(row)..end(row + 1)
    }
}
