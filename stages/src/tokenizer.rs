//! Tokenizers: `tokenizer.json`, or `vocab.txt` of a BERT, or a vocabulary learnt from a data set: WordPiece, or whole
//! words.

mod learn;
mod reader;
mod sentencepiece;
mod text;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use qapipe_cache::Digest;
use serde::Deserialize;
use tokenizers::decoders::wordpiece::WordPiece as Decoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::Error;

pub use learn::{learn, learn_bytes};
pub use reader::{Layout, Reader, Tokens};
pub use text::TextTokenizer;
pub use words::{SPECIAL_WORDS, count_words_of, frequent_words, of_words, whole_words};

/// The tokenizer, whole.
pub const TOKENIZER: &str = "tokenizer.json";
/// The tokenizer's settings.
pub const SETTINGS: &str = "tokenizer_config.json";
/// A WordPiece vocabulary, one piece a line.
pub const VOCABULARY: &str = "vocab.txt";
/// A SentencePiece model.
pub const PIECES: &str = "spiece.model";
/// The files of a tokenizer.
pub const TOKENIZER_FILES: &[&str] = &[TOKENIZER, SETTINGS, VOCABULARY, PIECES];

/// The pieces that a BERT vocabulary holds apart: padding, unknown, start, separator, mask.
pub const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// How a BERT normalizes text: the keys of `tokenizer_config.json` that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Casing {
    /// Whether text becomes lower case.
    pub do_lower_case: bool,
    /// Whether Chinese characters stand alone.
    pub tokenize_chinese_chars: bool,
    /// Whether accents go; as `do_lower_case` where it is not said.
    pub strip_accents: Option<bool>,
}

impl std::default::Default for Casing {
    fn default() -> Self {
        Self { do_lower_case: true, tokenize_chinese_chars: true, strip_accents: None }
    }
}

impl Casing {
    /// Reads it from a model's folder; BERT's defaults where there is no `tokenizer_config.json`.
    ///
    /// # Errors
    /// Where the file is broken.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(SETTINGS);
        if path.exists() { crate::examples::read_json(&path) } else { Ok(Self::default()) }
    }
}

/// Loads the tokenizer of a model's folder: `tokenizer.json` where there is one, else `vocab.txt` of a BERT or `spiece.model` of a T5.
/// Its truncation and padding are turned off.
///
/// # Errors
/// Where all are missing, or the one that counts is broken.
pub fn load(folder: &Path) -> Result<Tokenizer, Error> {
    let (whole, vocabulary) = (folder.join(TOKENIZER), folder.join(VOCABULARY));
    if whole.is_file() {
        return load_file(&whole, Casing::default());
    }
    if vocabulary.is_file() {
        return load_file(&vocabulary, Casing::of(folder)?);
    }
    let pieces = folder.join(PIECES);
    if pieces.is_file() {
        return sentencepiece::of_bytes(&std::fs::read(&pieces).map_err(Error::io(&pieces))?, &pieces.display().to_string());
    }
    Err(Error::data(format!("{}: holds no tokenizer.json, no vocab.txt and no spiece.model", folder.display())))
}

/// Digest of all that decides a text's ids: the vocabulary, how text is normalized, where it is split.
///
/// # Errors
/// Where a part of the tokenizer cannot be written down.
pub fn digest(tokenizer: &Tokenizer) -> Result<String, Error> {
    let vocabulary: BTreeMap<String, u32> = tokenizer.get_vocab(true).into_iter().collect();
    let parts = (vocabulary, tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer());
    let text = serde_json::to_string(&parts).map_err(|e| Error::data(format!("the tokenizer cannot be written down: {e}")))?;
    Ok(Digest::of_bytes(text.as_bytes()).to_string())
}

