//! One value against its declared type: what the stage sees, what enters the fingerprint, and what it reads.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

use crate::check::{DraftInput, From};
use crate::name::{is_name, no_name, shown};
use crate::nearest::{nearest, suggest};
use crate::param::{Accepts, Default, Param, Role, Ty};
use crate::raw::{Node, Raw, Table};
use crate::selector::{Selector, stage_and_output};
use crate::source::{Problem, Sink, Span};
use crate::ty_text::wanted;

/// A value that fits.
pub(crate) struct Checked {
    /// As the stage sees it.
    pub(crate) value: Value,
    /// As it enters the fingerprint.
    pub(crate) canonical: Canonical,
}

/// How a value enters the fingerprint.
pub(crate) enum Canonical {
    /// As the stage sees it.
    Same,
    /// Like this: without its references, paths, defaults, and sorted.
    Other(Value),
    /// Not at all: it is a reference or a path.
    Nothing,
}

impl Checked {
    fn plain(value: Value) -> Self {
        Self { canonical: Canonical::Same, value }
    }

    fn input(text: &str) -> Self {
        Self { value: Value::from(text), canonical: Canonical::Nothing }
    }

    /// The value as it enters the fingerprint, if it does.
    fn canonical(&self) -> Option<&Value> {
        match &self.canonical {
            Canonical::Same => Some(&self.value),
            Canonical::Other(value) => Some(value),
            Canonical::Nothing => None,
        }
    }
}

/// Checks values and gathers the inputs among them.
pub(crate) struct Checker<'a> {
    stages: &'a HashSet<String>,
    pub(crate) sink: &'a mut Sink,
    inputs: Vec<DraftInput>,
    /// Where the check is: the dotted path of the parameter at hand.
    path: String,
    /// Whether a number from a variable may stand where a text is wanted.
    loose: bool,
}

const NO_ACCEPTS: Accepts = Accepts { types: &[], part: &[] };

impl<'a> Checker<'a> {
    pub(crate) fn new(stages: &'a HashSet<String>, sink: &'a mut Sink) -> Self {
        Self { stages, sink, inputs: Vec::new(), path: String::new(), loose: true }
    }

    pub(crate) fn into_inputs(self) -> Vec<DraftInput> {
        self.inputs
    }

    /// A table's declared keys, defaults filled. `whose` names it in messages; unknown keys are the caller's matter.
    pub(crate) fn fields(&mut self, params: &[Param], table: &Table, whose: &str, span: &Span) -> Checked {
        let mut values = Map::new();
        let mut canonical = Vec::new();
        for param in params {
            let checked = match table.get(param.name) {
                Some(node) => self.value_at(param.name, &param.ty, node),
                None => self.missing(param, whose, span),
            };
            let Some(checked) = checked else { continue };
            if let Some(value) = checked.canonical().filter(|value| param.role == Role::Param && !is_default(param, value)) {
                canonical.push((param.name.to_owned(), value.clone()));
            }
            values.insert(param.name.to_owned(), checked.value);
        }
        canonical.sort_by(|(a, _), (b, _)| a.cmp(b));
        Checked { value: Value::Object(values), canonical: Canonical::Other(Value::Object(canonical.into_iter().collect())) }
    }

    fn missing(&mut self, param: &Param, whose: &str, span: &Span) -> Option<Checked> {
        let raw = match param.default {
            Default::Absent => return None,
            Default::Required => {
                self.sink.push(span, || {
                    Problem::new(format!("{whose} lacks `{}`", param.name)).label(wanted(&param.ty)).help(param.doc.to_owned())
                });
                return None;
            }
            Default::Bool(truth) => Raw::Bool(truth),
            Default::Int(number) => Raw::Int(number),
            Default::Float(number) => Raw::Float(number),
            Default::Str(text) => Raw::Text(text.to_owned()),
            Default::Table => Raw::Table(Table::default()),
        };
        self.value_at(param.name, &param.ty, &Node::new(raw, span.clone()))
    }

    /// One value below the path at hand.
    pub(crate) fn value_at(&mut self, part: &str, ty: &Ty, node: &Node) -> Option<Checked> {
        let outer = self.path.len();
        self.enter(part);
        let checked = self.value(ty, node);
        self.path.truncate(outer);
        checked
    }

    /// Goes below the path at hand.
    pub(crate) fn enter(&mut self, part: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(part);
    }

