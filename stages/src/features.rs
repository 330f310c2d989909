//! Tokenized windows: the `features` artifact.
//!
//! A folder with, for each part, `PART.arrow` (one row a window), `PART.contexts.arrow` (one row a distinct paragraph: where each of
//! its tokens stands) and `PART.examples.arrow` (the questions, as in the examples artifact), and `info.json`. Which options made the
//! windows is not written: options that leave the windows equal leave the bytes equal.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, LargeListArray, UInt32Array};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::Field;
use serde::{Deserialize, Serialize};

use crate::arrow_file::{self, column};
use crate::error::Error;
use crate::examples::{Examples, INFO, Part, read_json, write_json};
use crate::form::Form;

/// Names of the files of the train part: all that a training reads.
pub const TRAIN_FILES: &[&str] = &["train.arrow", "train.contexts.arrow", "train.examples.arrow", INFO];
/// Names of the files of the dev part: all that an evaluation reads.
pub const DEV_FILES: &[&str] = &["dev.arrow", "dev.contexts.arrow", "dev.examples.arrow", INFO];

/// What `info.json` of a features artifact says: nothing that depends on one part alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// What the data set is called in results.
    pub dataset: String,
    /// Version of the data set, `1.1` or `2.0`.
    pub dataset_version: String,
    /// Rows that an embedding must have for these ids: the tokenizer's largest id and one.
    pub vocab_size: u32,
    /// Digest of the tokenizer, so that features and models that do not belong together are told.
    pub tokenizer: String,
    /// What a row is.
    pub form: InfoForm,
}

/// What a row of a features artifact is, and what a model needs to know of all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum InfoForm {
    /// A window in which a model points at the answer.
    Spans {
        /// Id that fills a batch up, where the tokenizer has one.
        pad_id: Option<u32>,
        /// Id at the front of a window, whose logits are the null answer.
        cls_id: u32,
        /// Id between question and context.
        sep_id: u32,
        /// Whether the tokenizer gives the context a segment of its own.
        segments: bool,
    },
    /// A text that a model answers.
    Texts {
        /// What the model does with it.
        form: Form,
        /// Token that ends an answer.
        end_id: u32,
        /// What is written where there is no answer, the end token last.
        no_answer: Vec<u32>,
        /// What is written where there is no answer.
        no_answer_text: String,
    },
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

/// Lists of numbers, end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists {
    /// All items.
    pub items: Vec<u32>,
    /// Length of each list.
    pub lengths: Vec<u32>,
}

impl Lists {
    /// No lists.
    pub const fn new() -> Self {
        Self { items: Vec::new(), lengths: Vec::new() }
    }

    /// Adds a list.
    pub(crate) fn push(&mut self, items: &[u32]) {
        self.items.extend_from_slice(items);
        self.lengths.push(u32::try_from(items.len()).unwrap_or(u32::MAX));
    }

    pub(crate) fn into_array(self, path: &Path) -> Result<ArrayRef, Error> {
        let ends = OffsetBuffer::<i64>::from_lengths(self.lengths.iter().map(|&length| length as usize));
        let items: ArrayRef = Arc::new(UInt32Array::from(self.items));
        let field = Arc::new(Field::new("item", items.data_type().clone(), false));
        Ok(Arc::new(LargeListArray::try_new(field, ends, items, None::<NullBuffer>).map_err(Error::arrow(path))?))
    }
}

impl std::default::Default for Lists {
    fn default() -> Self {
        Self::new()
    }
}

/// The windows of a part before they are written: one entry a window in every column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Token ids, special tokens included, no padding.
    pub ids: Lists,
    /// Tokens before the context: the first context token's position.
    pub context_start: Vec<u32>,
    /// One past the last context token's position.
    pub context_end: Vec<u32>,
    /// Which row of the examples.
    pub example: Vec<u32>,
    /// Which row of the contexts.
    pub context: Vec<u32>,
    /// Which token of the context comes first.
    pub first: Vec<u32>,
    /// Position of the answer's first token; 0 for no answer in this window.
    pub start: Vec<u32>,
    /// Position of the answer's last token; 0 for no answer in this window.
    pub end: Vec<u32>,
}

