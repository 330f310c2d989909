//! `--set PATH=VALUE` and `--sweep PATH=V1,V2`: one value of a pipeline replaced from outside, by one or by several, each in its turn.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::check::{hints, takes_seed};
use crate::kind::StageKind;
use crate::kinds::Kinds;
use crate::name::shown;
use crate::nearest::suggest;
use crate::param::{Param, Role, Ty};
use crate::part::Part;
use crate::raw::{self, Entry, Node, Raw, Table};
use crate::selector::pieces;
use crate::source::{Origin, Problem, Sink, Span};
use crate::{matrix, slurm, sweep, variable};

/// One value of a pipeline replaced from outside: `vars.squad=/data/squad`, `seed=7`, `stages.qlora.train.lr=3e-5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// What to replace: `seed`, `numerics`, `vars.NAME`, `matrix.AXIS`, or `stages.STAGE.PARAMETER`; dotted for nested parameters.
    pub path: String,
    /// The value as given: TOML where it is TOML and that fits, else text.
    pub value: String,
    /// Whether it is several values, with commas between them or as a list: an axis of the matrix.
    pub sweep: bool,
}

/// An override without `=`, or without values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideSyntax {
    /// One value was wanted.
    #[error("`{0}` is not of the form PATH=VALUE; write for example `vars.squad=data` or `stages.train.lr=3e-5`")]
    Set(String),
    /// Several were.
    #[error("`{0}` is not of the form PATH=VALUE,VALUE; write for example `stages.lora.rank=4,8`")]
    Sweep(String),
}

impl Override {
    /// Several values for one place, each in its turn: `stages.lora.rank=4,8,16`.
    ///
    /// # Errors
    /// Where the text has no `=`, or a value is missing.
    pub fn sweep(text: &str) -> Result<Self, OverrideSyntax> {
        let wrong = || OverrideSyntax::Sweep(text.to_owned());
        let change: Self = text.parse().map_err(|_| wrong())?;
        let is_whole = pieces(&change.value).all(|value| !value.trim().is_empty());
        is_whole.then_some(Self { sweep: true, ..change }).ok_or_else(wrong)
    }
}

impl FromStr for Override {
    type Err = OverrideSyntax;

    fn from_str(text: &str) -> Result<Self, OverrideSyntax> {
        let (path, value) = text.split_once('=').ok_or_else(|| OverrideSyntax::Set(text.to_owned()))?;
        if path.trim().is_empty() {
            return Err(OverrideSyntax::Set(text.to_owned()));
        }
        Ok(Self { path: path.trim().to_owned(), value: value.to_owned(), sweep: false })
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path, self.value)
    }
}

/// The names under which several stages are one, and what these are called in their own right.
pub(crate) type Shared = HashMap<String, Vec<String>>;

/// Whether an override may name stages that only sharing gives this name.
pub(crate) fn need_shared(parts: &[Part], overrides: &[Override]) -> bool {
    let stage = |change: &Override| change.path.strip_prefix("stages.").and_then(|rest| rest.split('.').next().map(str::to_owned));
    parts.len() > 1 && overrides.iter().filter_map(stage).any(|stage| find(parts, &stage).is_none())
}

/// The variables that overrides set.
pub(crate) fn variables(overrides: &[Override]) -> HashSet<&str> {
    overrides.iter().filter_map(|change| change.path.strip_prefix("vars.")).collect()
}

/// Puts every override into the trees of the files. What does not exist goes to `sink`; types of parameters are checked later,
/// with the rest of the stage.
pub(crate) fn apply(parts: &mut [Part], overrides: &[Override], kinds: &Kinds, shared: &Shared, sink: &mut Sink) {
    let axes = sweep::axes(parts, overrides);
    for ((number, wanted), axis) in (0..).zip(overrides).zip(axes) {
        let origin = Origin::Override(number);
        let path = Span::at(origin, 0..wanted.path.len());
        let (node, axis) = match axis {
            Some(axis) => (Node::new(Raw::Text(format!("${{matrix.{axis}}}")), path.clone()), Some((axis, values(wanted, origin)))),
            None => (value(&wanted.value, origin, wanted.path.len() + 1), None),
        };
        let mut change = Change { parts: &mut *parts, node, axis, path: &path, kinds, shared };
        if let Err(problem) = change.set(&wanted.path) {
            let at = problem.at.unwrap_or(path);
            sink.push(&at, || problem.what);
        }
    }
}

