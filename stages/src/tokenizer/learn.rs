//! Learning a vocabulary from a data set: byte-pair merges over words (Sennrich, Haddow, Birch 2016), as Hugging Face's trainers do it, but
//! with an order for everything: the same text gives the same vocabulary. WordPiece for models that point, byte-level BPE (Radford et al.
//! 2019) for those that write: it can write every text.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

use super::{Casing, SPECIAL, normalizer, of_vocabulary};
use crate::error::Error;
use crate::examples::Examples;

/// Most characters that get a piece of their own.
const ALPHABET: usize = 1000;
/// Texts whose words are counted together.
const CHUNK: usize = 1024;
/// A merge that occurs less often is not worth a piece.
const LEAST: u64 = 2;
/// What stands before a piece that does not begin a word, in WordPiece.
const WITHIN: &str = "##";

/// Learns a lower-case WordPiece vocabulary of at most `size` pieces from the questions and paragraphs of a part.
///
/// # Errors
/// Where the text has more characters than `size` has room for, or none.
pub fn learn(examples: &Examples, size: usize) -> Result<Tokenizer, Error> {
    let casing = Casing::default();
    let normalizer = normalizer(casing);
    let words = count_words(examples, |splits| {
        splits.normalize(|part| normalizer.normalize(part))?;
        BertPreTokenizer.pre_tokenize(splits)
    })?;
    let alphabet = alphabet(&words);
    let room = room(size, SPECIAL.len(), alphabet.len())?;
    let mut pieces: Vec<String> = SPECIAL.iter().map(|&piece| piece.to_owned()).collect();
    pieces.extend(Merger::new(&words, alphabet, WITHIN).merge(room).0);
    of_vocabulary(&pieces.join("\n"), casing, "the learnt vocabulary")
}

/// Learns a byte-level vocabulary of at most `size` pieces, `special` ones included, from the questions and paragraphs of a part. `after` is
/// put behind every text that is read.
///
/// # Errors
/// Where `size` has no room for all bytes, or there is no text.
pub fn learn_bytes(examples: &Examples, size: usize, special: &[&str], after: Option<&str>) -> Result<Tokenizer, Error> {
    let bytes = ByteLevel::new(false, false, true);
    let words = count_words(examples, |splits| bytes.pre_tokenize(splits))?;
    let alphabet: BTreeSet<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
    let room = room(size, special.len(), alphabet.len())?;
    let (learnt, merges) = Merger::new(&words, alphabet, "").merge(room);
    let pieces = special.iter().map(|&piece| piece.to_owned()).chain(learnt);
    let vocabulary: BTreeMap<String, usize> = pieces.enumerate().map(|(id, piece)| (piece, id)).collect();
    let added: Vec<Value> = special.iter().enumerate().map(|(id, piece)| added_token(id, piece)).collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let whole = json!({
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": byte_level,
        "post_processor": after.map(|end| after_text(end, vocabulary.get(end).copied())),
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    });
    whole.to_string().parse().map_err(|e| Error::data(format!("the learnt vocabulary: {e}")))
}

