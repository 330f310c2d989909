//! What a new LSTM gets besides its random weights: a vocabulary of whole words, their vectors, and their characters.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use qapipe_cache::Digest;
use qapipe_engine::{StageCx, StageError};
use qapipe_nn::{LstmConfig, LstmForQuestionAnswering, Parameters};
use qapipe_stages::examples::Examples;
use qapipe_stages::tokenizer::{SPECIAL_WORDS, count_words_of, frequent_words, of_words, whole_words};
use qapipe_stages::vectors::{self, Found};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tch::{Kind, Tensor};
use tokenizers::Tokenizer;

use crate::error::Error;

/// The number of what is no character, and of a character that the model does not know; known ones come after them.
const NONE: i32 = 0;
const UNKNOWN: i32 = 1;

/// Where vectors come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A file.
    File(&'a Path),
    /// Of so many dimensions, drawn by the words themselves: they mean nothing.
    Sample(usize),
}

impl Source<'_> {
    /// Vectors for some words.
    fn find(self, words: &[String], cx: &StageCx<'_>) -> Result<Found, Error> {
        match self {
            Self::File(file) => {
                let progress = |done: u64, total: u64| -> Result<(), qapipe_stages::Error> {
                    cx.reporter.progress(done, total, "bytes", "vectors");
                    cx.checkpoint().map_err(|_| qapipe_stages::Error::Interrupted)
                };
                Ok(vectors::find(file, words, &progress)?)
            }
            Self::Sample(dimension) => Ok(drawn(words, dimension)),
        }
    }
}

/// A vector of numbers between -1/2 and 1/2 for each word but the special ones.
fn drawn(words: &[String], dimension: usize) -> Found {
    let known: Vec<bool> = words.iter().map(|word| !SPECIAL_WORDS.contains(&word.as_str())).collect();
    let mut values = Vec::with_capacity(words.len() * dimension);
    for word in words {
        let mut random = ChaCha8Rng::from_seed(*Digest::of_bytes(word.as_bytes()).as_bytes());
        #[allow(clippy::cast_precision_loss)]
        values.extend((0..dimension).map(|_| (random.next_u32() >> 8) as f32 / (1 << 24) as f32 - 0.5));
    }
    Found { dimension, values, known, by_subwords: 0 }
}

/// Where a new model's words come from.
pub struct Words<'a> {
    /// Their texts.
    pub train: &'a Examples,
    /// Texts whose words join where they have vectors.
    pub cover: Option<&'a Examples>,
    /// Most pieces, special ones included, but for those of `cover` and of the vectors.
    pub size: usize,
    /// Whether words become lower case.
    pub lower_case: bool,
    /// Where their vectors come from.
    pub vectors: Option<Source<'a>>,
    /// How many of the first words of a file of vectors join, whether the texts have them or not.
    pub of_vectors: usize,
}

impl Words<'_> {
    /// A tokenizer of whole words.
    ///
    /// # Errors
    /// Where there is no text, or the vectors cannot be read.
    pub fn tokenizer(&self, cx: &StageCx<'_>) -> Result<Tokenizer, Error> {
        let mut words = frequent_words(self.train, self.size, self.lower_case)?;
        if let (Some(cover), Some(vectors)) = (self.cover, self.vectors) {
            let more = self.more(cover, &words, vectors, cx)?;
            cx.reporter.log(&format!("{} words, and {} more that only the covered questions have", words.len(), more.len()));
            words.extend(more);
        }
        if let Some(Source::File(file)) = self.vectors.filter(|_| self.of_vectors > 0) {
            words.extend(vectors::words(file, self.of_vectors)?);
            words = whole_words(words, self.lower_case)?;
        }
        Ok(of_words(&words, self.lower_case)?)
    }

    /// Words of other texts that have vectors.
    fn more(&self, cover: &Examples, words: &[String], vectors: Source<'_>, cx: &StageCx<'_>) -> Result<Vec<String>, Error> {
        let known: HashSet<&str> = words.iter().map(String::as_str).collect();
        let new = count_words_of(cover, self.lower_case)?.into_iter().map(|(word, _)| word);
        let new: Vec<String> = new.filter(|word| !known.contains(word.as_str())).collect();
        let found = vectors.find(&new, cx)?;
        Ok(new.into_iter().zip(found.known).filter_map(|(word, known)| known.then_some(word)).collect())
    }
}