/// What is wrong, and where if not at the path.
struct Refused {
    what: Problem,
    at: Option<Span>,
}

impl From<Problem> for Refused {
    fn from(what: Problem) -> Self {
        Self { what, at: None }
    }
}

/// The value as TOML if it is TOML that a pipeline can hold (no date, no number too large), else as text. It stands at `start` in its override.
fn value(text: &str, origin: Origin, start: usize) -> Node {
    let offset = start + (text.len() - text.trim_start().len());
    let span = Span::at(origin, start..start + text.len());
    let as_text = || Node::new(Raw::Text(text.to_owned()), span.clone());
    let mut node = raw::override_value(text.trim(), origin, offset).unwrap_or_else(as_text);
    if node.as_text().is_none() {
        node.text = Some(text.to_owned());
    }
    node.at_home(&Path::new("").into());
    node
}

/// The values of a sweep: a TOML list, or what stands between commas.
fn values(change: &Override, origin: Origin) -> Vec<Node> {
    let start = change.path.len() + 1;
    if let Raw::List(items) = value(&change.value, origin, start).value {
        return items;
    }
    let mut at = start;
    let next = |text: &str| {
        let node = value(text, origin, at);
        at += text.len() + 1;
        node
    };
    pieces(&change.value).map(next).collect()
}

/// The part that has a stage of this name in the whole pipeline, and what the part calls it.
fn find<'s>(parts: &[Part], stage: &'s str) -> Option<(usize, &'s str)> {
    let own = |(number, part): (usize, &Part)| {
        let name = stage.strip_prefix(&part.prefix)?;
        part.stage(name).map(|_| (number, name))
    };
    parts.iter().enumerate().find_map(own)
}

/// One override on its way into the trees.
struct Change<'a> {
    parts: &'a mut [Part],
    node: Node,
    /// The axis that the value stands for, and the axis's values.
    axis: Option<(String, Vec<Node>)>,
    /// The place of the path.
    path: &'a Span,
    kinds: &'a Kinds,
    shared: &'a Shared,
}