/// Loads a tokenizer from a file: JSON as a whole, anything else as a vocabulary of BERT with this casing.
///
/// # Errors
/// Where the file is broken.
pub fn load_file(file: &Path, casing: Casing) -> Result<Tokenizer, Error> {
    let text = std::fs::read_to_string(file).map_err(Error::io(file))?;
    let name = file.display().to_string();
    if !text.trim_start().starts_with('{') {
        return of_vocabulary(&text, casing, &name);
    }
    let wrong = |what: String| Error::data(format!("{name}: not a tokenizer: {what}"));
    // The library takes for granted that some parts are of the right shape.
    let parsed = std::panic::catch_unwind(|| text.parse::<Tokenizer>())
        .map_err(|_| wrong("a part of it has another shape than wanted".to_owned()))?;
    let mut tokenizer = parsed.map_err(|error| wrong(error.to_string()))?;
    without_limits(&mut tokenizer, &name)?;
    Ok(tokenizer)
}

/// Turns truncation and padding off: windows are cut by the stage's own parameters.
pub(crate) fn without_limits(tokenizer: &mut Tokenizer, name: &str) -> Result<(), Error> {
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|e| Error::data(format!("{name}: {e}")))?;
    Ok(())
}

/// The tokenizer that `BertTokenizerFast` makes of a vocabulary, one piece a line. `name` is what it is called in messages.
///
/// # Errors
/// Where a piece stands there twice, or a special one is missing.
pub fn of_vocabulary(text: &str, casing: Casing, name: &str) -> Result<Tokenizer, Error> {
    let mut vocabulary = HashMap::new();
    for (line, piece) in text.lines().enumerate() {
        let piece = piece.trim_end();
        let id = u32::try_from(line).map_err(|_| Error::data(format!("{name}: too long")))?;
        if vocabulary.insert(piece.to_owned(), id).is_some() {
            return Err(Error::data(format!("{name}:{}: {piece:?} stands there twice", line + 1)));
        }
    }
    let missing = |piece: &str| {
        Error::data(format!("{name}: holds no {piece}"))
            .help("a WordPiece vocabulary has one piece a line, [UNK], [CLS] and [SEP] among them")
    };
    let id = |piece: &str| vocabulary.get(piece).copied().ok_or_else(|| missing(piece));
    let (separator, start) = (id("[SEP]")?, id("[CLS]")?);
    id("[UNK]")?;
    let special: Vec<AddedToken> =
        SPECIAL.iter().filter(|piece| vocabulary.contains_key(**piece)).map(|&piece| AddedToken::from(piece, true)).collect();
    let wrong = |e: tokenizers::Error| Error::data(format!("{name}: {e}"));
    let model = serde_json::json!({
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary,
    });
    let pieces: WordPiece = serde_json::from_str(&model.to_string()).map_err(|e| Error::data(format!("{name}: {e}")))?;
    let mut tokenizer = Tokenizer::new(pieces);
    tokenizer
        .with_normalizer(Some(normalizer(casing)))
        .map_err(wrong)?
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(BertProcessing::new(("[SEP]".to_owned(), separator), ("[CLS]".to_owned(), start))))
        .with_decoder(Some(Decoder::default()));
    tokenizer.add_special_tokens(special).map_err(wrong)?;
    Ok(tokenizer)
}

fn normalizer(casing: Casing) -> BertNormalizer {
    BertNormalizer::new(true, casing.tokenize_chinese_chars, casing.strip_accents, casing.do_lower_case)
}

/// Checks that every id that a tokenizer can give has a row in a model's embedding of `rows` rows. A smaller tokenizer is fine:
/// models pad their embedding.
///
/// # Errors
/// With both sizes, where the tokenizer is larger.
pub fn check_size(tokenizer: &Tokenizer, rows: usize, name: &str) -> Result<(), Error> {
    let Some((piece, id)) = largest(tokenizer) else {
        return Err(Error::data(format!("{name}: the tokenizer's vocabulary is empty")));
    };
    if (id as usize) < rows {
        return Ok(());
    }
    let message = format!(
        "{name}: the vocabulary does not fit the model: the tokenizer gives ids up to {id} ({piece:?}), the embedding has {rows} rows"
    );
    Err(Error::data(message).help("take the tokenizer that belongs to these weights"))
}

/// The piece with the largest id.
fn largest(tokenizer: &Tokenizer) -> Option<(String, u32)> {
    tokenizer.get_vocab(true).into_iter().max_by_key(|&(_, id)| id)
}
