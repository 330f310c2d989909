//! Texts with the answers that are to follow: the `features` artifact of models that write.
//!
//! A folder with, for each part, `PART.arrow` (one row a text) and `PART.examples.arrow` (the questions, as in the examples artifact), and
//! `info.json`.

use std::ops::Range;
use std::path::Path;

use arrow_array::{LargeListArray, UInt32Array};

use crate::arrow_file::{self, column};
use crate::error::Error;
use crate::examples::{Examples, Part};
use crate::features::{Column, Lists, examples_file, numbers};

/// The texts of a part before they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Token ids that are read.
    pub source: Lists,
    /// Token ids that are to be written, the end token last.
    pub target: Lists,
    /// Which row of the examples.
    pub example: Vec<u32>,
}

impl Pairs {
    /// Adds a text of a question.
    pub fn push(&mut self, source: &[u32], target: &[u32], example: usize) {
        self.source.push(source);
        self.target.push(target);
        self.example.push(u32::try_from(example).unwrap_or(u32::MAX));
    }
}

/// Writes `PART.arrow`. `PART.examples.arrow` is a copy of the data set's file.
///
/// # Errors
/// What the file system says.
pub fn write(folder: &Path, part: Part, pairs: Pairs) -> Result<(), Error> {
    let path = folder.join(part.file());
    let columns =
        vec![("source", pairs.source.into_array(&path)?), ("target", pairs.target.into_array(&path)?), ("example", numbers(pairs.example))];
    arrow_file::write(&path, columns)
}

/// One part of such an artifact, mapped from its files. Texts of a question follow one another.
#[derive(Clone, Debug)]
pub struct Texts {
    source: Column,
    target: Column,
    example: UInt32Array,
    examples: Examples,
}

impl Texts {
    /// Opens one part of an artifact's folder.
    ///
    /// # Errors
    /// Where the artifact lacks that part, or a file is broken.
    pub fn open(folder: &Path, part: Part) -> Result<Self, Error> {
        let path = folder.join(part.file());
        if !path.exists() {
            return Err(crate::features::without_part(part));
        }
        let batch = arrow_file::read(&path)?;
        let list = |name: &str| Column::of(&column::<LargeListArray>(&batch, name, &path)?, &path);
        let texts = Self {
            source: list("source")?,
            target: list("target")?,
            example: column(&batch, "example", &path)?,
            examples: Examples::open(&folder.join(examples_file(part)))?,
        };
        let sound = |row: usize| {
            (texts.example.value(row) as usize) < texts.examples.len() && !texts.source(row).is_empty() && !texts.target(row).is_empty()
        };
        match (0..texts.len()).find(|&row| !sound(row)) {
            None => Ok(texts),
            Some(row) => {
                Err(Error::arrow(&path)(arrow_schema::ArrowError::SchemaError(format!("text {row} is empty or fits no question"))))
            }
        }
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.example.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.example.is_empty()
    }

    /// Token ids that are read.
    pub fn source(&self, row: usize) -> &[u32] {
        self.source.get(row)
    }

    /// Token ids that are to be written, the end token last.
    pub fn target(&self, row: usize) -> &[u32] {
        self.target.get(row)
    }

    /// The question of a text: a row of [`Texts::examples`].
    pub fn example(&self, row: usize) -> usize {
        self.example.value(row) as usize
    }

    /// Texts of a question.
    pub fn texts_of(&self, example: usize) -> Range<usize> {
        crate::features::rows_of(&self.example, example)
    }

    /// Tokens of the longest source, and of the longest target.
    pub fn longest(&self) -> (usize, usize) {
        let most = |of: &dyn Fn(usize) -> usize| (0..self.len()).map(of).max().unwrap_or(0);
        (most(&|row| self.source(row).len()), most(&|row| self.target(row).len()))
    }

    /// The questions.
    pub fn examples(&self) -> &Examples {
        &self.examples
    }
}
