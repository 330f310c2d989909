//! Learning a WordPiece vocabulary from a data set: byte-pair merges over words (Sennrich, Haddow, Birch 2016), as Hugging Face's
//! WordPiece trainer does it, but with an order for everything: the same text gives the same vocabulary.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

use super::{Casing, SPECIAL, normalizer, of_vocabulary};
use crate::error::Error;
use crate::examples::Examples;

/// Most characters that get a piece of their own.
const ALPHABET: usize = 1000;
/// A merge that occurs less often is not worth a piece.
const LEAST: u64 = 2;

/// Learns a lower-case WordPiece vocabulary of at most `size` pieces from the questions and paragraphs of a part.
///
/// # Errors
/// Where the text has more characters than `size` has room for, or none.
pub fn learn(examples: &Examples, size: usize) -> Result<Tokenizer, Error> {
    let casing = Casing::default();
    let texts = (0..examples.contexts()).map(|at| examples.context_text(at)).chain((0..examples.len()).map(|row| examples.question(row)));
    let words = count_words(texts, casing)?;
    if words.is_empty() {
        return Err(Error::data("there is no text to learn a vocabulary from"));
    }
    let alphabet = alphabet(&words);
    let room = size.saturating_sub(SPECIAL.len() + alphabet.len());
    if room == 0 {
        let message = format!("a vocabulary of {size} has no room for the {} characters of the text", alphabet.len());
        return Err(Error::data(message).help("raise `vocab_size`"));
    }
    let mut pieces: Vec<String> = SPECIAL.iter().map(|&piece| piece.to_owned()).collect();
    pieces.extend(Merger::new(&words, alphabet).merge(room));
    of_vocabulary(&pieces.join("\n"), casing, "the learnt vocabulary")
}

/// Counts the words of texts as a BERT sees them.
fn count_words<'a>(texts: impl Iterator<Item = &'a str>, casing: Casing) -> Result<BTreeMap<String, u64>, Error> {
    let wrong = |e: tokenizers::Error| Error::data(format!("the tokenizer failed: {e}"));
    let normalizer = normalizer(casing);
    let mut words = BTreeMap::new();
    for text in texts {
        let mut splits = PreTokenizedString::from(text);
        splits.normalize(|part| normalizer.normalize(part)).map_err(wrong)?;
        BertPreTokenizer.pre_tokenize(&mut splits).map_err(wrong)?;
        for (word, _, _) in splits.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            *words.entry(word.to_owned()).or_default() += 1;
        }
    }
    Ok(words)
}

/// The pieces of one character: `x` at the front of a word, `##x` within; of the most frequent characters, in order.
fn alphabet(words: &BTreeMap<String, u64>) -> BTreeSet<String> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in words {
        word.chars().for_each(|c| *counts.entry(c).or_default() += count);
    }
    let mut order: Vec<(char, u64)> = counts.into_iter().collect();
    order.sort_by_key(|&(c, count)| (Reverse(count), c));
    let kept: BTreeSet<char> = order.into_iter().take(ALPHABET).map(|(c, _)| c).collect();
    words.keys().flat_map(|word| symbols(word)).filter(|piece| piece.chars().last().is_some_and(|c| kept.contains(&c))).collect()
}

/// A word in pieces of one character.
fn symbols(word: &str) -> impl Iterator<Item = String> {
    word.chars().enumerate().map(|(at, c)| if at == 0 { c.to_string() } else { format!("##{c}") })
}

type Pair = (usize, usize);

/// Words under merging. Pieces are numbered in the order in which they came.
struct Merger {
    pieces: Vec<String>,
    words: Vec<(Vec<usize>, u64)>,
    counts: HashMap<Pair, u64>,
    places: HashMap<Pair, BTreeSet<usize>>,
    heap: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Merger {
    /// Words that hold a character outside of the alphabet do not take part.
    fn new(words: &BTreeMap<String, u64>, alphabet: BTreeSet<String>) -> Self {
        let pieces: Vec<String> = alphabet.into_iter().collect();
        let number: HashMap<&str, usize> = pieces.iter().enumerate().map(|(at, piece)| (piece.as_str(), at)).collect();
        let numbered = |word: &str| symbols(word).map(|piece| number.get(piece.as_str()).copied()).collect::<Option<Vec<usize>>>();
        let words = words.iter().filter_map(|(word, &count)| numbered(word).map(|pieces| (pieces, count))).collect();
        let mut merger = Self { pieces, words, counts: HashMap::new(), places: HashMap::new(), heap: BinaryHeap::new() };
        for word in 0..merger.words.len() {
            merger.add(word);
        }
        merger.heap = merger.counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        merger
    }

    /// Counts a word's pairs.
    fn add(&mut self, word: usize) {
        let (pieces, count) = &self.words[word];
        for pair in pieces.windows(2).map(|pair| (pair[0], pair[1])) {
            *self.counts.entry(pair).or_default() += count;
            self.places.entry(pair).or_default().insert(word);
        }
    }

    /// Merges the most frequent pair `most` times; of equally frequent ones the one that could be merged first.
    fn merge(mut self, most: usize) -> Vec<String> {
        let mut left = most;
        while left > 0 {
            let Some((count, Reverse(pair))) = self.heap.pop() else { break };
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now != count {
                // An old entry: the pair has become rarer since.
                if now > 0 {
                    self.heap.push((now, Reverse(pair)));
                }
                continue;
            }
            if count < LEAST {
                break;
            }
            self.join(pair);
            left -= 1;
        }
        // Two ways to one piece are one piece.
        let mut seen = BTreeSet::new();
        self.pieces.retain(|piece| seen.insert(piece.clone()));
        self.pieces
    }

    /// Makes a piece of a pair, in every word that holds it.
    fn join(&mut self, (left, right): Pair) {
        let joined = self.pieces.len();
        let tail = self.pieces[right].strip_prefix("##").unwrap_or(&self.pieces[right]);
        self.pieces.push(format!("{}{tail}", self.pieces[left]));
        let mut changed = BTreeSet::new();
        for word in self.places.remove(&(left, right)).unwrap_or_default() {
            let (pieces, count) = &mut self.words[word];
            for pair in pieces.windows(2).map(|pair| (pair[0], pair[1])) {
                if let Some(total) = self.counts.get_mut(&pair) {
                    *total = total.saturating_sub(*count);
                }
            }
            replace(pieces, (left, right), joined);
            changed.extend(pieces.windows(2).map(|pair| (pair[0], pair[1])).filter(|pair| pair.0 == joined || pair.1 == joined));
            self.add(word);
        }
        self.counts.remove(&(left, right));
        self.heap.extend(changed.into_iter().filter_map(|pair| self.counts.get(&pair).map(|&count| (count, Reverse(pair)))));
    }
}

fn replace(pieces: &mut Vec<usize>, (left, right): Pair, joined: usize) {
    let mut kept = Vec::with_capacity(pieces.len());
    let mut at = 0;
    while at < pieces.len() {
        if pieces[at] == left && pieces.get(at + 1) == Some(&right) {
            kept.push(joined);
            at += 2;
        } else {
            kept.push(pieces[at]);
            at += 1;
        }
    }
    *pieces = kept;
}
