//! A model's tokenizer as texts use it: pieces of a text one after the other, and back.

use std::path::Path;

use tokenizers::Tokenizer;

use super::reader::{Tokens, encoded};
use super::{largest, load};
use crate::error::Error;
use crate::form::{Form, end_id};

/// Tokens that end a text, where a model's configuration does not say.
const ENDS: [&str; 3] = ["</s>", "<|endoftext|>", "[SEP]"];

/// A tokenizer that makes texts of pieces.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    form: Form,
    before: Vec<u32>,
    after: Vec<u32>,
    end: u32,
}

impl TextTokenizer {
    /// Loads the tokenizer of a model's folder.
    ///
    /// # Errors
    /// Where it is missing or broken, or no token ends a text.
    pub fn open(folder: &Path, form: Form) -> Result<Self, Error> {
        let tokenizer = load(folder)?;
        let end = end_id(folder)?.or_else(|| ENDS.iter().find_map(|piece| tokenizer.token_to_id(piece)));
        let none = || Error::data("no token ends a text: config.json has no eos_token_id").help("add eos_token_id to config.json");
        Self::new(tokenizer, form, end.ok_or_else(none)?)
    }

    /// Takes a tokenizer without truncation and padding; `end` ends a text.
    ///
    /// # Errors
    /// Where it cannot read, or has no such token.
    pub fn new(tokenizer: Tokenizer, form: Form, end: u32) -> Result<Self, Error> {
        let none = || Error::data(format!("the tokenizer does not fit the model: it has no token {end}, which ends a text"));
        tokenizer.id_to_token(end).ok_or_else(none)?;
        let (before, after) = if form == Form::Causal { (Vec::new(), Vec::new()) } else { around(&tokenizer)? };
        Ok(Self { tokenizer, form, before, after, end })
    }

    /// What the model does with the texts.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Special tokens before a whole text.
    #[must_use]
    pub fn before(&self) -> &[u32] {
        &self.before
    }

    /// Special tokens after a whole text that is only read.
    #[must_use]
    pub fn after(&self) -> &[u32] {
        &self.after
    }

    /// The token that ends an answer.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Rows that an embedding needs for it.
    ///
    /// # Errors
    /// Where the vocabulary is empty.
    pub fn size(&self) -> Result<u32, Error> {
        largest(&self.tokenizer).map(|(_, id)| id + 1).ok_or_else(|| Error::data("the tokenizer's vocabulary is empty"))
    }

    /// Its digest, as [`super::digest`] makes it.
    ///
    /// # Errors
    /// As there.
    pub fn digest(&self) -> Result<String, Error> {
        super::digest(&self.tokenizer)
    }

    /// A piece of a text in tokens, without special tokens around it.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn tokens(&self, text: &str) -> Result<Tokens, Error> {
        encoded(&self.tokenizer, text)
    }

    /// Ids of a piece of a text, without special tokens around it.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(self.tokens(text)?.ids)
    }

    /// What a model is to write for an answer: its tokens, at most `most` of them, and the end. `space`: whether a space comes first.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn target(&self, answer: &str, space: bool, most: usize) -> Result<Vec<u32>, Error> {
        let text = if space && !answer.is_empty() { format!(" {answer}") } else { answer.to_owned() };
        let mut ids = self.ids(&text)?;
        ids.truncate(most.saturating_sub(1));
        ids.push(self.end);
        Ok(ids)
    }

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn text(&self, ids: &[u32]) -> Result<String, Error> {
        self.tokenizer.decode(ids, true).map_err(|e| Error::data(format!("the tokenizer failed: {e}")))
    }

    /// Tokens that end an answer: the end token, and all that hold one of these strings.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn ends(&self, stops: &[String]) -> Result<Vec<u32>, Error> {
        let mut ends = vec![self.end];
        if !stops.is_empty() {
            for id in 0..self.size()? {
                let text = self.text(&[id])?;
                if id != self.end && stops.iter().any(|stop| text.contains(stop.as_str())) {
                    ends.push(id);
                }
            }
        }
        Ok(ends)
    }
}

/// The special tokens that a tokenizer puts around one text.
fn around(tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let text = tokenizer.encode("a", true).map_err(|e| Error::data(format!("the tokenizer failed: {e}")))?;
    let (ids, special) = (text.get_ids(), text.get_special_tokens_mask());
    let before = special.iter().take_while(|&&one| one == 1).count();
    let after = special[before..].iter().rev().take_while(|&&one| one == 1).count();
    Ok((ids[..before].to_vec(), ids[ids.len() - after..].to_vec()))
}