/// A special piece, as tokenizer.json lists it.
fn added_token(id: usize, piece: &str) -> Value {
    json!({"id": id, "content": piece, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
}

/// The post-processor that puts a piece behind every text.
fn after_text(end: &str, id: Option<usize>) -> Value {
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let special = json!({"SpecialToken": {"id": end, "type_id": 0}});
    json!({
        "type": "TemplateProcessing",
        "single": [text("A"), special],
        "pair": [text("A"), special, text("B"), special],
        "special_tokens": {end: {"id": end, "ids": [id], "tokens": [end]}},
    })
}

/// Pieces that can be learnt beside the special ones and the characters.
fn room(size: usize, special: usize, alphabet: usize) -> Result<usize, Error> {
    let room = size.saturating_sub(special + alphabet);
    if room == 0 {
        let message = format!("a vocabulary of {size} has no room for the {alphabet} characters of the text");
        return Err(Error::data(message).help("raise `vocab_size`"));
    }
    Ok(room)
}

/// Counts the words of a part's questions and paragraphs, as `split` divides a text.
pub(super) fn count_words(
    examples: &Examples,
    split: impl Fn(&mut PreTokenizedString) -> tokenizers::Result<()> + Sync,
) -> Result<BTreeMap<String, u64>, Error> {
    let contexts = (0..examples.contexts()).map(|at| examples.context_text(at));
    let texts: Vec<&str> = contexts.chain((0..examples.len()).map(|row| examples.question(row))).collect();
    let counts = texts.par_chunks(CHUNK).map(|some| count_some(some, &split)).collect::<tokenizers::Result<Vec<_>>>();
    let mut words = BTreeMap::new();
    for (word, count) in counts.map_err(|e| Error::data(format!("the tokenizer failed: {e}")))?.into_iter().flatten() {
        *words.entry(word).or_default() += count;
    }
    if words.is_empty() { Err(Error::data("there is no text to learn a vocabulary from")) } else { Ok(words) }
}

/// Counts the words of some texts.
fn count_some(
    texts: &[&str],
    split: impl Fn(&mut PreTokenizedString) -> tokenizers::Result<()>,
) -> tokenizers::Result<HashMap<String, u64>> {
    let mut words: HashMap<String, u64> = HashMap::new();
    for &text in texts {
        let mut splits = PreTokenizedString::from(text);
        split(&mut splits)?;
        for (word, _, _) in splits.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            if let Some(count) = words.get_mut(word) {
                *count += 1;
            } else {
                words.insert(word.to_owned(), 1);
            }
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
    words.keys().flat_map(|word| symbols(word, WITHIN)).filter(|piece| piece.chars().last().is_some_and(|c| kept.contains(&c))).collect()
}

/// A word in pieces of one character; `within` stands before those that do not begin it.
fn symbols(word: &str, within: &str) -> impl Iterator<Item = String> {
    word.chars().enumerate().map(move |(at, c)| if at == 0 { c.to_string() } else { format!("{within}{c}") })
}

type Pair = (usize, usize);

/// Words under merging. Pieces are numbered in the order in which they came.
struct Merger {
    pieces: Vec<String>,
    /// What stands before pieces within a word.
    within: &'static str,
    /// What was joined, in order.
    merges: Vec<[String; 2]>,
    words: Vec<(Vec<usize>, u64)>,
    counts: HashMap<Pair, u64>,
    places: HashMap<Pair, BTreeSet<usize>>,
    heap: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Merger {
    /// Words that hold a character outside of the alphabet do not take part.
    fn new(words: &BTreeMap<String, u64>, alphabet: BTreeSet<String>, within: &'static str) -> Self {
        let pieces: Vec<String> = alphabet.into_iter().collect();
        let number: HashMap<&str, usize> = pieces.iter().enumerate().map(|(at, piece)| (piece.as_str(), at)).collect();
        let numbered = |word: &str| symbols(word, within).map(|piece| number.get(piece.as_str()).copied()).collect::<Option<Vec<usize>>>();
        let words = words.iter().filter_map(|(word, &count)| numbered(word).map(|pieces| (pieces, count))).collect();
        let mut merger =
            Self { pieces, within, merges: Vec::new(), words, counts: HashMap::new(), places: HashMap::new(), heap: BinaryHeap::new() };
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

    /// Merges the most frequent pair `most` times; of equally frequent ones the one that could be merged first. Gives the pieces and what
    /// was joined.
    fn merge(mut self, most: usize) -> (Vec<String>, Vec<[String; 2]>) {
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
        (self.pieces, self.merges)
    }

    /// Makes a piece of a pair, in every word that holds it.
    fn join(&mut self, (left, right): Pair) {
        let joined = self.pieces.len();
        let tail = self.pieces[right].strip_prefix(self.within).unwrap_or(&self.pieces[right]);
        let whole = format!("{}{tail}", self.pieces[left]);
        self.merges.push([self.pieces[left].clone(), self.pieces[right].clone()]);
        self.pieces.push(whole);
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
