//! Texts that hold a question with its paragraph, and the answers that are to follow.
//!
//! A paragraph that does not fit is cut into overlapping windows, and every window has the question. A window that does not hold all of the
//! answer has none.

use rayon::prelude::*;

use crate::error::Error;
use crate::examples::Examples;
use crate::features::{Info, InfoForm};
use crate::python;
use crate::template::{Piece, Slot, Template};
use crate::text_features::Pairs;
use crate::tokenizer::{TextTokenizer, Tokens};
use crate::windows::{CHUNK, Progress, Shape, contexts, first_answer, ranges};

/// How texts are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wording {
    /// Words around question and paragraph.
    pub template: Template,
    /// What is written where there is no answer.
    pub no_answer: String,
    /// Most tokens of an answer, the end token among them.
    pub max_target: usize,
}

/// Makes the texts of questions.
pub struct TextMaker<'a> {
    tokenizer: &'a TextTokenizer,
    wording: &'a Wording,
    shape: Shape,
    /// What is written where there is no answer, in tokens.
    no_answer: Vec<u32>,
}

/// A source and its target, in tokens.
type Pair = (Vec<u32>, Vec<u32>);

/// A question's text but for the paragraph: tokens before and after it.
struct Frame {
    before: Vec<u32>,
    after: Vec<u32>,
}

impl<'a> TextMaker<'a> {
    /// Texts of this wording, of at most `shape.max_length` tokens.
    ///
    /// # Errors
    /// What the tokenizer reports.
    pub fn new(tokenizer: &'a TextTokenizer, wording: &'a Wording, shape: Shape) -> Result<Self, Error> {
        let maker = Self { tokenizer, wording, shape, no_answer: Vec::new() };
        Ok(Self { no_answer: maker.target(&wording.no_answer)?, ..maker })
    }

    /// What is written where there is no answer, with the end token.
    #[must_use]
    pub fn no_answer(&self) -> &[u32] {
        &self.no_answer
    }

    /// What the features' `info.json` says of these texts.
    ///
    /// # Errors
    /// Where the vocabulary is empty.
    pub fn info(&self, dataset: String, dataset_version: String) -> Result<Info, Error> {
        let form = InfoForm::Texts {
            form: self.tokenizer.form(),
            end_id: self.tokenizer.end(),
            no_answer: self.no_answer.clone(),
            no_answer_text: self.wording.no_answer.clone(),
        };
        Ok(Info { dataset, dataset_version, vocab_size: self.tokenizer.size()?, tokenizer: self.tokenizer.digest()?, form })
    }

    /// The texts of all questions of a part, in order.
    ///
    /// # Errors
    /// With the id of a question that is too long, what the tokenizer reports, and what `progress` returns.
    pub fn make(&self, examples: &Examples, progress: Progress<'_>) -> Result<Pairs, Error> {
        let total = examples.contexts() + examples.len();
        let space = self.spaced(Slot::Context);
        let paragraph = |text: &str| self.tokenizer.tokens(&spaced(text, space));
        let contexts = if self.wording.template.has(Slot::Context) {
            contexts(&paragraph, examples, &|done| progress(done, total))?
        } else {
            Vec::new()
        };
        let mut pairs = Pairs::default();
        let rows: Vec<usize> = (0..examples.len()).collect();
        for chunk in rows.chunks(CHUNK) {
            progress(examples.contexts() + chunk[0], total)?;
            let made = chunk.par_iter().map(|&row| self.texts(examples, row, &contexts, space)).collect::<Result<Vec<_>, _>>()?;
            for (&row, texts) in chunk.iter().zip(made) {
                texts.iter().for_each(|(source, target)| pairs.push(source, target, row));
            }
        }
        progress(total, total)?;
        Ok(pairs)
    }