    /// Back to the stage.
    pub(crate) fn leave(&mut self) {
        self.path.clear();
    }

    /// One value; nothing if it does not fit, which has then been told.
    pub(crate) fn value(&mut self, ty: &Ty, node: &Node) -> Option<Checked> {
        match (ty, &node.value) {
            (_, Raw::Broken) => None,
            (Ty::Bool, Raw::Bool(truth)) => Some(Checked::plain(Value::from(*truth))),
            (Ty::Int { min, max }, Raw::Int(number)) => {
                let side = side(number < min, number > max);
                self.bounded(ty, node, &number.to_string(), side).map(|()| Checked::plain(Value::from(*number)))
            }
            #[expect(clippy::cast_precision_loss, reason = "a number is wanted")]
            (Ty::Float { .. }, Raw::Int(number)) => self.float(ty, *number as f64, node),
            (Ty::Float { .. }, Raw::Float(number)) => self.float(ty, *number, node),
            (Ty::List(item), Raw::List(items)) => self.list(item, items),
            (Ty::Map(item), Raw::Table(table)) => self.map(item, table),
            (Ty::Table(params), Raw::Table(table)) => Some(self.table(params, table, node)),
            (Ty::OneOf(types), _) => self.one_of(ty, types, node),
            (Ty::Str | Ty::Choice(_) | Ty::Path { .. } | Ty::Ref(_) | Ty::RefOrPath(_), _) => match self.text(node) {
                Some(text) => self.word(ty, text, node),
                None => self.wrong(ty, node),
            },
            _ => self.wrong(ty, node),
        }
    }

