//! `[vars]`, and `${vars.x}` in texts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::name::{is_name, no_name, shown};
use crate::nearest::suggest;
use crate::raw::{Node, Raw, Table};
use crate::source::{Problem, Sink, Span};

/// How many variables may stand behind one another.
const CHAIN: usize = 64;
/// How deep a variable's lists may be nested.
const NESTED: usize = 8;
/// Largest value of one variable, in bytes.
const VALUE: usize = 1 << 20;
/// Most bytes that all substitutions of a pipeline may make.
const TOTAL: usize = 64 << 20;

/// The variables of a pipeline.
#[derive(Debug)]
pub(crate) struct Vars {
    names: Vec<String>,
    states: HashMap<String, State>,
    chain: Vec<String>,
    made: usize,
}

#[derive(Clone, Debug)]
enum State {
    /// As written.
    Written(Node),
    /// Being worked out: meeting it again is a circle.
    Busy,
    /// Worked out; broken if there was an error.
    Done(Node),
}

/// A piece of a text.
enum Piece<'t> {
    Literal(&'t str),
    Var(&'t str),
}

impl Vars {
    /// Reads `[vars]` and works out every variable. Those that are `given` have their value already. `made` is what other files of the
    /// pipeline have made.
    pub(crate) fn read(table: Table, mut given: HashMap<String, Node>, made: usize, sink: &mut Sink) -> Self {
        let mut vars = Self { names: Vec::new(), states: HashMap::new(), chain: Vec::new(), made };
        for entry in table.0 {
            if !is_name(&entry.key) {
                sink.push(&entry.span, || no_name("a variable", &entry.key));
            }
            let mut node = entry.node;
            if matches!(node.value, Raw::Table(_)) {
                let key = shown(&entry.key);
                sink.push(&node.span, || {
                    Problem::new(format!("variable `{key}` wants text, a number, true or false, or a list")).label("this is a table")
                });
                node.value = Raw::Broken;
            }
            vars.names.push(entry.key.clone());
            let state = given.remove(&entry.key).map_or(State::Written(node), State::Done);
            vars.states.insert(entry.key, state);
        }
        for name in vars.names.clone() {
            vars.resolve(&name, sink);
        }
        vars
    }

    /// All variables and their values, in the order of the file.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let value = |name: &String| match self.states.get(name) {
            Some(State::Done(node)) => node.to_json(),
            _ => Value::Null,
        };
        self.names.iter().map(|name| (name.clone(), value(name))).collect()
    }

    /// How many bytes the substitutions have made so far.
    pub(crate) fn made(&self) -> usize {
        self.made
    }

    /// Counts on from what other files have made.
    pub(crate) fn go_on_from(&mut self, made: usize) {
        self.made = made;
    }

    /// A variable's value for an included file; nothing if there is none, or it is broken.
    pub(crate) fn value(&mut self, name: &str, sink: &mut Sink) -> Option<Node> {
        let Some(State::Done(node)) = self.states.get(name) else { return None };
        let node = node.clone();
        self.pass(&node, sink).filter(|node| !node.is_broken())
    }

    /// A copy of a value for an included file; nothing if that makes too much.
    pub(crate) fn pass(&mut self, node: &Node, sink: &mut Sink) -> Option<Node> {
        self.spend(size(node), &node.span, sink).map(|()| node.clone())
    }

    /// Replaces `${vars.x}` in all texts of a value; what cannot be replaced is broken afterwards.
    pub(crate) fn expand(&mut self, node: &mut Node, sink: &mut Sink) {
        match &mut node.value {
            Raw::Text(text) if text.contains("${") => {
                let text = std::mem::take(text);
                let (span, home) = (node.span.clone(), node.home.take());
                *node = self.expand_text(&text, &span, sink).unwrap_or_else(|| Node::broken(span));
                node.home = node.home.take().or(home);
            }
            Raw::List(items) => items.iter_mut().for_each(|item| self.expand(item, sink)),
            Raw::Table(table) => table.0.iter_mut().for_each(|entry| self.expand(&mut entry.node, sink)),
            _ => {}
        }
    }

    fn expand_text(&mut self, text: &str, span: &Span, sink: &mut Sink) -> Option<Node> {
        if self.made > TOTAL {
            return None;
        }
        let pieces = pieces(text).map_err(|problem| sink.push(span, || problem)).ok()?;
        if let [Piece::Var(name)] = pieces[..] {
            let mut node = self.var(name, span, sink)?;
            self.spend(size(&node), span, sink)?;
            node.text = node.scalar_text();
            stamp(&mut node, span);
            return Some(node);
        }
        let home = self.home(&pieces);
        let mut whole = String::new();
        let mut sound = true;
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => whole.push_str(literal),
                Piece::Var(name) => match self.inside(name, span, sink) {
                    Some(value) => whole.push_str(&value),
                    None => sound = false,
                },
            }
            if whole.len() > VALUE {
                sink.push(span, || Problem::new("the text grows too large").label("variables make it longer than 1 MiB"));
                return None;
            }
        }
        self.spend(whole.len(), span, sink)?;
        sound.then(|| Node { home, ..Node::new(Raw::Text(whole), span.clone()) })
    }

    /// Where a path of these pieces starts from: where its beginning was written.
    fn home(&self, pieces: &[Piece<'_>]) -> Option<Arc<Path>> {
        let Some(Piece::Var(name)) = pieces.first() else { return None };
        match self.states.get(*name) {
            Some(State::Done(node)) => node.home.clone(),
            _ => None,
        }
    }

    /// A variable's value as it stands inside a text.
    fn inside(&mut self, name: &str, span: &Span, sink: &mut Sink) -> Option<String> {
        let node = self.var(name, span, sink)?;
        let text = node.scalar_text();
        if text.is_none() {
            let name = shown(name);
            sink.push(span, || {
                Problem::new(format!("`${{vars.{name}}}` is a list and cannot stand inside a text"))
                    .label(format!("only a text that is nothing but `${{vars.{name}}}` becomes the list"))
            });
        }
        text
    }

    fn spend(&mut self, bytes: usize, span: &Span, sink: &mut Sink) -> Option<()> {
        let before = self.made;
        self.made = self.made.saturating_add(bytes);
        if self.made > TOTAL && before <= TOTAL {
            sink.push(span, || Problem::new("the pipeline grows too large").label("its variables make more than 64 MiB of text"));
        }
        (self.made <= TOTAL).then_some(())
    }

    /// A variable's value; nothing if it is broken, which has then been told.
    fn var(&mut self, name: &str, span: &Span, sink: &mut Sink) -> Option<Node> {
        if !self.states.contains_key(name) {
            let names = self.names.iter().map(String::as_str);
            sink.push(span, || Problem::new(format!("unknown variable `{}`", shown(name))).help(suggest(name, "variables", names)));
            return None;
        }
        if matches!(self.states.get(name), Some(State::Busy)) {
            let from = self.chain.iter().position(|link| link == name).unwrap_or(0);
            let circle = [&self.chain[from..], &[name.to_owned()]].concat().join(" -> ");
            sink.push(span, || Problem::new(format!("variables are made from one another in a circle: {circle}")));
            return None;
        }
        if self.chain.len() >= CHAIN {
            sink.push(span, || Problem::new(format!("more than {CHAIN} variables are made from one another in a row")));
            return None;
        }
        self.resolve(name, sink).filter(|node| !node.is_broken())
    }

    fn resolve(&mut self, name: &str, sink: &mut Sink) -> Option<Node> {
        let state = self.states.get_mut(name)?;
        let mut node = match state {
            State::Done(node) => return Some(node.clone()),
            State::Busy => return None,
            State::Written(_) => match std::mem::replace(state, State::Busy) {
                State::Written(node) => node,
                _ => return None,
            },
        };
        self.chain.push(name.to_owned());
        let before = sink.count();
        self.expand(&mut node, sink);
        self.chain.pop();
        if sink.count() > before {
            node.value = Raw::Broken;
        } else if size(&node) > VALUE || depth(&node) > NESTED {
            sink.push(&node.span, || Problem::new(format!("variable `{}` is too large or nested too deeply", shown(name))));
            node.value = Raw::Broken;
        }
        self.states.insert(name.to_owned(), State::Done(node.clone()));
        Some(node)
    }
}

