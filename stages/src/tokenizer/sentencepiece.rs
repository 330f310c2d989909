//! SentencePiece models, as T5's `spiece.model`: Unigram vocabularies in a protocol buffer.

use tokenizers::decoders::metaspace::Metaspace as Decoder;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::Error;

/// Sentinels that T5 adds behind the vocabulary, the last one first.
const SENTINELS: u32 = 100;

/// What of the model is read.
#[derive(Debug, Default)]
struct Model {
    pieces: Vec<(String, f64)>,
    normalizer: Vec<u8>,
    /// 1 is Unigram.
    algorithm: u64,
    unknown: Option<usize>,
}

/// The tokenizer that `T5TokenizerFast` makes of a SentencePiece model's bytes. `name` is what it is called in messages.
///
/// # Errors
/// Where the bytes are no such model, or of another algorithm than Unigram.
pub(super) fn of_bytes(bytes: &[u8], name: &str) -> Result<Tokenizer, Error> {
    let damaged = || Error::data(format!("{name}: not a SentencePiece model, or a damaged one"));
    let model = Model::read(bytes).filter(|model| !model.pieces.is_empty()).ok_or_else(damaged)?;
    if model.algorithm != 1 {
        return Err(Error::data(format!("{name}: only Unigram models are supported")).help("bring tokenizer.json instead"));
    }
    let wrong = |e: tokenizers::Error| Error::data(format!("{name}: {e}"));
    let mut pieces = model.pieces;
    pieces.extend((0..SENTINELS).rev().map(|number| (format!("<extra_id_{number}>"), 0.0)));
    let special: Vec<String> = pieces.iter().filter(|(piece, _)| is_special(piece)).map(|(piece, _)| piece.clone()).collect();
    let end = pieces.iter().position(|(piece, _)| piece == "</s>").and_then(|at| u32::try_from(at).ok());
    let end = end.ok_or_else(|| Error::data(format!("{name}: holds no </s>")))?;
    let mut tokenizer = Tokenizer::new(Unigram::from(pieces, model.unknown, false).map_err(|e| wrong(e.to_string().into()))?);
    if !model.normalizer.is_empty() {
        let normalizer = Precompiled::from(&model.normalizer).map_err(|e| wrong(e.to_string().into()))?;
        tokenizer.with_normalizer(Some(normalizer)).map_err(wrong)?;
    }
    let after = TemplateProcessing::builder()
        .try_single("$A </s>")
        .and_then(|builder| builder.try_pair("$A </s> $B </s>"))
        .map_err(|e| wrong(e.into()))?
        .special_tokens(vec![("</s>", end)])
        .build()
        .map_err(|e| wrong(e.to_string().into()))?;
    let space = Metaspace::new('▁', PrependScheme::Always, true);
    tokenizer
        .with_pre_tokenizer(Some(Sequence::new(vec![WhitespaceSplit.into(), space.into()])))
        .with_post_processor(Some(after))
        .with_decoder(Some(Decoder::new('▁', PrependScheme::Always, true)));
    tokenizer.add_special_tokens(special.into_iter().map(|piece| AddedToken::from(piece, true))).map_err(wrong)?;
    Ok(tokenizer)
}

fn is_special(piece: &str) -> bool {
    matches!(piece, "<pad>" | "</s>" | "<unk>" | "<s>") || piece.starts_with("<extra_id_")
}

impl Model {
    /// Reads a `ModelProto`; nothing where the bytes are none. Fields: 1 the pieces, 2 the trainer's settings, 3 the normalizer's.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut model = Self { algorithm: 1, ..Self::default() };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) => model.add(piece)?,
                (2, Value::Bytes(trainer)) => model.algorithm = last(trainer, 3)?.map_or(1, |value| value.number()),
                (3, Value::Bytes(normalizer)) => model.normalizer = last(normalizer, 2)?.map_or(&[][..], |value| value.bytes()).to_vec(),
                _ => {}
            }
        }
        Some(model)
    }

    /// Adds a piece: its text (1), its logarithmic probability (2), its sort (3; 2 is the unknown piece).
    fn add(&mut self, bytes: &[u8]) -> Option<()> {
        let (mut piece, mut score, mut sort) = (String::new(), 0.0, 1);
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(text)) => piece = std::str::from_utf8(text).ok()?.to_owned(),
                (2, Value::Fixed(bits)) => score = f64::from(f32::from_bits(bits)),
                (3, Value::Number(number)) => sort = number,
                _ => {}
            }
        }
        if sort == 2 {
            self.unknown = Some(self.pieces.len());
        }
        self.pieces.push((piece, score));
        Some(())
    }
}

/// A field of a message, the last one counts. None outside where the message is damaged.
fn last(bytes: &[u8], wanted: u64) -> Option<Option<Value<'_>>> {
    let mut found = None;
    for field in Fields(bytes) {
        let (number, value) = field?;
        if number == wanted {
            found = Some(value);
        }
    }
    Some(found)
}

/// The fields of a message on the wire; a damaged one ends with nothing.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Fixed(u32),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Value<'a> {
    fn number(&self) -> u64 {
        if let Self::Number(number) = self { *number } else { 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }
}

impl<'a> Fields<'a> {
    /// Seven bits a byte, the lowest first.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}
