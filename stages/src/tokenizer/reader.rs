//! A model's tokenizer as windows use it: ids and offsets of one text, and the special tokens around two.

use std::path::Path;

use tokenizers::Tokenizer;

use super::{largest, load};
use crate::error::Error;
use crate::features::{Info, InfoForm};

/// The special tokens around a question and a paragraph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Before the question: `[CLS]`.
    pub before: Vec<u32>,
    /// Between question and paragraph: `[SEP]`.
    pub between: Vec<u32>,
    /// After the paragraph: `[SEP]`.
    pub after: Vec<u32>,
    /// Whether the paragraph has a segment of its own.
    pub segments: bool,
}

impl Layout {
    /// Number of special tokens in a window.
    pub fn special(&self) -> usize {
        self.before.len() + self.between.len() + self.after.len()
    }
}

/// A text in tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Ids.
    pub ids: Vec<u32>,
    /// First code point of each token.
    pub starts: Vec<u32>,
    /// One past the last code point of each token.
    pub ends: Vec<u32>,
}

/// A tokenizer with the layout that its post-processor makes.
pub struct Reader {
    tokenizer: Tokenizer,
    layout: Layout,
}

impl Reader {
    /// Loads the tokenizer of a model's folder.
    ///
    /// # Errors
    /// Where it is missing or broken, or puts nothing around two texts.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Self::new(load(folder)?)
    }

    /// Takes a tokenizer without truncation and padding.
    ///
    /// # Errors
    /// Where it puts nothing around two texts.
    pub fn new(tokenizer: Tokenizer) -> Result<Self, Error> {
        let layout = layout(&tokenizer)?;
        Ok(Self { tokenizer, layout })
    }

    /// The special tokens around question and paragraph.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The tokenizer itself.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Ids of a text, without special tokens around it.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(self.tokenizer.encode_fast(text, false).map_err(wrong)?.get_ids().to_vec())
    }

    /// A text in tokens, without special tokens around it.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn tokens(&self, text: &str) -> Result<Tokens, Error> {
        encoded(&self.tokenizer, text)
    }

    /// What the features' `info.json` says of this tokenizer.
    ///
    /// # Errors
    /// Where the vocabulary is empty.
    pub fn info(&self, dataset: String, dataset_version: String) -> Result<Info, Error> {
        let empty = || Error::data("the tokenizer's vocabulary is empty");
        let (_, id) = largest(&self.tokenizer).ok_or_else(empty)?;
        let pad_id = ["[PAD]", "<pad>"].iter().find_map(|piece| self.tokenizer.token_to_id(piece));
        let first = |ids: &[u32]| ids.first().copied();
        let cls_id = first(&self.layout.before).ok_or_else(empty)?;
        let sep_id = first(&self.layout.between).or_else(|| first(&self.layout.after)).unwrap_or(cls_id);
        let tokenizer = super::digest(&self.tokenizer)?;
        let form = InfoForm::Spans { pad_id, cls_id, sep_id, segments: self.layout.segments };
        Ok(Info { dataset, dataset_version, vocab_size: id + 1, tokenizer, form })
    }
}

/// A text in tokens, without special tokens around it.
pub(super) fn encoded(tokenizer: &Tokenizer, text: &str) -> Result<Tokens, Error> {
    let encoding = tokenizer.encode_char_offsets(text, false).map_err(wrong)?;
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let (starts, ends) = encoding.get_offsets().iter().map(|&(start, end)| (number(start), number(end))).unzip();
    Ok(Tokens { ids: encoding.get_ids().to_vec(), starts, ends })
}

fn wrong(error: tokenizers::Error) -> Error {
    Error::data(format!("the tokenizer failed: {error}"))
}

/// Looks at what the post-processor makes of a pair.
fn layout(tokenizer: &Tokenizer) -> Result<Layout, Error> {
    let pair = tokenizer.encode(("a", "b"), true).map_err(wrong)?;
    let sequences = pair.get_sequence_ids();
    let range = |of: usize| {
        let mut at = (0..sequences.len()).filter(|&at| sequences[at] == Some(of));
        at.next().map_or(0..0, |first| first..at.next_back().unwrap_or(first) + 1)
    };
    let (question, context) = (range(0), range(1));
    let (ids, segments) = (pair.get_ids(), pair.get_type_ids());
    if question.start == 0 || question.is_empty() || context.is_empty() || context.start < question.end {
        let message = "the tokenizer does not put a special token before a question and a paragraph";
        return Err(Error::data(message).help("take the tokenizer of an encoder of the BERT type"));
    }
    Ok(Layout {
        before: ids[..question.start].to_vec(),
        between: ids[question.end..context.start].to_vec(),
        after: ids[context.end..].to_vec(),
        segments: segments[question.start] != segments[context.start],
    })
}
