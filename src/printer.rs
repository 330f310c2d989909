//! Where output goes: data to standard output, talk to standard error, colour only where it is wanted.

use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde_json::{Map, Value, json};

use crate::args::{Color, Global};
use crate::failure::{Exit, Failure};

/// Version of everything that `--json` prints; raised when a field changes its meaning or goes.
pub(crate) const JSON_VERSION: u32 = 1;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const DUE: Style = AnsiColor::Yellow.on_default();
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();
pub(crate) const PLAIN: Style = Style::new();

/// A text in a style.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A warning and what to do about it.
pub(crate) fn warning(message: &str, help: Option<&str>) -> String {
    let help = help.map(|help| format!("\n  {}: {help}", styled(NAME, "help"))).unwrap_or_default();
    format!("{}: {message}{help}", styled(DUE, "warning"))
}

/// The two streams and how much to say on them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    pub(crate) json: bool,
    out: ColorChoice,
    err: ColorChoice,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        let (out, err) = match global.color {
            Color::Always => (ColorChoice::Always, ColorChoice::Always),
            Color::Never => (ColorChoice::Never, ColorChoice::Never),
            Color::Auto => (AutoStream::choice(&io::stdout()), AutoStream::choice(&io::stderr())),
        };
        Self { quiet: global.quiet, verbose: global.verbose, json: global.json, out, err }
    }

    /// Whether standard error is in colour.
    pub(crate) fn colours_errors(&self) -> bool {
        self.err != ColorChoice::Never
    }

    /// Data, as it is. A reader that has gone away ends the program without a word.
    pub(crate) fn data(&self, text: &str) -> Result<(), Failure> {
        let stream = io::stdout().lock();
        let written = if self.out == ColorChoice::Never {
            write_to(&mut AutoStream::never(stream), text)
        } else {
            write_to(&mut AutoStream::new(stream, self.out), text)
        };
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::told(Exit::Done),
            _ => Failure::new(Exit::Environment, format!("cannot write to standard output: {error}")),
        })
    }

    /// Data that must not be touched: a file's bytes.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stream = io::stdout().lock();
        stream.write_all(bytes).and_then(|()| stream.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::told(Exit::Done),
            _ => Failure::new(Exit::Environment, format!("cannot write to standard output: {error}")),
        })
    }

    /// The answer of a command as JSON, with the version in front.
    pub(crate) fn json(&self, answer: &Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&versioned(answer)).unwrap_or_default();
        self.data(&format!("{text}\n"))
    }

    /// One line of a stream of JSON objects, with the version in front.
    pub(crate) fn json_line(&self, answer: &Value) -> Result<(), Failure> {
        self.data(&format!("{}\n", versioned(answer)))
    }

    /// Talk: nothing when quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// An error and what to do about it.
    pub(crate) fn error(&self, message: &str, help: Option<&str>) {
        self.say(&format!("{}: {message}", styled(BAD, "error")));
        if let Some(help) = help {
            self.say(&format!("  {}: {help}", styled(NAME, "help")));
        }
    }

    /// What does not keep the work from going on; nothing when quiet.
    pub(crate) fn warning(&self, message: &str, help: Option<&str>) {
        self.note(&warning(message, help));
    }

    /// An error that has been laid out already.
    pub(crate) fn raw_error(&self, text: &str) {
        self.say(text.trim_end());
    }

    /// A line on standard error. When that is gone, there is nobody to tell.
    pub(crate) fn say(&self, text: &str) {
        let mut stream = AutoStream::new(io::stderr().lock(), self.err);
        let _ = writeln!(stream, "{text}");
    }
}

fn write_to(stream: &mut impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

fn versioned(answer: &Value) -> Value {
    let mut object = Map::new();
    object.insert("version".to_owned(), json!(JSON_VERSION));
    match answer {
        Value::Object(fields) => object.extend(fields.clone()),
        other => {
            object.insert("answer".to_owned(), other.clone());
        }
    }
    Value::Object(object)
}
