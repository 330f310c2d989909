//! `--set PATH=VALUE`: one value of a pipeline replaced from outside.

use std::fmt;
use std::str::FromStr;

use crate::check::{hints, takes_seed};
use crate::kind::StageKind;
use crate::kinds::Kinds;
use crate::name::shown;
use crate::nearest::suggest;
use crate::param::{Param, Role, Ty};
use crate::raw::{self, Entry, Node, Raw, Table};
use crate::source::{Problem, Sink, Span};

/// One value of a pipeline replaced from outside: `vars.squad=/data/squad`, `seed=7`, `stages.qlora.train.lr=3e-5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// What to replace: `seed`, `numerics`, `vars.NAME`, or `stages.STAGE.PARAMETER`; dotted for nested parameters.
    pub path: String,
    /// The value as given: TOML where it is TOML and that fits, else text.
    pub value: String,
}

/// An override without `=`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form PATH=VALUE; write for example `vars.squad=data` or `stages.train.lr=3e-5`")]
pub struct OverrideSyntax(pub String);

impl FromStr for Override {
    type Err = OverrideSyntax;

    fn from_str(text: &str) -> Result<Self, OverrideSyntax> {
        let (path, value) = text.split_once('=').ok_or_else(|| OverrideSyntax(text.to_owned()))?;
        if path.trim().is_empty() {
            return Err(OverrideSyntax(text.to_owned()));
        }
        Ok(Self { path: path.trim().to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path, self.value)
    }
}

/// Puts every override into the tree of the file. What does not exist goes to `sink`; types of parameters are checked later,
/// with the rest of the stage.
pub(crate) fn apply(root: &mut Table, overrides: &[Override], kinds: &Kinds, sink: &mut Sink) {
    for (number, change) in (1..).zip(overrides) {
        let path = Span { origin: number, start: 0, end: change.path.len() };
        let node = value(change, number);
        if let Err(problem) = set(root, &change.path, node, &path, kinds) {
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

/// The value as TOML if it is TOML that a pipeline can hold (no date, no number too large), else as text.
fn value(change: &Override, number: u32) -> Node {
    let start = change.path.len() + 1;
    let trimmed = change.value.trim();
    let offset = start + (change.value.len() - change.value.trim_start().len());
    let span = Span { origin: number, start, end: start + change.value.len() };
    let as_text = || Node::new(Raw::Text(change.value.clone()), span.clone());
    let mut node = raw::override_value(trimmed, number, offset).unwrap_or_else(as_text);
    if node.as_text().is_none() {
        node.text = Some(change.value.clone());
    }
    node
}

fn set(root: &mut Table, path: &str, node: Node, span: &Span, kinds: &Kinds) -> Result<(), Refused> {
    let parts: Vec<&str> = path.split('.').collect();
    match parts[..] {
        ["seed" | "numerics"] => put(root, &parts, node, span),
        ["name"] => return Err(Problem::new("the name of a pipeline cannot be set from outside").into()),
        ["vars", name] => set_var(root, name, node)?,
        ["stages", stage, ref rest @ ..] if !rest.is_empty() => {
            let names: Vec<&str> = root.get("stages").and_then(Node::as_table).map(|table| table.keys().collect()).unwrap_or_default();
            let found = root.get("stages").and_then(|stages| stages.as_table()?.get(stage));
            let Some(found) = found else {
                return Err(Problem::new(format!("no stage `{}`", shown(stage))).help(suggest(stage, "stages", names)).into());
            };
            let kind = found.as_table().and_then(|table| table.get("kind")?.as_text()).and_then(|kind| kinds.get(kind));
            // An unknown kind is told where the stage is checked.
            let Some(kind) = kind else { return Ok(()) };
            declared(kind, found, rest)?;
            put(root, &parts, node, span);
        }
        _ => {
            let help = "what can be set: seed, numerics, vars.NAME, stages.STAGE.PARAMETER".to_owned();
            return Err(Problem::new(format!("`{}` cannot be set", shown(path))).help(help).into());
        }
    }
    Ok(())
}

fn set_var(root: &mut Table, name: &str, mut node: Node) -> Result<(), Refused> {
    let vars = match root.get_mut("vars").map(|vars| &mut vars.value) {
        Some(Raw::Table(table)) => table,
        _ => return Err(Problem::new(format!("no variable `{}`", shown(name))).help("the pipeline has no [vars]".to_owned()).into()),
    };
    let Some(old) = vars.get_mut(name) else {
        let help = suggest(name, "variables", vars.keys());
        return Err(Problem::new(format!("no variable `{}`", shown(name))).help(help).into());
    };
    let made_from_others = old.as_text().is_some_and(|text| text.contains("${"));
    match (&old.value, &node.value) {
        (Raw::Text(_), Raw::Int(_) | Raw::Float(_) | Raw::Bool(_) | Raw::List(_) | Raw::Table(_)) if !made_from_others => {
            node.value = Raw::Text(node.text.take().unwrap_or_default());
        }
        #[expect(clippy::cast_precision_loss, reason = "the variable is a number")]
        (Raw::Float(_), Raw::Int(number)) => node.value = Raw::Float(*number as f64),
        (old, new) if !made_from_others && sort(old) != sort(new) && !old_or_new_broken(old, new) => {
            let what = Problem::new(format!("variable `{}` is {} in the file", shown(name), sort(old))).label(node.describe());
            return Err(Refused { what, at: Some(node.span) });
        }
        _ => {}
    }
    node.text = None;
    *old = node;
    Ok(())
}

fn old_or_new_broken(old: &Raw, new: &Raw) -> bool {
    matches!(old, Raw::Broken) || matches!(new, Raw::Broken)
}

fn sort(value: &Raw) -> &'static str {
    match value {
        Raw::Text(_) => "text",
        Raw::Int(_) | Raw::Float(_) => "a number",
        Raw::Bool(_) => "true or false",
        Raw::List(_) => "a list",
        Raw::Table(_) | Raw::Broken => "a table",
    }
}

/// Whether the kind declares the parameter at this path below a stage.
fn declared(kind: &'static dyn StageKind, stage: &Node, path: &[&str]) -> Result<(), Problem> {
    let (first, rest) = path.split_first().ok_or_else(|| Problem::new("no parameter is named"))?;
    match *first {
        "kind" => return Err(Problem::new("the kind of a stage cannot be set from outside")),
        "seed" if rest.is_empty() && takes_seed(kind) => return Ok(()),
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
