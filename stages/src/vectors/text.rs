//! Vectors as text: a word and its numbers a line, with single spaces between. fastText's `.vec` begins with a line `count dimension`,
//! GloVe's files do not. A word may hold spaces itself, as `. . .` in GloVe's 840B: the last numbers of a line are the vector.

use std::borrow::Cow;

use super::source::Source;
use super::wanted::{Served, Wanted};
use super::{Found, HELP, WIDEST};
use crate::error::Error;

/// What numbers consist of.
fn is_numeric(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E')
}

/// A word and its vector.
pub(super) struct Row<'r> {
    pub(super) word: Cow<'r, str>,
    /// Numbers with spaces between, still as text.
    pub(super) numbers: &'r [u8],
}

/// The rows of a file.
pub(super) struct Rows<'s, 'a> {
    source: &'s mut Source<'a>,
    dimension: usize,
    /// Words that the header promises.
    promised: Option<u64>,
    /// Rows that have passed.
    rows: u64,
    /// Number of the line that is held, from 1 on.
    number: u64,
    line: Vec<u8>,
    /// Whether the held line is a row that has not been given yet.
    held: bool,
}

impl<'s, 'a> Rows<'s, 'a> {
    /// Reads the header, or learns the dimension from the first row.
    pub(super) fn open(source: &'s mut Source<'a>) -> Result<Self, Error> {
        let mut rows = Self { source, dimension: 0, promised: None, rows: 0, number: 0, line: Vec::new(), held: false };
        rows.read_line()?;
        if let Some((count, dimension)) = header(&rows.line) {
            rows.promised = Some(count);
            rows.dimension = usize::try_from(dimension).unwrap_or(usize::MAX);
        } else {
            rows.dimension = numbers_of(&rows.line);
            rows.held = true;
        }
        match rows.dimension {
            0 => Err(rows.wrong("not a file of word vectors: a word and its numbers are wanted").help(HELP)),
            1..=WIDEST => Ok(rows),
            more => Err(rows.wrong(format!("vectors of {more} numbers: at most {WIDEST} are supported")).help(HELP)),
        }
    }

    /// Reads a line without what ends it; whether there was one.
    fn read_line(&mut self) -> Result<bool, Error> {
        self.number += 1;
        self.source.line(&mut self.line, self.number)?;
        let any = !self.line.is_empty();
        self.line.truncate(self.line.trim_ascii_end().len());
        Ok(any)
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        self.source.wrong_at(self.number, what)
    }

    /// The next row; nothing at the end of the file. Empty lines are passed over.
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, Error> {
        while !std::mem::take(&mut self.held) || self.line.is_empty() {
            if !self.read_line()? {
                self.check_count()?;
                return Ok(None);
            }
            self.held = !self.line.is_empty();
        }
        self.rows += 1;
        self.source.tick()?;
        let Some(border) = border(&self.line, self.dimension) else { return Err(self.ragged()) };
        let (word, numbers) = (&self.line[..border], &self.line[border + 1..]);
        if word.contains(&b' ') && word.rsplit(|&b| b == b' ').next().is_some_and(|field| number(field).is_some()) {
            return Err(self.ragged());
        }
        Ok(Some(Row { word: String::from_utf8_lossy(word), numbers }))
    }

    /// Fewer rows than the header promises are half a download.
    fn check_count(&self) -> Result<(), Error> {
        let Some(promised) = self.promised.filter(|&promised| promised != self.rows) else { return Ok(()) };
        let message = format!("the header promises {promised} words, the file holds {}", self.rows);
        Err(self.source.wrong(message).help("fetch it again, or correct its first line"))
    }

    /// Says what is wrong with the held line.
    fn ragged(&self) -> Error {
        let fields: Vec<&[u8]> = self.line.split(|&b| b == b' ').collect();
        let tail = &fields[fields.len().saturating_sub(self.dimension).max(1)..];
        let word = String::from_utf8_lossy(fields[0]);
        if let Some(field) = tail.iter().find(|field| number(field).is_none()) {
            let field = String::from_utf8_lossy(field);
            return self.wrong(format!("{field:?} is not a finite number, in the vector of {word:?}")).help(HELP);
        }
        let numbers = fields[1..].iter().rev().take_while(|field| number(field).is_some()).count();
        let wanted = if self.promised.is_some() { "the header says" } else { "the first row has" };
        self.wrong(format!("the vector of {word:?} has {numbers} numbers, {wanted} {}", self.dimension)).help(HELP)
    }

    /// Finds vectors, `words` in number.
    pub(super) fn find(mut self, words: usize, mut wanted: Wanted) -> Result<Found, Error> {
        let mut found = Found::none(words, self.dimension);
        let mut row = vec![0.0; self.dimension];
        while let Some(Row { word, numbers }) = self.next()? {
            let places = wanted.meet(&word);
            if places.is_empty() {
                continue;
            }
            if !parse(numbers, &mut row) {
                return Err(self.ragged());
            }
            for at in places {
                found.row(at).copy_from_slice(&row);
            }
        }
        found.known = (0..words).map(|at| wanted.served(at) != Served::No).collect();
        self.source.report()?;
        Ok(found)
    }
}

/// Number of words and dimension, where a line is a header.
fn header(line: &[u8]) -> Option<(u64, u64)> {
    let (count, dimension) = std::str::from_utf8(line).ok()?.split_once([' ', '\t'])?;
    Some((count.parse().ok()?, dimension.trim().parse().ok()?))
}

/// How many numbers a row ends with; its first field is none of them.
fn numbers_of(line: &[u8]) -> usize {
    let fields = line.split(|&b| b == b' ').count();
    line.rsplit(|&b| b == b' ').take(fields - 1).take_while(|field| number(field).is_some()).count()
}

/// Where the space before the last `dimension` fields lies, if these look like numbers.
fn border(line: &[u8], dimension: usize) -> Option<usize> {
    let mut fields = 0;
    for (at, &byte) in line.iter().enumerate().rev() {
        if byte == b' ' {
            fields += 1;
            if fields == dimension {
                return Some(at);
            }
        } else if !is_numeric(byte) {
            return None;
        }
    }
    None
}

/// A finite number.
fn number(field: &[u8]) -> Option<f32> {
    let plain = field.iter().copied().all(is_numeric);
    let value: f32 = std::str::from_utf8(field).ok().filter(|_| plain)?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// Reads numbers into a row; whether all are numbers.
fn parse(numbers: &[u8], row: &mut [f32]) -> bool {
    numbers.split(|&b| b == b' ').zip(row).all(|(field, value)| number(field).map(|number| *value = number).is_some())
}
