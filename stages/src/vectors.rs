//! Word vectors of others: GloVe's text (Pennington, Socher, Manning 2014), and fastText's text and binary model (Bojanowski et al. 2017).
//! What a file is, and whether it is gzipped, is told by its content.
//!
//! Files are streamed, and only the rows that are asked for are kept: a file of two million words needs no memory to speak of.

mod fasttext;
mod source;
mod text;
mod wanted;

use std::collections::HashSet;
use std::path::Path;

use crate::error::Error;
use fasttext::Model;
use source::Source;
use text::Rows;
use wanted::Wanted;

/// Tells how far it is: bytes of the file that are read, and bytes in all; an error stops the work.
pub type Progress<'a> = &'a dyn Fn(u64, u64) -> Result<(), Error>;

/// Most numbers of a vector: one that claims more is taken for damage.
const WIDEST: usize = 16_384;

/// What to do about a file that is none of these.
const HELP: &str = "take GloVe text or fastText .vec, plain or gzipped, or fastText .bin";

/// Vectors for some words.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Numbers of a vector.
    pub dimension: usize,
    /// Words x dimension, row by row, in the order of the words that were asked for; zero where a word has none.
    pub values: Vec<f32>,
    /// Whether each word has a vector.
    pub known: Vec<bool>,
    /// Of those that have one, how many only by their character n-grams.
    pub by_subwords: usize,
}

impl Found {
    /// Nothing found yet.
    fn none(words: usize, dimension: usize) -> Self {
        Self { dimension, values: vec![0.0; words * dimension], known: vec![false; words], by_subwords: 0 }
    }

    /// A word's vector.
    fn row(&mut self, at: usize) -> &mut [f32] {
        &mut self.values[at * self.dimension..(at + 1) * self.dimension]
    }

    /// Number of words that have a vector.
    #[must_use]
    pub fn known_count(&self) -> usize {
        self.known.iter().filter(|&&known| known).count()
    }
}

/// Finds vectors for words: of each as it is, else of its lower case, else, in a binary model, the mean over its character n-grams. Of a
/// word that the file holds twice, the first row counts.
///
/// # Errors
/// Where the file cannot be read, is no file of vectors or a damaged one (with the line, where it has lines), and what `progress` returns.
pub fn find(file: &Path, words: &[String], progress: Progress<'_>) -> Result<Found, Error> {
    let mut source = Source::open(file, progress)?;
    let wanted = Wanted::new(words);
    if source.is_model() {
        return Model::open(&mut source)?.find(words, wanted);
    }
    Rows::open(&mut source)?.find(words.len(), wanted)
}

/// The first `most` words of a file, in its order: fastText's and GloVe's have the most frequent word first. A repeated one counts once.
///
/// # Errors
/// As [`find`].
pub fn words(file: &Path, most: usize) -> Result<Vec<String>, Error> {
    let mut source = Source::open(file, &|_, _| Ok(()))?;
    let mut found = First { most, words: Vec::new(), known: HashSet::new() };
    if source.is_model() {
        Model::open(&mut source)?.each_word(|_, word| found.take(word))?;
    } else {
        let mut rows = Rows::open(&mut source)?;
        while let Some(row) = rows.next()? {
            if !found.take(&row.word) {
                break;
            }
        }
    }
    Ok(found.words)
}

/// The first distinct words.
struct First {
    most: usize,
    words: Vec<String>,
    known: HashSet<String>,
}

impl First {
    /// Takes a word; whether there is room for more.
    fn take(&mut self, word: &str) -> bool {
        if self.words.len() < self.most && self.known.insert(word.to_owned()) {
            self.words.push(word.to_owned());
        }
        self.words.len() < self.most
    }
}
