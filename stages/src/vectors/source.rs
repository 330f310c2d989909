//! A file of vectors as a stream, unpacked on the way.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use super::{HELP, Progress};
use crate::error::Error;

/// What a gzipped file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// What a ZIP archive begins with.
const ZIP: [u8; 4] = *b"PK\x03\x04";
/// What a fastText model begins with, as its bytes lie in the file.
pub(super) const MAGIC: [u8; 4] = 793_712_314_i32.to_le_bytes();
/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;
/// Longest line or word in bytes.
const LONGEST: usize = 1 << 20;
/// Calls of [`Source::tick`] between two reports.
const TICKS: u32 = 4096;

/// A file that counts the bytes that are read.
struct Counted {
    file: File,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(into)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

/// An opened file.
pub(super) struct Source<'a> {
    file: &'a Path,
    bytes: Box<dyn BufRead>,
    head: Vec<u8>,
    read: Rc<Cell<u64>>,
    total: u64,
    ticks: u32,
    progress: Progress<'a>,
}

impl<'a> Source<'a> {
    /// Opens a file and looks at its first bytes.
    pub(super) fn open(file: &'a Path, progress: Progress<'a>) -> Result<Self, Error> {
        let opened = File::open(file).map_err(Error::io(file))?;
        let total = opened.metadata().map_err(Error::io(file))?.len();
        let read = Rc::new(Cell::new(0));
        let counted = BufReader::with_capacity(BUFFER, Counted { file: opened, read: Rc::clone(&read) });
        let mut source = Self { file, bytes: Box::new(counted), head: Vec::new(), read, total, ticks: 0, progress };
        source.look(GZIP.len())?;
        if source.head == GZIP {
            let packed = std::mem::replace(&mut source.bytes, Box::new(std::io::empty()));
            source.bytes = Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(packed)));
        }
        source.look(MAGIC.len())?;
        if source.head.is_empty() {
            return Err(source.wrong("the file is empty").help(HELP));
        }
        if source.head == ZIP {
            return Err(source.wrong("a ZIP archive, where a file of vectors is wanted").help("unpack it first"));
        }
        Ok(source)
    }

    /// Looks at the first bytes and puts them back.
    fn look(&mut self, count: usize) -> Result<(), Error> {
        let mut head = Vec::new();
        self.bytes.as_mut().take(count as u64).read_to_end(&mut head).map_err(|e| self.failed(e))?;
        let rest = std::mem::replace(&mut self.bytes, Box::new(std::io::empty()));
        self.bytes = Box::new(Cursor::new(head.clone()).chain(rest));
        self.head = head;
        Ok(())
    }

    /// Whether it is a fastText model.
    pub(super) fn is_model(&self) -> bool {
        self.head == MAGIC
    }

    /// Says what is wrong with the file.
    pub(super) fn wrong(&self, what: impl std::fmt::Display) -> Error {
        Error::data(format!("{}: {what}", self.file.display()))
    }

    /// Says what is wrong with a line of the file, the first being 1.
    pub(super) fn wrong_at(&self, line: u64, what: impl std::fmt::Display) -> Error {
        Error::data(format!("{}:{line}: {what}", self.file.display()))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
                self.wrong(format!("cut short or damaged: {error}")).help("fetch it again")
            }
            _ => Error::io(self.file)(error),
        }
    }

    /// Counts a step of the work, and reports now and then.
    pub(super) fn tick(&mut self) -> Result<(), Error> {
        self.ticks += 1;
        if self.ticks < TICKS {
            return Ok(());
        }
        self.ticks = 0;
        self.report()
    }

    /// Reports how far it is.
    pub(super) fn report(&self) -> Result<(), Error> {
        (self.progress)(self.read.get(), self.total)
    }

    /// Reads a line, the line feed included; nothing at the end of the file.
    pub(super) fn line(&mut self, line: &mut Vec<u8>, number: u64) -> Result<(), Error> {
        self.until(b'\n', line)?;
        if line.len() == LONGEST && line.last() != Some(&b'\n') {
            return Err(self.wrong_at(number, format!("not a row of a file of vectors: longer than {LONGEST} bytes")).help(HELP));
        }
        Ok(())
    }

    /// Reads a text that ends with a zero byte; the zero goes.
    pub(super) fn word(&mut self, word: &mut Vec<u8>) -> Result<(), Error> {
        self.until(0, word)?;
        if word.pop() == Some(0) { Ok(()) } else { Err(self.short("a word")) }
    }

    fn until(&mut self, end: u8, into: &mut Vec<u8>) -> Result<(), Error> {
        into.clear();
        self.bytes.as_mut().take(LONGEST as u64).read_until(end, into).map_err(|e| self.failed(e))?;
        Ok(())
    }

    fn short(&self, what: &str) -> Error {
        self.wrong(format!("cut short or damaged: it ends within {what}")).help("fetch it again")
    }

    /// Fills a buffer; `what` is what it is to hold.
    pub(super) fn fill(&mut self, into: &mut [u8], what: &str) -> Result<(), Error> {
        self.bytes.read_exact(into).map_err(|e| if e.kind() == ErrorKind::UnexpectedEof { self.short(what) } else { self.failed(e) })
    }

    /// A few bytes.
    pub(super) fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, mut count: u64, what: &str) -> Result<(), Error> {
        while count > 0 {
            let held = self.bytes.fill_buf().map(<[u8]>::len).map_err(|e| self.failed(e))?;
            if held == 0 {
                return Err(self.short(what));
            }
            let passed = usize::try_from(count).map_or(held, |count| count.min(held));
            self.bytes.consume(passed);
            count -= passed as u64;
        }
        Ok(())
    }
}
