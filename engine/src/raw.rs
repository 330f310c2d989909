//! TOML as a tree that remembers where everything stood, in the order of the file.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use crate::source::{Origin, Problem, Sink, Span};

/// How deep lists and tables may be nested.
const DEPTH: usize = 32;

/// A value and where it stood. What is not kept in a tree that was parsed is not there before overrides and variables are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) value: Raw,
    pub(crate) span: Span,
    /// Where it was written, if not where it stands: it came through a variable or an axis.
    #[serde(skip)]
    pub(crate) source: Option<Span>,
    /// What a value that is not a text reads as where a text is wanted: `5` from `${vars.x}` or from the command line.
    #[serde(skip)]
    pub(crate) text: Option<String>,
    /// Where a path starts from, relative to the pipeline's folder, if not from the folder of the file that it is used in: a variable of the
    /// including file means a path from there.
    #[serde(skip)]
    pub(crate) home: Option<Arc<Path>>,
}

/// A value.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Raw {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// There was an error in it, which has been told; nothing more is to be said.
    #[default]
    Broken,
}

/// Keys and values in the order of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table(pub(crate) Vec<Entry>);

/// A key and its value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) span: Span,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn new(value: Raw, span: Span) -> Self {
        Self { value, span, source: None, text: None, home: None }
    }

    pub(crate) fn broken(span: Span) -> Self {
        Self::new(Raw::Broken, span)
    }

    /// Says where paths in it start from, where that is not known yet.
    pub(crate) fn at_home(&mut self, home: &Arc<Path>) {
        self.home.get_or_insert_with(|| Arc::clone(home));
        match &mut self.value {
            Raw::List(items) => items.iter_mut().for_each(|item| item.at_home(home)),
            Raw::Table(table) => table.0.iter_mut().for_each(|entry| entry.node.at_home(home)),
            _ => {}
        }
    }

    /// Where it was written.
    pub(crate) fn written(&self) -> &Span {
        self.source.as_ref().unwrap_or(&self.span)
    }

    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.value, Raw::Broken)
    }

    /// Whether it or a part of it is broken.
    pub(crate) fn holds_broken(&self) -> bool {
        match &self.value {
            Raw::Broken => true,
            Raw::List(items) => items.iter().any(Self::holds_broken),
            Raw::Table(table) => table.0.iter().any(|entry| entry.node.holds_broken()),
            _ => false,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Raw::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Raw::Table(table) => Some(table),
            _ => None,
        }
    }

    /// What it is, in words: what stands under the caret when something else was wanted.
    pub(crate) fn describe(&self) -> &'static str {
        match self.value {
            Raw::Text(_) => "this is text",
            Raw::Int(_) => "this is a whole number",
            Raw::Float(_) => "this is a number",
            Raw::Bool(_) => "this is true or false",
            Raw::List(_) => "this is a list",
            Raw::Table(_) => "this is a table",
            Raw::Broken => "",
        }
    }

    /// How a number or truth value stands inside a text.
    pub(crate) fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Raw::Text(text) => Some(text.clone()),
            Raw::Int(number) => Some(number.to_string()),
            Raw::Float(number) => Some(format!("{number:?}")),
            Raw::Bool(truth) => Some(truth.to_string()),
            Raw::List(_) | Raw::Table(_) | Raw::Broken => None,
        }
    }

    /// The part at a dotted path.
    pub(crate) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, part| match &node.value {
            Raw::Table(table) => table.get(part),
            Raw::List(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// As JSON. Numbers that JSON does not know become null.
    pub(crate) fn to_json(&self) -> Value {
        match &self.value {
            Raw::Text(text) => Value::from(text.as_str()),
            Raw::Int(number) => Value::from(*number),
            Raw::Float(number) => Value::from(*number),
            Raw::Bool(truth) => Value::from(*truth),
            Raw::List(items) => items.iter().map(Self::to_json).collect(),
            Raw::Table(table) => Value::Object(table.0.iter().map(|e| (e.key.clone(), e.node.to_json())).collect::<Map<_, _>>()),
            Raw::Broken => Value::Null,
        }
    }
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
    }

    pub(crate) fn take(&mut self, key: &str) -> Option<Node> {
        let index = self.0.iter().position(|entry| entry.key == key)?;
        Some(self.0.remove(index).node)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|entry| entry.key.as_str())
    }
}

/// The whole TOML document that is the file of this number; nothing if it does not parse.
pub(crate) fn document(text: &str, file: u32, sink: &mut Sink) -> Option<Table> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = Span::of(file, error.span().unwrap_or(text.len()..text.len()));
        sink.push(&span, || Problem::new(lower_first(error.message())));
    }
    errors.is_empty().then(|| Reader { origin: Origin::File(file), offset: 0, sink }.table(table.into_inner(), 0))
}

/// One TOML value as it stands in an override, `offset` bytes into its text; nothing if it is no TOML, or none that a pipeline can hold.
pub(crate) fn override_value(text: &str, origin: Origin, offset: usize) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let mut sink = Sink::default();
    let node = Reader { origin, offset, sink: &mut sink }.node(value, 0);
    (sink.count() == 0).then_some(node)
}

fn lower_first(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

struct Reader<'a> {
    origin: Origin,
    offset: usize,
    sink: &'a mut Sink,
}

impl Reader<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span::at(self.origin, range.start + self.offset..range.end + self.offset)
    }

    fn table(&mut self, table: DeTable<'_>, depth: usize) -> Table {
        let mut entries: Vec<Entry> = Vec::with_capacity(table.len());
        for (key, value) in table {
            entries.push(Entry { span: self.span(key.span()), key: key.into_inner().into_owned(), node: self.node(value, depth + 1) });
        }
        entries.sort_by_key(|entry| entry.span.range().start);
        Table(entries)
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>, depth: usize) -> Node {
        let span = self.span(value.span());
        let value = match value.into_inner() {
            DeValue::String(text) => Ok(Raw::Text(text.into_owned())),
            DeValue::Integer(number) => whole(&number),
            DeValue::Float(number) => fraction(&number),
            DeValue::Boolean(truth) => Ok(Raw::Bool(truth)),
            DeValue::Datetime(_) => Err(Problem::new("dates are not supported").label("write it as text, in quotes")),
            DeValue::Array(_) | DeValue::Table(_) if depth > DEPTH => Err(Problem::new("nested too deeply")),
            DeValue::Array(items) => Ok(Raw::List(items.into_iter().map(|item| self.node(item, depth + 1)).collect())),
            DeValue::Table(table) => Ok(Raw::Table(self.table(table, depth))),
        };
        let value = value.unwrap_or_else(|problem| {
            self.sink.push(&span, || problem);
            Raw::Broken
        });
        Node::new(value, span)
    }
}

fn whole(number: &DeInteger<'_>) -> Result<Raw, Problem> {
    i64::from_str_radix(number.as_str(), number.radix()).map(Raw::Int).map_err(|_| too_large())
}

fn fraction(number: &DeFloat<'_>) -> Result<Raw, Problem> {
    let text = number.as_str();
    match text.parse::<f64>() {
        Ok(value) if value.is_infinite() && !text.contains("inf") => Err(too_large()),
        Ok(value) => Ok(Raw::Float(value)),
        Err(_) => Err(too_large()),
    }
}

fn too_large() -> Problem {
    Problem::new("the number is too large")
}
