//! `[vars]`, and `${vars.x}` and `${matrix.x}` in texts.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::cell::Cell;
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
    /// The axes of the file's matrix.
    axes: Vec<String>,
    /// The cell for which texts are replaced.
    cell: Cell,
}

#[derive(Clone, Debug)]
enum State {
    /// As written.
    Written(Node),
    /// Being worked out: meeting it again is a circle.
    Busy,
    /// Worked out; broken if there was an error.
    Done(Node),
    /// As written: it hangs on these axes, and so is another in every cell.
    Varies(Node, BTreeSet<String>),
}

/// A piece of a text.
enum Piece<'t> {
    Literal(&'t str),
    Named(Name<'t>),
}

/// What stands between `${` and `}`.
#[derive(Clone, Copy)]
enum Name<'t> {
    Var(&'t str),
    Axis(&'t str),
}

impl Vars {
    /// Reads `[vars]` and works out every variable. Those that are `given` have their value already. `axes` are those of the file's matrix,
    /// `made` is what other files of the pipeline have made.
    pub(crate) fn read(table: Table, mut given: HashMap<String, Node>, axes: Vec<String>, made: usize, sink: &mut Sink) -> Self {
        let (names, states, chain, cell) = (Vec::new(), HashMap::new(), Vec::new(), Cell::default());
        let mut vars = Self { names, states, chain, made, axes, cell };
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
            Some(State::Done(node) | State::Varies(node, _)) => node.to_json(),
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
            Raw::Text(text) if names_something(text) => {
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
        if let [Piece::Named(name)] = pieces[..] {
            let mut node = self.named(name, span, sink)?;
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
                Piece::Named(name) => match self.inside(name, span, sink) {
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
        match pieces.first() {
            Some(Piece::Named(Name::Axis(name))) => self.cell.get(name)?.node.home.clone(),
            Some(Piece::Named(Name::Var(name))) => match self.states.get(*name) {
                Some(State::Done(node) | State::Varies(node, _)) => node.home.clone(),
                _ => None,
            },
            _ => None,
        }
    }

    /// A value as it stands inside a text.
    fn inside(&mut self, name: Name<'_>, span: &Span, sink: &mut Sink) -> Option<String> {
        let node = self.named(name, span, sink)?;
        let text = node.scalar_text();
        // A value of an axis is never a list.
        if let (None, Name::Var(name)) = (&text, name) {
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

    /// The value that a name stands for; nothing if it is broken, which has then been told.
    fn named(&mut self, name: Name<'_>, span: &Span, sink: &mut Sink) -> Option<Node> {
        match name {
            Name::Axis(name) => self.axis(name, span, sink),
            Name::Var(name) => match self.var(name, span, sink)? {
                State::Varies(mut node, _) => {
                    self.expand(&mut node, sink);
                    Some(node)
                }
                State::Done(node) => Some(node),
                State::Written(_) | State::Busy => None,
            },
        }
        .filter(|node| !node.is_broken())
    }

    /// The value of an axis in the cell at hand. Where there is no such cell, the matrix is broken, which has been told.
    fn axis(&self, name: &str, span: &Span, sink: &mut Sink) -> Option<Node> {
        if !self.axes.iter().any(|axis| axis == name) {
            let axis = shown(name);
            sink.push(span, || match self.axes.len() {
                0 => Problem::new(format!("`${{matrix.{axis}}}`: the file has no matrix"))
                    .help(format!("write `[matrix]` and `{axis} = [ … ]`")),
                _ => Problem::new(format!("the matrix has no axis `{axis}`")).help(suggest(
                    name,
                    "axes",
                    self.axes.iter().map(String::as_str),
                )),
            });
        }
        self.cell.get(name).map(|setting| setting.node.clone())
    }

    /// The axes that a value hangs on, directly or through variables.
    pub(crate) fn axes_of(&mut self, node: &Node, sink: &mut Sink) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.gather(node, &mut found, sink);
        found
    }

    fn gather(&mut self, node: &Node, found: &mut BTreeSet<String>, sink: &mut Sink) {
        match &node.value {
            // What is wrong with a text is told where it is replaced.
            Raw::Text(text) if names_something(text) => {
                for piece in pieces(text).unwrap_or_default() {
                    match piece {
                        Piece::Named(Name::Axis(name)) => found.extend([name.to_owned()]),
                        Piece::Named(Name::Var(name)) if self.states.contains_key(name) => {
                            if let Some(State::Varies(_, axes)) = self.var(name, &node.span, sink) {
                                found.extend(axes);
                            }
                        }
                        _ => {}
                    }
                }
            }
            Raw::List(items) => items.iter().for_each(|item| self.gather(item, found, sink)),
            Raw::Table(table) => table.0.iter().for_each(|entry| self.gather(&entry.node, found, sink)),
            _ => {}
        }
    }

    /// Says for which cell texts are replaced from now on.
    pub(crate) fn enter(&mut self, cell: &Cell) {
        self.cell.clone_from(cell);
    }

    /// Whether a variable is another in every cell.
    pub(crate) fn varies(&self, name: &str) -> bool {
        matches!(self.states.get(name), Some(State::Varies(..)))
    }

    /// A variable, worked out; nothing if that cannot be, which has then been told.
    fn var(&mut self, name: &str, span: &Span, sink: &mut Sink) -> Option<State> {
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
        self.resolve(name, sink)
    }

    fn resolve(&mut self, name: &str, sink: &mut Sink) -> Option<State> {
        let state = self.states.get_mut(name)?;
        let mut node = match state {
            State::Done(_) | State::Varies(..) => return Some(state.clone()),
            State::Busy => return None,
            State::Written(_) => match std::mem::replace(state, State::Busy) {
                State::Written(node) => node,
                _ => return None,
            },
        };
        self.chain.push(name.to_owned());
        let before = sink.count();
        let axes = self.axes_of(&node, sink);
        if axes.is_empty() && sink.count() == before {
            self.expand(&mut node, sink);
        } else {
            self.know(&axes, &node.span, sink);
        }
        self.chain.pop();
        if sink.count() > before {
            node.value = Raw::Broken;
        } else if size(&node) > VALUE || depth(&node) > NESTED {
            sink.push(&node.span, || Problem::new(format!("variable `{}` is too large or nested too deeply", shown(name))));
            node.value = Raw::Broken;
        }
        let state = if axes.is_empty() || node.is_broken() { State::Done(node) } else { State::Varies(node, axes) };
        self.states.insert(name.to_owned(), state.clone());
        Some(state)
    }

    /// Tells axes that there are not.
    fn know(&self, axes: &BTreeSet<String>, span: &Span, sink: &mut Sink) {
        for axis in axes.iter().filter(|axis| !self.axes.contains(axis)) {
            let _unknown = self.axis(axis, span, sink);
        }
    }
}

/// Whether there may be something to replace. Most texts have no dollar sign, which is seen at once.
fn names_something(text: &str) -> bool {
    text.as_bytes().contains(&b'$') && text.contains("${")
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
        pieces.push(Piece::Named(named(inside)?));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    Ok(pieces)
}

/// What is named between `${` and `}`.
fn named(inside: &str) -> Result<Name<'_>, Problem> {
    if let Some(name) = inside.strip_prefix("vars.") {
        return Ok(Name::Var(name));
    }
    if let Some(name) = inside.strip_prefix("matrix.") {
        return Ok(Name::Axis(name));
    }
    let inside_shown = shown(inside);
    let help = if is_name(inside) {
        format!("did you mean `${{vars.{inside}}}`?")
    } else {
        "write `${vars.NAME}` or `${matrix.AXIS}`, or `$${` for a plain `${`".to_owned()
    };
    Err(Problem::new(format!("`${{{inside_shown}}}` is no variable")).help(help))
}

/// Everything that comes from a variable points at where it is used, and remembers where it was written.
fn stamp(node: &mut Node, span: &Span) {
    let written = std::mem::replace(&mut node.span, span.clone());
    node.source.get_or_insert(written);
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
