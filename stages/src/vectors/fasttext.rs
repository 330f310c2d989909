//! fastText's binary model, as `FastText::saveModel` writes it: settings, dictionary, input matrix (a row for every word, then a row for
//! every bucket of character n-grams), output matrix. A word's vector is the mean over its own row and those of its n-grams; a word that
//! the dictionary lacks has its n-grams alone.

use std::ops::Range;

use super::source::Source;
use super::wanted::{Served, Wanted};
use super::{Found, WIDEST};
use crate::error::Error;

/// The versions that fastText itself reads.
const VERSIONS: [i32; 2] = [11, 12];
/// A model that classifies; in version 11 such a model used no n-grams.
const SUPERVISED: i32 = 3;
/// The word that ends a sentence; it has no n-grams.
const END: &str = "</s>";
/// What is before and after a word when n-grams are cut.
const BORDERS: (char, char) = ('<', '>');
/// What to do about a damaged file.
const AGAIN: &str = "fetch it again";

/// How a model cuts n-grams.
#[derive(Clone, Debug)]
struct Grams {
    /// Fewest characters.
    least: usize,
    /// Most characters; 0 where there are no n-grams.
    most: usize,
    /// Rows that they share.
    buckets: u32,
}

/// A model, open at its dictionary.
pub(super) struct Model<'s, 'a> {
    source: &'s mut Source<'a>,
    dimension: usize,
    grams: Grams,
    /// Entries of the dictionary: words, then labels.
    entries: u32,
    /// Words of the dictionary.
    words: u32,
}

impl<'s, 'a> Model<'s, 'a> {
    /// Reads settings and the dictionary's sizes.
    pub(super) fn open(source: &'s mut Source<'a>) -> Result<Self, Error> {
        let [_magic, version] = numbers(source, "its first bytes")?;
        if !VERSIONS.contains(&version) {
            return Err(source.wrong(format!("a fastText model of version {version}, only 11 and 12 are supported")));
        }
        let [dimension, _window, _epochs, _least, _negative, _word_grams, _loss, kind, buckets, least, most, _rate] =
            numbers(source, "its settings")?;
        source.skip(8, "its settings")?; // The sampling threshold.
        let most = if version == 11 && kind == SUPERVISED { 0 } else { most };
        let [entries, words, labels] = numbers(source, "the dictionary's sizes")?;
        source.skip(8, "the dictionary's sizes")?; // Tokens that it was trained on.
        let pruned = i64::from_le_bytes(source.take("the dictionary's sizes")?);
        let absurd = |name: &str, number: i32| source.wrong(format!("a damaged fastText model: its {name} is {number}")).help(AGAIN);
        let natural = |name: &str, number: i32| u32::try_from(number).map_err(|_| absurd(name, number));
        let width = usize::try_from(dimension).ok().filter(|width| (1..=WIDEST).contains(width));
        let (sum, entries) = (i64::from(words) + i64::from(labels), natural("number of entries", entries)?);
        let words = natural("number of words", words)?;
        natural("number of labels", labels)?;
        if sum != i64::from(entries) {
            return Err(source
                .wrong(format!("a damaged fastText model: {words} words and {labels} labels in {entries} entries"))
                .help(AGAIN));
        }
        let grams = Grams {
            least: natural("shortest n-gram", least)? as usize,
            most: natural("longest n-gram", most)? as usize,
            buckets: natural("number of buckets", buckets)?,
        };
        let dimension = width.ok_or_else(|| absurd("dimension", dimension))?;
        if pruned >= 0 {
            return Err(quantized(source));
        }
        Ok(Self { source, dimension, grams, entries, words })
    }