/// Gives a new model the vectors and the characters of its words.
///
/// # Errors
/// Where the vectors cannot be read, or are of another width than the model's.
pub fn furnish(
    parameters: &mut Parameters,
    config: &LstmConfig,
    tokenizer: &Tokenizer,
    vectors: Option<Source<'_>>,
    train: Option<(&Examples, bool)>,
    cx: &StageCx<'_>,
) -> Result<(), Error> {
    let words = words_of(tokenizer);
    if config.has_characters() {
        parameters.set(LstmForQuestionAnswering::CHARACTERS, &characters(&words, config)?)?;
    }
    let Some(vectors) = vectors else { return Ok(()) };
    let found = vectors.find(&words, cx)?;
    check_width(&found, config)?;
    let counts = match train {
        Some((examples, lower_case)) => count_words_of(examples, lower_case)?.into_iter().collect(),
        None => HashMap::new(),
    };
    tell(&found, &words, &counts, cx);
    let drawn = parameters.value(LstmForQuestionAnswering::WORDS)?;
    Ok(parameters.set(LstmForQuestionAnswering::WORDS, &mixed(&found, &drawn)?)?)
}

/// A tokenizer's pieces in the order of their ids.
fn words_of(tokenizer: &Tokenizer) -> Vec<String> {
    let by_id: BTreeMap<u32, String> = tokenizer.get_vocab(true).into_iter().map(|(word, id)| (id, word)).collect();
    let rows = by_id.keys().next_back().map_or(0, |&last| last + 1);
    (0..rows).map(|id| by_id.get(&id).cloned().unwrap_or_default()).collect()
}

fn check_width(found: &Found, config: &LstmConfig) -> Result<(), Error> {
    let (width, wanted) = (found.dimension, config.word_size);
    if i64::try_from(width) == Ok(wanted) {
        return Ok(());
    }
    let message = format!("the vectors have {width} dimensions, the model's word_size is {wanted}");
    Err(StageError::failed(message).help(format!("set word_size = {width} in `config`, or take vectors of {wanted} dimensions")).into())
}

/// Tells which share of the words has vectors, of the vocabulary and of the running text.
#[allow(clippy::cast_precision_loss)]
fn tell(found: &Found, words: &[String], counts: &HashMap<String, u64>, cx: &StageCx<'_>) {
    let all = words.len().saturating_sub(SPECIAL_WORDS.len());
    let share = |some: u64, all: u64| some as f64 / (all.max(1)) as f64;
    let covered = share(found.known_count() as u64, all as u64);
    let mut text = format!("vectors for {} of {all} words ({:.1} %)", found.known_count(), 100.0 * covered);
    if found.by_subwords > 0 {
        text += &format!(", for {} of them by parts of the word", found.by_subwords);
    }
    cx.reporter.measure("vectors_coverage", covered);
    let running: u64 = counts.values().sum();
    if running > 0 {
        let known = words.iter().zip(&found.known).filter(|&(_, &known)| known);
        let covered = share(known.filter_map(|(word, _)| counts.get(word)).sum(), running);
        text += &format!(", {:.1} % of the running text", 100.0 * covered);
        cx.reporter.measure("vectors_coverage_of_text", covered);
    }
    cx.reporter.log(&text);
}

/// The found vectors; where there is none, what was drawn, as long on the average as the found ones are.
fn mixed(found: &Found, drawn: &Tensor) -> Result<Tensor, Error> {
    let values = Tensor::f_from_slice(&found.values)?.f_view(drawn.size().as_slice())?;
    let known = Tensor::f_from_slice(&found.known)?.f_unsqueeze(1)?;
    let size =
        |tensor: &Tensor, rows: f64| Ok::<_, Error>((tensor.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])? / rows.max(1.0)).sqrt());
    #[allow(clippy::cast_precision_loss)]
    let (of_found, of_drawn) = (size(&values, found.known_count() as f64)?, size(drawn, drawn.size()[0] as f64)?);
    let scale = if of_found > 0.0 && of_drawn > 0.0 { of_found / of_drawn } else { 1.0 };
    Ok(values.f_where_self(&known, &drawn.f_mul_scalar(scale)?)?)
}

/// The characters of each word, i32 `[words, word length]`: the most frequent ones of the vocabulary are told apart.
fn characters(words: &[String], config: &LstmConfig) -> Result<Tensor, Error> {
    let size = |size: i64| usize::try_from(size).unwrap_or(0);
    let real = |word: &&String| !SPECIAL_WORDS.contains(&word.as_str());
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    words.iter().filter(real).flat_map(|word| word.chars()).for_each(|c| *counts.entry(c).or_default() += 1);
    let mut order: Vec<(char, u64)> = counts.into_iter().collect();
    order.sort_by_key(|&(c, count)| (Reverse(count), c));
    let known: HashMap<char, i32> =
        order.into_iter().take(size(config.character_vocab_size) - 2).map(|(c, _)| c).zip(UNKNOWN + 1..).collect();
    let length = size(config.word_length);
    let mut table = vec![NONE; words.len() * length];
    for (word, row) in words.iter().zip(table.chunks_exact_mut(length)).filter(|(word, _)| real(word)) {
        for (place, c) in row.iter_mut().zip(word.chars()) {
            *place = known.get(&c).copied().unwrap_or(UNKNOWN);
        }
    }
    Ok(Tensor::f_from_slice(&table)?.f_view([-1, config.word_length])?)
}