    fn text<'n>(&self, node: &'n Node) -> Option<&'n str> {
        node.as_text().or(if self.loose { node.text.as_deref() } else { None })
    }

    /// A type that is written as text.
    fn word(&mut self, ty: &Ty, text: &str, node: &Node) -> Option<Checked> {
        match *ty {
            Ty::Choice(words) if words.contains(&text) => Some(Checked::plain(Value::from(text))),
            Ty::Choice(words) => {
                let help = || nearest(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?"));
                self.complain(ty, node, |problem| problem.label(format!("`{}` is none of them", shown(text))).help(help()))
            }
            Ty::Path { hub } => self.path(ty, hub, text, node),
            Ty::RefOrPath(accepts) | Ty::Ref(accepts) if text.starts_with('@') => self.reference(ty, accepts, text, node),
            Ty::RefOrPath(accepts) => {
                self.safe_path(ty, text, node)?;
                Some(self.input(From::Path(text.to_owned()), accepts, text, node))
            }
            Ty::Ref(_) => {
                let help = self.stages.contains(text).then(|| format!("did you mean `@{text}`?"));
                self.complain(ty, node, |problem| problem.label("a reference begins with `@`").help(help))
            }
            _ => Some(Checked::plain(Value::from(text))),
        }
    }

    fn path(&mut self, ty: &Ty, hub: bool, text: &str, node: &Node) -> Option<Checked> {
        if let Some(repository) = text.strip_prefix("hub:") {
            if !hub {
                return self.complain(ty, node, |problem| problem.label("`hub:` is not taken here"));
            }
            if !is_repository(repository) {
                return self.complain(ty, node, |problem| problem.label(format!("`{}` names no repository", shown(repository))));
            }
            return Some(Checked::plain(Value::from(text)));
        }
        if text.starts_with('@') {
            let told = |problem: Problem| {
                problem.label("a reference is not taken here").help(format!("a path that begins with `@` is written `./{}`", shown(text)))
            };
            return self.complain(ty, node, told);
        }
        self.safe_path(ty, text, node)?;
        Some(self.input(From::Path(text.to_owned()), NO_ACCEPTS, text, node))
    }

    fn safe_path(&mut self, ty: &Ty, text: &str, node: &Node) -> Option<()> {
        if text.is_empty() || text.contains('\0') {
            let label = if text.is_empty() { "this is empty" } else { "this holds a zero byte" };
            return self.complain(ty, node, |problem| problem.label(label));
        }
        Some(())
    }

    fn reference(&mut self, ty: &Ty, accepts: Accepts, text: &str, node: &Node) -> Option<Checked> {
        let (named, output) = stage_and_output(text.strip_prefix('@').unwrap_or(text));
        let selector = Selector::parse(named).filter(|selector| is_name(selector.family) && output.is_none_or(is_name));
        let Some(Selector { family, settings }) = selector else {
            let label = format!("`{}` is no reference", shown(text));
            let form = if text.contains('[') { "`@stage[axis=value]`" } else { "`@stage` or `@stage.output`" };
            return self.complain(ty, node, |problem| problem.label(label).help(format!("write {form}")));
        };
        let cell = settings.into_iter().map(|(axis, value)| (axis.to_owned(), value.to_owned())).collect();
        let from = From::Stage { stage: family.to_owned(), cell, output: output.map(str::to_owned) };
        Some(self.input(from, accepts, text, node))
    }

    fn input(&mut self, from: From, accepts: Accepts, text: &str, node: &Node) -> Checked {
        let (span, home) = (node.span.clone(), node.home.clone());
        self.inputs.push(DraftInput { param: self.path.clone(), from, accepts, span, home });
        Checked::input(text)
    }

    fn float(&mut self, ty: &Ty, number: f64, node: &Node) -> Option<Checked> {
        let &Ty::Float { min, max } = ty else { return None };
        // Adding zero turns -0.0 into 0.0, which is the same number.
        let Some(json) = Number::from_f64(number + 0.0) else {
            return self.complain(ty, node, |problem| problem.label(format!("`{number}` is not finite")));
        };
        self.bounded(ty, node, &format!("{number:?}"), side(number < min, number > max))?;
        Some(Checked::plain(Value::Number(json)))
    }

    fn bounded(&mut self, ty: &Ty, node: &Node, number: &str, side: Option<&str>) -> Option<()> {
        match side {
            None => Some(()),
            Some(side) => self.complain(ty, node, |problem| problem.label(format!("{number} is too {side}"))),
        }
    }

    fn list(&mut self, item: &Ty, items: &[Node]) -> Option<Checked> {
        let mut checked = Vec::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            let outer = self.path.len();
            let _ = write!(self.path, ".{index}");
            checked.extend(self.value(item, node));
            self.path.truncate(outer);
        }
        if checked.len() < items.len() {
            return None;
        }
        let canonical = if checked.iter().all(|item| matches!(item.canonical, Canonical::Same)) {
            Canonical::Same
        } else {
            let items: Vec<Value> = checked.iter().filter_map(|item| item.canonical().cloned()).collect();
            if items.is_empty() { Canonical::Nothing } else { Canonical::Other(Value::Array(items)) }
        };
        Some(Checked { value: checked.into_iter().map(|item| item.value).collect(), canonical })
    }

    fn map(&mut self, item: &Ty, table: &Table) -> Option<Checked> {
        let mut values = Map::new();
        let mut canonical = Vec::new();
        let mut sound = true;
        for entry in &table.0 {
            if !is_name(&entry.key) {
                let path = &self.path;
                self.sink.push(&entry.span, || no_name(&format!("an entry of `{path}`"), &entry.key));
                sound = false;
                continue;
            }
            let Some(checked) = self.value_at(&entry.key, item, &entry.node) else {
                sound = false;
                continue;
            };
            canonical.extend(checked.canonical().map(|value| (entry.key.clone(), value.clone())));
            values.insert(entry.key.clone(), checked.value);
        }
        canonical.sort_by(|(a, _), (b, _)| a.cmp(b));
        let nothing = canonical.is_empty() && !values.is_empty();
        let canonical = if nothing { Canonical::Nothing } else { Canonical::Other(Value::Object(canonical.into_iter().collect())) };
        sound.then_some(Checked { value: Value::Object(values), canonical })
    }

    fn table(&mut self, params: &[Param], table: &Table, node: &Node) -> Checked {
        for entry in &table.0 {
            if !params.iter().any(|param| param.name == entry.key) {
                let names = params.iter().map(|param| param.name);
                let (path, key) = (&self.path, &entry.key);
                self.sink.push(&entry.span, || {
                    Problem::new(format!("`{path}` has no parameter `{}`", shown(key))).help(suggest(key, "parameters", names))
                });
            }
        }
        let whose = format!("`{}`", self.path);
        self.fields(params, table, &whose, &node.span)
    }

    /// The first type that fits: at first as written, then with numbers from variables taken as texts. If none fits, the
    /// errors of the only one that is written like this are told, or else all that is wanted.
    fn one_of(&mut self, ty: &Ty, types: &[Ty], node: &Node) -> Option<Checked> {
        let told = std::mem::take(self.sink);
        let was_loose = std::mem::replace(&mut self.loose, false);
        let mut likely = Vec::new();
        let mut found = types.iter().filter(|ty| same_shape(ty, node)).find_map(|ty| self.attempt(ty, node, &mut likely));
        self.loose = was_loose;
        if found.is_none() && self.loose && node.text.is_some() {
            found = types.iter().find_map(|ty| self.attempt(ty, node, &mut Vec::new()));
        }
        *self.sink = told;
        if found.is_none() && likely.len() == 1 {
            likely.into_iter().for_each(|errors| self.sink.absorb(errors));
        } else if found.is_none() {
            return self.complain(ty, node, |problem| problem.label(node.describe()));
        }
        found
    }

    /// Tries a type; if it does not fit, nothing remains but its errors.
    fn attempt(&mut self, ty: &Ty, node: &Node, failed: &mut Vec<Sink>) -> Option<Checked> {
        let inputs = self.inputs.len();
        let checked = self.value(ty, node);
        let errors = std::mem::take(self.sink);
        if checked.is_some() && errors.count() == 0 {
            return checked;
        }
        self.inputs.truncate(inputs);
        failed.push(errors);
        None
    }

    fn wrong(&mut self, ty: &Ty, node: &Node) -> Option<Checked> {
        let unquoted = || match (ty, node.as_text()) {
            (Ty::Bool, Some("true" | "false")) => true,
            (Ty::Int { .. }, Some(text)) => text.parse::<i64>().is_ok(),
            (Ty::Float { .. }, Some(text)) => text.parse::<f64>().is_ok(),
            _ => false,
        };
        self.complain(ty, node, |problem| problem.label(node.describe()).help(unquoted().then(|| "write it without quotes".to_owned())))
    }

    /// Tells what is wanted at the path at hand, and what `finish` adds.
    fn complain<T>(&mut self, ty: &Ty, node: &Node, finish: impl FnOnce(Problem) -> Problem) -> Option<T> {
        let path = &self.path;
        self.sink.push(&node.span, || finish(Problem::new(format!("`{path}` wants {}", wanted(ty)))));
        None
    }
}