    /// Source and target of each window of a question.
    fn texts(&self, examples: &Examples, row: usize, contexts: &[Tokens], space: bool) -> Result<Vec<Pair>, Error> {
        let frame = self.frame(examples, row)?;
        let answer = first_answer(examples, row);
        let given = examples.golds(row).next().map(|gold| self.target(gold)).transpose()?;
        let Some(context) = contexts.get(examples.context_index(row) as usize) else {
            self.windows(examples.id(row), &frame, 0)?;
            return Ok(vec![(frame.around(&[]), given.unwrap_or_else(|| self.no_answer.clone()))]);
        };
        let shift = u32::from(space);
        let holds = |first: usize, end: usize| {
            let (starts, ends) = (&context.starts[first..end], &context.ends[first..end]);
            let (from, to) = answer.unwrap_or((u32::MAX, 0));
            starts.first().is_some_and(|&at| at.saturating_sub(shift) <= from) && ends.last().is_some_and(|&at| at >= to + shift)
        };
        let window = |(first, end): (usize, usize)| {
            let target = given.as_ref().filter(|_| holds(first, end)).unwrap_or(&self.no_answer);
            (frame.around(&context.ids[first..end]), target.clone())
        };
        Ok(self.windows(examples.id(row), &frame, context.ids.len())?.into_iter().map(window).collect())
    }

    /// Ranges of a paragraph's tokens that fit beside the rest.
    fn windows(&self, id: &str, frame: &Frame, length: usize) -> Result<Vec<(usize, usize)>, Error> {
        let taken = frame.before.len() + frame.after.len();
        let (most, stride) = (self.shape.max_length as usize, self.shape.stride as usize);
        if taken + length == 0 {
            return Err(Error::data(format!("question {id}: its text is empty")).help("write words around {question} into `template`"));
        }
        if taken + length <= most {
            return Ok(vec![(0, length)]);
        }
        let room = most.saturating_sub(taken);
        if length == 0 {
            let message = format!("question {id}: its text has {taken} tokens, max_length is {most}");
            return Err(Error::data(message).help("set `max_query_length` to cut long questions, or raise `max_length`"));
        }
        if room <= stride {
            let message = format!(
                "question {id}: its text without the paragraph has {taken} tokens: of {most} that leaves {room} for the paragraph, too few for an overlap of {stride}"
            );
            return Err(Error::data(message).help("set `max_query_length` to cut long questions, raise `max_length`, or lower `stride`"));
        }
        Ok(ranges(length, room, stride))
    }

    /// A question's text but for its paragraph.
    fn frame(&self, examples: &Examples, row: usize) -> Result<Frame, Error> {
        let mut frame = Frame { before: self.tokenizer.before().to_vec(), after: Vec::new() };
        let mut before = true;
        for piece in self.wording.template.pieces() {
            let ids = match piece {
                Piece::Slot(Slot::Context, _) => {
                    before = false;
                    continue;
                }
                Piece::Words(words) => self.tokenizer.ids(words)?,
                Piece::Slot(Slot::Title, space) => self.tokenizer.ids(&spaced(examples.title(row), *space))?,
                Piece::Slot(Slot::Question, space) => self.question(examples.question(row), *space)?,
            };
            if before { frame.before.extend(ids) } else { frame.after.extend(ids) }
        }
        frame.after.extend(self.tokenizer.after());
        Ok(frame)
    }

    fn question(&self, text: &str, space: bool) -> Result<Vec<u32>, Error> {
        let mut ids = self.tokenizer.ids(&spaced(python::trim_start(text), space))?;
        if let Some(most) = self.shape.max_query_length {
            ids.truncate(most as usize);
        }
        Ok(ids)
    }

    /// What is to be written for an answer.
    fn target(&self, answer: &str) -> Result<Vec<u32>, Error> {
        let space = self.tokenizer.form() == crate::form::Form::Causal && !self.wording.template.ends_open();
        self.tokenizer.target(answer, space, self.wording.max_target)
    }

    /// Whether a space stands before a slot.
    fn spaced(&self, wanted: Slot) -> bool {
        self.wording.template.pieces().iter().any(|piece| matches!(piece, Piece::Slot(slot, true) if *slot == wanted))
    }
}

impl Frame {
    /// The whole text with some of the paragraph.
    fn around(&self, context: &[u32]) -> Vec<u32> {
        [&self.before, context, &self.after].concat()
    }
}

fn spaced(text: &str, space: bool) -> String {
    if space { format!(" {text}") } else { text.to_owned() }
}
