//! Windows of tokens over questions and paragraphs, exactly as Hugging Face's fast tokenizers cut them: the second sequence is
//! truncated, neighbouring windows share `stride` tokens.
//!
//! Every distinct paragraph is tokenized once, however many questions are asked about it.

use rayon::prelude::*;

use crate::error::Error;
use crate::examples::Examples;
use crate::features::{Offsets, Windows};
use crate::python;
use crate::tokenizer::{Reader, Tokens};

/// How windows are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Longest window in tokens, special tokens included.
    pub max_length: u32,
    /// Tokens that two neighbouring windows share.
    pub stride: u32,
    /// Most tokens of a question; longer ones are cut.
    pub max_query_length: Option<u32>,
}

/// Texts that are tokenized between two looks at the clock.
pub(crate) const CHUNK: usize = 4096;

/// One question's windows, each as a range of its paragraph's tokens.
struct Cut {
    question: Vec<u32>,
    ranges: Vec<(usize, usize)>,
}

/// Tells how far it is: texts done, and texts in all; an error stops the work.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) -> Result<(), Error> + Sync);

/// Cuts all questions of a part into windows, in order.
///
/// # Errors
/// With the id of a question that is too long for a window, what the tokenizer reports, and what `progress` returns.
pub fn cut(reader: &Reader, examples: &Examples, shape: Shape, progress: Progress<'_>) -> Result<(Windows, Offsets), Error> {
    let total = examples.contexts() + examples.len();
    let contexts = contexts(&|text: &str| reader.tokens(text), examples, &|done| progress(done, total))?;
    let mut windows = Windows::default();
    let rows: Vec<usize> = (0..examples.len()).collect();
    for chunk in rows.chunks(CHUNK) {
        progress(contexts.len() + chunk[0], total)?;
        let cuts = chunk.par_iter().map(|&row| cut_one(reader, examples, row, &contexts, shape)).collect::<Result<Vec<_>, _>>()?;
        for (&row, cut) in chunk.iter().zip(&cuts) {
            append(&mut windows, reader, examples, row, cut, &contexts);
        }
    }
    progress(total, total)?;
    Ok((windows, offsets(contexts)))
}

/// Every distinct paragraph in tokens.
pub(crate) fn contexts(
    tokens: &(dyn Fn(&str) -> Result<Tokens, Error> + Sync),
    examples: &Examples,
    progress: &dyn Fn(usize) -> Result<(), Error>,
) -> Result<Vec<Tokens>, Error> {
    let mut found = Vec::with_capacity(examples.contexts());
    let rows: Vec<usize> = (0..examples.contexts()).collect();
    for chunk in rows.chunks(CHUNK / 4) {
        progress(chunk[0])?;
        let some = chunk.par_iter().map(|&at| tokens(examples.context_text(at))).collect::<Result<Vec<_>, _>>()?;
        found.extend(some);
    }
    Ok(found)
}

fn offsets(contexts: Vec<Tokens>) -> Offsets {
    let mut found = Offsets::default();
    for context in contexts {
        found.starts.push(&context.starts);
        found.ends.push(&context.ends);
    }
    found
}

fn cut_one(reader: &Reader, examples: &Examples, row: usize, contexts: &[Tokens], shape: Shape) -> Result<Cut, Error> {
    let mut question = reader.ids(python::trim_start(examples.question(row)))?;
    if let Some(most) = shape.max_query_length {
        question.truncate(most as usize);
    }
    let length = contexts[examples.context_index(row) as usize].ids.len();
    let taken = reader.layout().special() + question.len();
    let room = (shape.max_length as usize).saturating_sub(taken);
    if length <= room {
        return Ok(Cut { question, ranges: vec![(0, length)] });
    }
    let stride = shape.stride as usize;
    if room <= stride {
        return Err(too_long(examples.id(row), question.len(), room, shape));
    }
    Ok(Cut { question, ranges: ranges(length, room, stride) })
}

/// Ranges of at most `room` tokens, each beginning `room - stride` after the one before, until one reaches the end.
pub(crate) fn ranges(length: usize, room: usize, stride: usize) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut start = 0;
    loop {
        let end = (start + room).min(length);
        ranges.push((start, end));
        if end == length {
            return ranges;
        }
        start += room - stride;
    }
}

fn too_long(id: &str, question: usize, room: usize, shape: Shape) -> Error {
    let Shape { max_length, stride, .. } = shape;
    let message = format!(
        "question {id} has {question} tokens: in a window of {max_length} that leaves {room} for the paragraph, too few for an overlap of {stride}"
    );
    Error::data(message).help("set `max_query_length` to cut long questions, raise `max_length`, or lower `stride`")
}

fn append(windows: &mut Windows, reader: &Reader, examples: &Examples, row: usize, cut: &Cut, contexts: &[Tokens]) {
    let layout = reader.layout();
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    let at = examples.context_index(row);
    let context = &contexts[at as usize];
    let answer = first_answer(examples, row);
    let before = layout.before.len() + cut.question.len() + layout.between.len();
    for &(first, end) in &cut.ranges {
        let length = before + (end - first) + layout.after.len();
        for ids in [&layout.before, &cut.question, &layout.between, &context.ids[first..end], &layout.after] as [&[u32]; 5] {
            windows.ids.items.extend_from_slice(ids);
        }
        windows.ids.lengths.push(number(length));
        windows.context_start.push(number(before));
        windows.context_end.push(number(before + end - first));
        windows.example.push(number(row));
        windows.context.push(at);
        windows.first.push(number(first));
        let label = answer.and_then(|answer| label(context, first, end, answer));
        let (start, last) = label.map_or((0, 0), |(start, last)| (before + start - first, before + last - first));
        windows.start.push(number(start));
        windows.end.push(number(last));
    }
}

/// Code points of the first gold answer: where it begins, and one past its end.
pub(crate) fn first_answer(examples: &Examples, row: usize) -> Option<(u32, u32)> {
    let start = u32::try_from(*examples.starts(row).first()?).ok()?;
    let length = examples.golds(row).next()?.chars().count();
    Some((start, start + u32::try_from(length).ok()?))
}

/// First and last token of an answer among a paragraph's tokens, where the window of `first..end` holds all of it.
fn label(context: &Tokens, first: usize, end: usize, (start, stop): (u32, u32)) -> Option<(usize, usize)> {
    let (starts, ends) = (&context.starts[first..end], &context.ends[first..end]);
    if *starts.first()? > start || *ends.last()? < stop {
        return None;
    }
    let from = starts.iter().rposition(|&at| at <= start)?;
    let to = ends.iter().position(|&at| at >= stop)?;
    (from <= to).then_some((first + from, first + to))
}