fn side(low: bool, high: bool) -> Option<&'static str> {
    if low { Some("small") } else { high.then_some("large") }
}

/// Whether a type is written as this sort of value, so that its errors are the ones that help.
fn same_shape(ty: &Ty, node: &Node) -> bool {
    match ty {
        Ty::Bool => matches!(node.value, Raw::Bool(_)),
        Ty::Int { .. } | Ty::Float { .. } => matches!(node.value, Raw::Int(_) | Raw::Float(_)),
        Ty::Str | Ty::Choice(_) | Ty::Path { .. } | Ty::Ref(_) | Ty::RefOrPath(_) => matches!(node.value, Raw::Text(_)),
        Ty::List(_) => matches!(node.value, Raw::List(_)),
        Ty::Map(_) | Ty::Table(_) => matches!(node.value, Raw::Table(_)),
        Ty::OneOf(types) => types.iter().any(|ty| same_shape(ty, node)),
    }
}

/// Whether a canonical value is what holds anyway.
fn is_default(param: &Param, value: &Value) -> bool {
    match param.default {
        Default::Required | Default::Absent => false,
        Default::Bool(truth) => value.as_bool() == Some(truth),
        #[expect(clippy::cast_precision_loss, reason = "a default for a number")]
        Default::Int(number) => value.as_i64().map_or_else(|| value.as_f64() == Some(number as f64), |value| value == number),
        Default::Float(number) => value.as_f64() == Some(number),
        Default::Str(text) => value.as_str() == Some(text),
        Default::Table => value.as_object().is_some_and(Map::is_empty),
    }
}

/// Whether `REPO[@REVISION]` could be a repository of the hub.
fn is_repository(text: &str) -> bool {
    let (repository, revision) = text.split_once('@').map_or((text, None), |(repository, revision)| (repository, Some(revision)));
    let part =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let revision_fits = revision.is_none_or(|revision| revision.split('/').all(part));
    text.len() <= 200 && (1..=2).contains(&repository.split('/').count()) && repository.split('/').all(part) && revision_fits
}