impl Change<'_> {
    fn set(&mut self, path: &str) -> Result<(), Refused> {
        let words: Vec<&str> = path.split('.').collect();
        match words[..] {
            ["seed"] => (0..self.parts.len()).for_each(|part| self.put(part, &words)),
            ["numerics"] if self.axis.is_none() => {
                self.parts.iter_mut().for_each(|part| put(&mut part.root, &words, self.node.clone(), self.path))
            }
            ["name"] => return Err(Problem::new("the name of a pipeline cannot be set from outside").into()),
            ["vars", name] => self.var(name)?,
            ["matrix", axis] if self.axis.is_none() => self.values_of(axis)?,
            ["stages", stage, ref rest @ ..] if !rest.is_empty() => self.stage(stage, rest)?,
            _ => {
                let (done, more) = if self.axis.is_some() { ("swept", "") } else { ("set", "numerics, matrix.AXIS, ") };
                let help = format!("what can be {done}: seed, {more}vars.NAME, stages.STAGE.PARAMETER");
                return Err(Problem::new(format!("`{}` cannot be {done}", shown(path))).help(help).into());
            }
        }
        Ok(())
    }

    /// Sets a variable in every file that has it.
    fn var(&mut self, name: &str) -> Result<(), Refused> {
        let mut found = false;
        for number in 0..self.parts.len() {
            let part = &self.parts[number];
            let place = if part.is_included() { format!("`{}`", part.file.display()) } else { "the file".to_owned() };
            let Some(old) = part.variables().and_then(|table| table.get(name)) else { continue };
            let fit =
                |node: &Node| variable::fit(name, old, node.clone(), &place).map_err(|what| Refused { what, at: Some(node.span.clone()) });
            match &self.axis {
                Some((axis, values)) => self.axis = Some((axis.clone(), values.iter().map(fit).collect::<Result<_, _>>()?)),
                None => self.node = fit(&self.node)?,
            }
            self.put(number, &["vars", name]);
            found = true;
        }
        if found { Ok(()) } else { Err(self.no_variable(name).into()) }
    }

    /// Replaces the values of an axis in every file that has it.
    fn values_of(&mut self, axis: &str) -> Result<(), Problem> {
        let matrix = |part: &Part| matrix::axes(part.root.get("matrix").and_then(Node::as_table));
        let names: Vec<Vec<String>> = self.parts.iter().map(matrix).collect();
        let having: Vec<usize> = (0..names.len()).filter(|&part| names[part].iter().any(|name| name == axis)).collect();
        if having.is_empty() {
            let names = names.iter().flatten().map(String::as_str);
            return Err(Problem::new(format!("no axis `{}`", shown(axis))).help(suggest(axis, "axes", names)));
        }
        having.into_iter().for_each(|part| self.put(part, &["matrix", axis]));
        Ok(())
    }

    /// Puts the value into a file, and its axis.
    fn put(&mut self, part: usize, path: &[&str]) {
        let root = &mut self.parts[part].root;
        put(root, path, self.node.clone(), self.path);
        if let Some((axis, values)) = &self.axis {
            let list = Node::new(Raw::List(values.clone()), self.path.clone());
            put(root, &["matrix", axis], list, self.path);
        }
    }

    fn no_variable(&self, name: &str) -> Problem {
        let problem = Problem::new(format!("no variable `{}`", shown(name)));
        let mut tables = self.parts.iter().rev().filter_map(Part::variables).peekable();
        if tables.peek().is_none() {
            return problem.help("the pipeline has no [vars]".to_owned());
        }
        let names: Vec<&str> = tables.flat_map(Table::keys).collect();
        problem.help(suggest(name, "variables", names))
    }

    /// Sets a parameter of a stage, or of all stages that this name stands for.
    fn stage(&mut self, stage: &str, rest: &[&str]) -> Result<(), Problem> {
        if let Some((part, own)) = find(self.parts, stage) {
            return self.parameter(part, own, rest);
        }
        let several = self.shared.get(stage).ok_or_else(|| self.no_stage(stage))?;
        for name in several {
            if let Some((part, own)) = find(self.parts, name) {
                self.parameter(part, own, rest)?;
            }
        }
        Ok(())
    }

    fn no_stage(&self, stage: &str) -> Problem {
        let full = |part: &Part| -> Vec<String> {
            part.stages().into_iter().flat_map(Table::keys).map(|name| format!("{}{name}", part.prefix)).collect()
        };
        let mut shared: Vec<String> = self.shared.keys().cloned().collect();
        shared.sort();
        let names: Vec<String> = self.parts.iter().flat_map(full).chain(shared).collect();
        Problem::new(format!("no stage `{}`", shown(stage))).help(suggest(stage, "stages", names.iter().map(String::as_str)))
    }

    fn parameter(&mut self, part: usize, stage: &str, rest: &[&str]) -> Result<(), Problem> {
        let Some(found) = self.parts[part].stage(stage) else { return Ok(()) };
        let kind = found.as_table().and_then(|table| table.get("kind")?.as_text()).and_then(|kind| self.kinds.get(kind));
        // An unknown kind is told where the stage is checked.
        let Some(kind) = kind else { return Ok(()) };
        declared(kind, found, rest)?;
        let words = [&["stages", stage], rest].concat();
        self.put(part, &words);
        Ok(())
    }
}