/// Where the tokens of each distinct paragraph stand, in code points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// First code point of each token; one list a paragraph.
    pub starts: Lists,
    /// One past the last code point of each token; one list a paragraph.
    pub ends: Lists,
}

/// Writes `PART.arrow` and `PART.contexts.arrow`. `PART.examples.arrow` is a copy of the data set's file.
///
/// # Errors
/// What the file system says.
pub fn write(folder: &Path, part: Part, windows: Windows, offsets: Offsets) -> Result<(), Error> {
    let path = folder.join(part.file());
    let columns = vec![
        ("ids", windows.ids.into_array(&path)?),
        ("context_start", numbers(windows.context_start)),
        ("context_end", numbers(windows.context_end)),
        ("example", numbers(windows.example)),
        ("context", numbers(windows.context)),
        ("first", numbers(windows.first)),
        ("start", numbers(windows.start)),
        ("end", numbers(windows.end)),
    ];
    arrow_file::write(&path, columns)?;
    let path = folder.join(contexts_file(part));
    arrow_file::write(&path, vec![("starts", offsets.starts.into_array(&path)?), ("ends", offsets.ends.into_array(&path)?)])
}

/// A column of numbers.
pub(crate) fn numbers(numbers: Vec<u32>) -> ArrayRef {
    Arc::new(UInt32Array::from(numbers))
}

/// Rows that belong to a question, in a column of questions in order.
pub(crate) fn rows_of(column: &UInt32Array, example: usize) -> Range<usize> {
    let rows = column.values();
    rows.partition_point(|&row| (row as usize) < example)..rows.partition_point(|&row| row as usize <= example)
}

/// The error for features that lack a part.
pub(crate) fn without_part(part: Part) -> Error {
    let message = format!("the features have no {} part", part.name());
    Error::data(message).help(format!("give the dataset stage a `{}`", part.name()))
}

/// Name of the file of token offsets of a part.
pub fn contexts_file(part: Part) -> &'static str {
    match part {
        Part::Train => "train.contexts.arrow",
        Part::Dev => "dev.contexts.arrow",
    }
}

/// Name of the file of questions of a part.
pub fn examples_file(part: Part) -> &'static str {
    match part {
        Part::Train => "train.examples.arrow",
        Part::Dev => "dev.examples.arrow",
    }
}

/// One part of a features artifact, mapped from its files. Windows of a question follow one another.
#[derive(Clone, Debug)]
pub struct Features {
    ids: Column,
    context_start: UInt32Array,
    context_end: UInt32Array,
    example: UInt32Array,
    context: UInt32Array,
    first: UInt32Array,
    start: UInt32Array,
    end: UInt32Array,
    starts: Column,
    ends: Column,
    examples: Examples,
    segments: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    ends: OffsetBuffer<i64>,
    items: ScalarBuffer<u32>,
}

impl Column {
    pub(crate) fn of(list: &LargeListArray, path: &Path) -> Result<Self, Error> {
        let items = list.values().as_any().downcast_ref::<UInt32Array>().map(|items| items.values().clone());
        let wrong = || Error::arrow(path)(arrow_schema::ArrowError::SchemaError("a list holds no u32".to_owned()));
        Ok(Self { ends: list.offsets().clone(), items: items.ok_or_else(wrong)? })
    }

    pub(crate) fn get(&self, row: usize) -> &[u32] {
        let end = |at: usize| usize::try_from(self.ends[at]).unwrap_or(0);
        &self.items[end(row)..end(row + 1)]
    }
}

