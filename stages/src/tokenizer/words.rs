//! Tokenizers whose pieces are whole words, for models that have a vector for each word: white space divides and a punctuation mark stands
//! alone, as in BERT's basic tokenizer (Devlin et al. 2019), so that `3.5` and `well-known` are three words each and an answer that ends
//! within them still ends with a word. Accents stay, and so do runs of Chinese characters.

use std::cmp::Reverse;
use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

use super::learn::count_words;
use super::{Casing, normalizer};
use crate::error::Error;
use crate::examples::Examples;

/// The pieces that a vocabulary of words holds apart, with the ids 0 to 3: padding, unknown, start, separator.
pub const SPECIAL_WORDS: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];

/// The most frequent words of a part's questions and paragraphs: as many as a vocabulary of `size` has room for beside [`SPECIAL_WORDS`].
///
/// # Errors
/// Where `size` has no room for a word, or there is no text.
pub fn frequent_words(examples: &Examples, size: usize, lower_case: bool) -> Result<Vec<String>, Error> {
    let room = size.saturating_sub(SPECIAL_WORDS.len());
    if room == 0 {
        let message = format!("a vocabulary of {size} has no room for words beside the {} special pieces", SPECIAL_WORDS.len());
        return Err(Error::data(message).help("raise `vocab_size`"));
    }
    Ok(count_words_of(examples, lower_case)?.into_iter().take(room).map(|(word, _)| word).collect())
}

/// The words of a part's questions and paragraphs with their counts, the most frequent first, and equally frequent ones by their text.
/// Every distinct paragraph counts once.
///
/// # Errors
/// Where there is no text.
pub fn count_words_of(examples: &Examples, lower_case: bool) -> Result<Vec<(String, u64)>, Error> {
    let counts = count_words(examples, |text| split(text, lower_case))?;
    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_by_key(|&(_, count)| Reverse(count));
    Ok(words)
}

/// Of a list of words, those that a tokenizer of whole words can give, in the same order: as it writes them, each once. A word that it
/// would divide (`U.S.`) goes, and so does a special piece.
///
/// # Errors
/// What the tokenizer reports.
pub fn whole_words(words: impl IntoIterator<Item = String>, lower_case: bool) -> Result<Vec<String>, Error> {
    let mut known: HashSet<String> = SPECIAL_WORDS.iter().map(|&piece| piece.to_owned()).collect();
    let mut whole = Vec::new();
    for word in words {
        let mut splits = PreTokenizedString::from(word.as_str());
        split(&mut splits, lower_case).map_err(|e| Error::data(format!("the tokenizer failed: {e}")))?;
        if let [(only, _, _)] = splits.get_splits(OffsetReferential::Normalized, OffsetType::None)[..]
            && known.insert(only.to_owned())
        {
            whole.push(only.to_owned());
        }
    }
    Ok(whole)
}

/// Makes a tokenizer of whole words: [`SPECIAL_WORDS`], then `words` with ids from 4 on, in their order.
///
/// # Errors
/// Where a word stands there twice, is empty, or is a special piece.
pub fn of_words(words: &[String], lower_case: bool) -> Result<Tokenizer, Error> {
    let wrong = |e: String| Error::data(format!("the vocabulary of words: {e}"));
    let model = json!({"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocabulary(words)?});
    let model: WordLevel = serde_json::from_str(&model.to_string()).map_err(|e| wrong(e.to_string()))?;
    let wrong = |e: tokenizers::Error| wrong(e.to_string());
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(normalizer(casing(lower_case))))
        .map_err(wrong)?
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(BertProcessing::new(("[SEP]".to_owned(), 3), ("[CLS]".to_owned(), 2))));
    tokenizer.add_special_tokens(SPECIAL_WORDS.map(|piece| AddedToken::from(piece, true))).map_err(wrong)?;
    Ok(tokenizer)
}

/// Pieces with their ids.
fn vocabulary(words: &[String]) -> Result<Map<String, Value>, Error> {
    let mut vocabulary = Map::new();
    for piece in SPECIAL_WORDS.into_iter().chain(words.iter().map(String::as_str)) {
        let id = vocabulary.len();
        if piece.is_empty() {
            return Err(Error::data(format!("the vocabulary of words: word {} is empty", id - SPECIAL_WORDS.len() + 1)));
        }
        if vocabulary.insert(piece.to_owned(), json!(id)).is_some() {
            let message = format!("the vocabulary of words: {piece:?} stands there twice, or is a special piece");
            return Err(Error::data(message));
        }
    }
    Ok(vocabulary)
}

fn casing(lower_case: bool) -> Casing {
    Casing { do_lower_case: lower_case, tokenize_chinese_chars: false, strip_accents: Some(false) }
}

/// Divides a text into words.
fn split(text: &mut PreTokenizedString, lower_case: bool) -> tokenizers::Result<()> {
    let normalizer = normalizer(casing(lower_case));
    text.normalize(|part| normalizer.normalize(part))?;
    BertPreTokenizer.pre_tokenize(text)
}