/// Whether the kind declares the parameter at this path below a stage.
fn declared(kind: &'static dyn StageKind, stage: &Node, path: &[&str]) -> Result<(), Problem> {
    let (first, rest) = path.split_first().ok_or_else(|| Problem::new("no parameter is named"))?;
    match *first {
        "kind" => return Err(Problem::new("the kind of a stage cannot be set from outside")),
        "seed" if rest.is_empty() && takes_seed(kind) => return Ok(()),
        "slurm" => return field(slurm::PARAMS, stage.at("slurm"), "`slurm`", rest),
        "hints" => {
            let hints = hints(kind);
            return field(&hints, stage.at("hints"), "`hints`", rest);
        }
        _ => {}
    }
    let params: Vec<Param> = kind.params().iter().filter(|param| param.role == Role::Param).copied().collect();
    if let Some(hint) = hints(kind).iter().find(|hint| hint.name == *first) {
        let help = format!("write `hints.{}`", hint.name);
        return Err(Problem::new(format!("`{}` is a hint", hint.name)).help(help));
    }
    field(&params, Some(stage), &format!("kind `{}`", kind.name()), path)
}

/// The declared key `path[0]` and what lies below it.
fn field(params: &[Param], node: Option<&Node>, whose: &str, path: &[&str]) -> Result<(), Problem> {
    let Some((first, rest)) = path.split_first() else {
        return Err(Problem::new(format!("{whose} is a table; set one of its parts")));
    };
    let Some(param) = params.iter().find(|param| param.name == *first) else {
        let names = params.iter().map(|param| param.name);
        return Err(Problem::new(format!("{whose} has no parameter `{}`", shown(first))).help(suggest(first, "parameters", names)));
    };
    below(&param.ty, node.and_then(|node| node.at(first)), first, rest)
}

fn below(ty: &Ty, node: Option<&Node>, name: &str, path: &[&str]) -> Result<(), Problem> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    match ty {
        Ty::Table(params) => field(params, node, &format!("`{name}`"), path),
        Ty::Map(item) | Ty::List(item) => match node.and_then(|node| node.at(first)) {
            Some(part) => below(item, Some(part), first, rest),
            None => {
                let names: Vec<&str> = node.and_then(Node::as_table).map(|table| table.keys().collect()).unwrap_or_default();
                Err(Problem::new(format!("`{name}` has no part `{}` in the file", shown(first))).help(suggest(first, "parts", names)))
            }
        },
        Ty::OneOf(types) => {
            let mut last = Err(Problem::new(format!("`{name}` has no parts")));
            for ty in *types {
                last = below(ty, node, name, path);
                if last.is_ok() {
                    break;
                }
            }
            last
        }
        _ => Err(Problem::new(format!("`{name}` has no parts"))),
    }
}

/// Puts a value at a path, making tables on the way. Where something else than a table stands in the way, the check of the
/// stage tells it.
fn put(table: &mut Table, path: &[&str], node: Node, span: &Span) {
    let Some((first, rest)) = path.split_first() else { return };
    let index = table.0.iter().position(|entry| entry.key == *first).unwrap_or_else(|| {
        let empty = Node::new(Raw::Table(Table::default()), span.clone());
        table.0.push(Entry { key: (*first).to_owned(), span: span.clone(), node: empty });
        table.0.len() - 1
    });
    let Some(entry) = table.0.get_mut(index) else { return };
    if rest.is_empty() {
        entry.node = node;
        return;
    }
    match &mut entry.node.value {
        Raw::Table(inner) => put(inner, rest, node, span),
        Raw::List(items) => {
            if let Some(item) = rest[0].parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                put_in_item(item, &rest[1..], node, span);
            }
        }
        _ => {}
    }
}

fn put_in_item(item: &mut Node, rest: &[&str], node: Node, span: &Span) {
    match &mut item.value {
        _ if rest.is_empty() => *item = node,
        Raw::Table(inner) => put(inner, rest, node, span),
        _ => {}
    }
}