/// Takes a text apart. `$${` stands for `${`.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Problem> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if before.ends_with('$') {
            pieces.push(Piece::Literal(&rest[..at - 1]));
            pieces.push(Piece::Literal("${"));
            rest = &from[2..];
            continue;
        }
        if !before.is_empty() {
            pieces.push(Piece::Literal(before));
        }
        let Some((inside, after)) = from[2..].split_once('}') else {
            return Err(Problem::new("`${` without `}`").help("a `${` that is no variable is written `$${`".to_owned()));
        };
        pieces.push(Piece::Var(variable(inside)?));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    Ok(pieces)
}

/// The variable's name in what stands between `${` and `}`.
fn variable(inside: &str) -> Result<&str, Problem> {
    if let Some(name) = inside.strip_prefix("vars.") {
        return Ok(name);
    }
    let inside_shown = shown(inside);
    if inside.starts_with("matrix.") {
        return Err(Problem::new(format!("`${{{inside_shown}}}`: a matrix is not supported yet")));
    }
    let help = if is_name(inside) {
        format!("did you mean `${{vars.{inside}}}`?")
    } else {
        "write `${vars.NAME}`, or `$${` for a plain `${`".to_owned()
    };
    Err(Problem::new(format!("`${{{inside_shown}}}` is no variable")).help(help))
}

/// Everything that comes from a variable points at where it is used.
fn stamp(node: &mut Node, span: &Span) {
    node.span = span.clone();
    if let Raw::List(items) = &mut node.value {
        for item in items {
            item.text = item.scalar_text();
            stamp(item, span);
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Raw::Text(text) => text.len() + 8,
        Raw::List(items) => items.iter().map(size).sum::<usize>() + 8,
        _ => 8,
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Raw::List(items) => items.iter().map(depth).max().unwrap_or(0) + 1,
        _ => 0,
    }
}