impl Features {
    /// Opens one part of an artifact's folder.
    ///
    /// # Errors
    /// Where the artifact lacks that part, or a file is broken.
    pub fn open(folder: &Path, part: Part) -> Result<Self, Error> {
        let path = folder.join(part.file());
        if !path.exists() {
            return Err(without_part(part));
        }
        let contexts_path = folder.join(contexts_file(part));
        if !contexts_path.exists() {
            return Err(
                Error::data("the data is an examples table, a model reads a features table").help("give the output of a tokenize stage")
            );
        }
        let batch = arrow_file::read(&path)?;
        let numbers = |name: &str| column::<UInt32Array>(&batch, name, &path);
        let contexts = arrow_file::read(&contexts_path)?;
        let features = Self {
            ids: Column::of(&column(&batch, "ids", &path)?, &path)?,
            context_start: numbers("context_start")?,
            context_end: numbers("context_end")?,
            example: numbers("example")?,
            context: numbers("context")?,
            first: numbers("first")?,
            start: numbers("start")?,
            end: numbers("end")?,
            starts: Column::of(&column(&contexts, "starts", &contexts_path)?, &contexts_path)?,
            ends: Column::of(&column(&contexts, "ends", &contexts_path)?, &contexts_path)?,
            examples: Examples::open(&folder.join(examples_file(part)))?,
            segments: matches!(Info::open(folder)?.form, InfoForm::Spans { segments: true, .. }),
        };
        features.check(&path)?;
        Ok(features)
    }

    /// Whether the columns fit together, so that no accessor can go out of bounds.
    fn check(&self, path: &Path) -> Result<(), Error> {
        let contexts = self.starts.ends.len() - 1;
        let sound = |row: usize| {
            let (start, end, context) = (self.context_start.value(row), self.context_end.value(row), self.context.value(row) as usize);
            let length = self.ids.get(row).len();
            start <= end
                && end as usize <= length
                && (self.example.value(row) as usize) < self.examples.len()
                && context < contexts
                && self.first.value(row) as usize + (end - start) as usize <= self.starts.get(context).len()
                && self.starts.get(context).len() == self.ends.get(context).len()
                && (self.start.value(row) as usize) < length.max(1)
                && (self.end.value(row) as usize) < length.max(1)
        };
        match (0..self.len()).find(|&row| !sound(row)) {
            None => Ok(()),
            Some(row) => Err(Error::arrow(path)(arrow_schema::ArrowError::SchemaError(format!("window {row} does not fit its context")))),
        }
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.example.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.example.is_empty()
    }

    /// Token ids of a window, special tokens included, no padding.
    pub fn ids(&self, row: usize) -> &[u32] {
        self.ids.get(row)
    }

    /// Tokens of a window that are segment 0; what follows is segment 1. All are, where the tokenizer makes no difference.
    pub fn segment_start(&self, row: usize) -> u32 {
        if self.segments { self.context_start.value(row) } else { u32::MAX }
    }

    /// Tokens of a window before its context.
    pub fn context_start(&self, row: usize) -> u32 {
        self.context_start.value(row)
    }

    /// One past the last context token of a window.
    pub fn context_end(&self, row: usize) -> u32 {
        self.context_end.value(row)
    }

    /// Positions of the first and the last token of the first gold answer; (0, 0) where the window does not hold all of it.
    pub fn label(&self, row: usize) -> (u32, u32) {
        (self.start.value(row), self.end.value(row))
    }

    /// The question of a window: a row of [`Features::examples`].
    pub fn example(&self, row: usize) -> usize {
        self.example.value(row) as usize
    }

    /// Windows of a question.
    pub fn windows_of(&self, example: usize) -> Range<usize> {
        rows_of(&self.example, example)
    }

    /// First code point, and one past the last, of each context token of a window.
    pub fn offsets(&self, row: usize) -> (&[u32], &[u32]) {
        let context = self.context.value(row) as usize;
        let first = self.first.value(row) as usize;
        let range = first..first + (self.context_end.value(row) - self.context_start.value(row)) as usize;
        (&self.starts.get(context)[range.clone()], &self.ends.get(context)[range])
    }

    /// Tokens of all windows together.
    pub fn tokens(&self) -> usize {
        self.ids.items.len()
    }

    /// Tokens of the longest window.
    pub fn longest(&self) -> usize {
        (0..self.len()).map(|row| self.ids(row).len()).max().unwrap_or(0)
    }

    /// The questions.
    pub fn examples(&self) -> &Examples {
        &self.examples
    }
}