    /// Passes the words of the dictionary, with their rows, in order, until `each` says that it has enough.
    pub(super) fn each_word(&mut self, mut each: impl FnMut(u32, &str) -> bool) -> Result<(), Error> {
        let mut word = Vec::new();
        for row in 0..self.entries {
            self.source.word(&mut word)?;
            self.source.skip(9, "the dictionary")?; // How often it occurs (i64), and whether it is a label (i8).
            self.source.tick()?;
            if row < self.words && !each(row, &String::from_utf8_lossy(&word)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Finds vectors for words.
    pub(super) fn find(mut self, words: &[String], mut wanted: Wanted) -> Result<Found, Error> {
        let mut rows: Vec<Option<u32>> = vec![None; words.len()];
        self.each_word(|row, word| {
            wanted.meet(word).into_iter().for_each(|at| rows[at] = Some(row));
            true
        })?;
        self.check_matrix()?;
        let mut parts = Vec::new();
        let mut counts = Vec::with_capacity(words.len());
        for (at, word) in words.iter().enumerate() {
            let before = parts.len();
            parts.extend(rows[at].map(|row| (u64::from(row), at)));
            let lower = (wanted.served(at) == Served::Lower).then(|| word.to_lowercase());
            parts.extend(self.gram_rows(lower.as_ref().unwrap_or(word)).map(|row| (row, at)));
            counts.push(parts.len() - before);
        }
        parts.sort_unstable();
        let mut found = Found::none(words.len(), self.dimension);
        self.add_rows(&parts, &mut found)?;
        for (at, &count) in counts.iter().enumerate() {
            finish(&mut found, at, count, rows[at].is_some());
        }
        self.source.report()?;
        Ok(found)
    }

    /// The rows of a word's n-grams.
    fn gram_rows(&self, word: &str) -> impl Iterator<Item = u64> {
        let (first, buckets) = (u64::from(self.words), self.grams.buckets);
        let grams = if word == END || buckets == 0 { Vec::new() } else { grams(word, &self.grams) };
        grams.into_iter().map(move |hash| first + u64::from(hash % buckets))
    }

    /// Reads what stands before the input matrix.
    fn check_matrix(&mut self) -> Result<(), Error> {
        if self.source.take::<1>("the matrix")? != [0] {
            return Err(quantized(self.source));
        }
        let rows = i64::from_le_bytes(self.source.take("the matrix")?);
        let width = i64::from_le_bytes(self.source.take("the matrix")?);
        let buckets = if self.grams.most > 0 { self.grams.buckets } else { 0 };
        let least = i64::from(self.words) + i64::from(buckets);
        if rows < least || usize::try_from(width).ok() != Some(self.dimension) {
            let wanted = format!("{least} x {}", self.dimension);
            return Err(self.source.wrong(format!("a damaged fastText model: its matrix is {rows} x {width}, not {wanted}")).help(AGAIN));
        }
        Ok(())
    }

    /// Adds rows of the matrix to words: `parts` are rows with places, in the matrix's order.
    fn add_rows(&mut self, parts: &[(u64, usize)], found: &mut Found) -> Result<(), Error> {
        let size = self.dimension * size_of::<f32>();
        let (mut bytes, mut values) = (vec![0; size], vec![0.0; self.dimension]);
        let mut next = 0;
        for same in parts.chunk_by(|one, two| one.0 == two.0) {
            let row = same[0].0;
            self.source.skip((row - next) * size as u64, "the matrix")?;
            self.source.fill(&mut bytes, "the matrix")?;
            self.source.tick()?;
            next = row + 1;
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
            if values.iter().any(|value| !value.is_finite()) {
                return Err(self
                    .source
                    .wrong(format!("a damaged fastText model: row {row} holds numbers that are not finite"))
                    .help(AGAIN));
            }
            for &(_, at) in same {
                found.row(at).iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(())
    }
}

/// Makes a mean of a word's sum over `count` rows. N-grams that were never trained have rows of zeros: a word of those alone has no vector.
fn finish(found: &mut Found, at: usize, count: usize, listed: bool) {
    let scale = 1.0 / count.max(1) as f32;
    let row = found.row(at);
    row.iter_mut().for_each(|value| *value *= scale);
    let known = listed || row.iter().any(|&value| value != 0.0);
    found.known[at] = known;
    found.by_subwords += usize::from(known && !listed);
}

fn quantized(source: &Source<'_>) -> Error {
    source.wrong("a quantized fastText model (.ftz)").help("take the .bin or the .vec that it was made from")
}

/// Numbers of four bytes.
fn numbers<const N: usize>(source: &mut Source<'_>, what: &str) -> Result<[i32; N], Error> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = i32::from_le_bytes(source.take(what)?);
    }
    Ok(numbers)
}

/// Hashes of a word's n-grams, in fastText's order; an n-gram that stands twice is there twice.
fn grams(word: &str, cut: &Grams) -> Vec<u32> {
    let whole = format!("{}{word}{}", BORDERS.0, BORDERS.1);
    let borders: Vec<usize> = whole.char_indices().map(|(at, _)| at).chain([whole.len()]).collect();
    let characters = borders.len() - 1;
    let lengths = |from: usize| -> Range<usize> { cut.least.max(1)..cut.most.min(characters - from) + 1 };
    // A border alone is no n-gram.
    let counts = |from: usize, length: usize| length > 1 || (from > 0 && from + length < characters);
    let pairs = (0..characters).flat_map(|from| lengths(from).map(move |length| (from, length)));
    pairs
        .filter(|&(from, length)| counts(from, length))
        .map(|(from, length)| hash(&whole.as_bytes()[borders[from]..borders[from + length]]))
        .collect()
}

/// FNV-1a in 32 bits, but with every byte taken for a signed one, which is how fastText's models came to be.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(2_166_136_261, |hash: u32, &byte| (hash ^ i32::from(byte.cast_signed()).cast_unsigned()).wrapping_mul(16_777_619))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_signed() {
        assert_eq!(hash(b""), 2_166_136_261);
        assert_eq!(hash(b"a"), 0xe40c_292c);
        // Plain FNV-1a would have 0xff in place of the upper bits.
        assert_eq!(hash(b"\xff"), (2_166_136_261_u32 ^ 0xffff_ffff).wrapping_mul(16_777_619));
    }

    #[test]
    fn ngrams_count_characters() {
        let cut = |least, most| Grams { least, most, buckets: 7 };
        let of = |parts: &[&str]| parts.iter().map(|part| hash(part.as_bytes())).collect::<Vec<_>>();
        assert_eq!(grams("né", &cut(2, 3)), of(&["<n", "<né", "né", "né>", "é>"]));
        assert_eq!(grams("né", &cut(1, 1)), of(&["n", "é"]));
        assert_eq!(grams("a", &cut(4, 6)), of(&[]));
        assert_eq!(grams("abc", &cut(0, 0)), of(&[]));
    }
}
