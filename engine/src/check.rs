//! One stage's table against what its kind declares.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::cell::Cell;
use crate::check_value::{Canonical, Checked, Checker};
use crate::device::Devices;
use crate::kind::StageKind;
use crate::kinds::Kinds;
use crate::name::{is_name, no_name, shown};
use crate::nearest::suggest;
use crate::param::{Accepts, Default, Param, Role, Ty};
use crate::raw::{Entry, Node, Raw, Table};
use crate::slurm::{self, Wants};
use crate::source::{Problem, Sink, Span};
use crate::values::Values;

/// Hints that every kind takes.
pub(crate) const COMMON_HINTS: &[Param] = &[
    Param::hint("device", Ty::Str, Default::Absent, "Where the stage runs: auto, cpu, cuda (one of the run's GPUs), or cuda:N."),
    Param::hint("threads", Ty::Int { min: 1, max: i64::MAX }, Default::Absent, "Threads that the stage may use."),
    Param::hint(
        "exclusive",
        Ty::Bool,
        Default::Absent,
        "Whether nothing else of the run goes on beside the stage, so that its times are its own.",
    ),
];

/// The parameter that every kind takes that draws random numbers.
pub(crate) const COMMON_SEED: Param =
    Param::optional("seed", Ty::Int { min: 0, max: i64::MAX }, "Seed of this stage's random numbers, instead of the pipeline's.");

/// A stage whose own table has been checked, but not what it refers to.
#[derive(Clone, Default)]
pub(crate) struct Draft {
    /// As its own file calls it.
    pub(crate) name: String,
    /// The number of the part that it stands in.
    pub(crate) part: usize,
    pub(crate) span: Span,
    /// Its place in the matrix.
    pub(crate) cell: Cell,
    pub(crate) table: Arc<Node>,
    /// Nothing if the kind is unknown.
    pub(crate) kind: Option<&'static dyn StageKind>,
    /// Whether every parameter fits.
    pub(crate) sound: bool,
    pub(crate) values: Values,
    pub(crate) explicit: Values,
    pub(crate) inputs: Vec<DraftInput>,
    pub(crate) seed: Option<u64>,
    /// Where the file's seed is written, if it has none of its own.
    pub(crate) seed_span: Option<Span>,
    pub(crate) slurm: Wants,
    /// Name of what `@stage` alone means, once it is known.
    pub(crate) first_output: Option<String>,
}

/// An input before references are resolved.
#[derive(Clone)]
pub(crate) struct DraftInput {
    pub(crate) param: String,
    pub(crate) from: From,
    pub(crate) accepts: Accepts,
    pub(crate) span: Span,
    /// Where a path starts from, if not from the folder of the stage's file.
    pub(crate) home: Option<Arc<Path>>,
}

/// Where an input is said to come from.
#[derive(Clone)]
pub(crate) enum From {
    Stage {
        stage: String,
        /// Axes and values, where some cells are meant.
        cell: Vec<(String, String)>,
        output: Option<String>,
    },
    Path(String),
}

/// Whether a kind takes a `seed` that it does not declare itself.
pub(crate) fn takes_seed(kind: &dyn StageKind) -> bool {
    kind.seeded() && !kind.params().iter().any(|param| param.name == COMMON_SEED.name)
}

/// A kind's hints: those that it declares, then the common ones that it does not.
pub(crate) fn hints(kind: &dyn StageKind) -> Vec<Param> {
    let declared = kind.params().iter().filter(|param| param.role == Role::Hint);
    let common = COMMON_HINTS.iter().filter(|hint| !kind.params().iter().any(|param| param.name == hint.name));
    declared.chain(common).copied().collect()
}

/// Checks one stage. What is wrong goes to `sink`; the draft is then unsound.
pub(crate) fn stage(entry: Entry, part: usize, kinds: &Kinds, stages: &HashSet<String>, sink: &mut Sink) -> Draft {
    let before = sink.count();
    let Entry { key: name, span, node: table } = entry;
    if !is_name(&name) {
        sink.push(&span, || no_name("a stage", &name));
    }
    let kind = kind_of(&name, &span, &table, kinds, sink);
    let mut draft = Draft { name, part, span, table: Arc::new(table), kind, sound: true, ..Draft::default() };
    if let (Some(kind), Raw::Table(table)) = (kind, &draft.table.value) {
        let mut checker = Checker::new(stages, sink);
        let mut check = StageCheck { kind, name: &draft.name, span: &draft.span, table, checker: &mut checker };
        let (values, explicit) = check.params();
        draft.seed = check.seed();
        draft.slurm = check.slurm();
        draft.values = Values(values);
        draft.explicit = Values(explicit);
        draft.inputs = checker.into_inputs();
    }
    draft.sound = draft.kind.is_some() && sink.count() == before;
    draft
}

fn kind_of(name: &str, span: &Span, table: &Node, kinds: &Kinds, sink: &mut Sink) -> Option<&'static dyn StageKind> {
    let entries = match &table.value {
        Raw::Table(entries) => entries,
        Raw::Broken => return None,
        _ => {
            sink.push(&table.span, || Problem::new(format!("stage `{}` wants a table", shown(name))).label(table.describe()));
            return None;
        }
    };
    let names = kinds.iter().map(StageKind::name);
    let Some(node) = entries.get("kind") else {
        let meant = entries.keys().find(|key| crate::nearest::nearest(key, ["kind"]).is_some());
        let help = meant
            .map_or_else(|| format!("kinds: {}", names.collect::<Vec<_>>().join(", ")), |key| format!("is `{key}` meant to be `kind`?"));
        sink.push(span, || Problem::new(format!("stage `{}` has no `kind`", shown(name))).help(help));
        return None;
    };
    match &node.value {
        Raw::Text(word) => {
            let kind = kinds.get(word);
            if kind.is_none() {
                sink.push(&node.span, || Problem::new(format!("unknown kind `{}`", shown(word))).help(suggest(word, "kinds", names)));
            }
            kind
        }
        Raw::Broken => None,
        _ => {
            sink.push(&node.span, || Problem::new("`kind` wants the name of a kind, in quotes").label(node.describe()));
            None
        }
    }
}

/// The check of one stage whose kind is known.
struct StageCheck<'a, 'b> {
    kind: &'static dyn StageKind,
    name: &'a str,
    span: &'a Span,
    table: &'a Table,
    checker: &'a mut Checker<'b>,
}

impl<'a> StageCheck<'a, '_> {
    /// The values, and their canonical form.
    fn params(&mut self) -> (Map<String, Value>, Map<String, Value>) {
        for entry in &self.table.0 {
            self.known(entry);
        }
        let declared: Vec<Param> = self.kind.params().iter().filter(|param| param.role == Role::Param).copied().collect();
        let whose = format!("stage `{}`", self.name);
        let Checked { value, canonical } = self.checker.fields(&declared, self.table, &whose, self.span);
        let mut values = as_map(value);
        let explicit = match canonical {
            Canonical::Other(canonical) => as_map(canonical),
            Canonical::Same | Canonical::Nothing => Map::new(),
        };
        let hints = self.hints();
        if !hints.is_empty() {
            values.insert("hints".to_owned(), Value::Object(hints));
        }
        (values, explicit)
    }

    /// The stage's own seed.
    fn seed(&mut self) -> Option<u64> {
        let node = self.table.get(COMMON_SEED.name)?;
        if !takes_seed(self.kind) {
            return None;
        }
        self.checker.value_at(COMMON_SEED.name, &COMMON_SEED.ty, node)?.value.as_u64()
    }

    fn hints(&mut self) -> Map<String, Value> {
        // The common hints have no defaults, so there is nothing to find.
        if self.table.get("hints").is_none() && self.kind.params().iter().all(|param| param.role == Role::Param) {
            return Map::new();
        }
        let declared = hints(self.kind);
        let Some((table, span)) = self.inner("hints", "device = \"cpu\"") else { return Map::new() };
        let empty = Table::default();
        let table = table.unwrap_or(&empty);
        for entry in &table.0 {
            self.known_hint(entry, &declared);
        }
        self.checker.enter("hints");
        let checked = self.checker.fields(&declared, table, "`hints`", &span);
        self.checker.leave();
        as_map(checked.value)
    }

    /// A table of the stage that is not its kind's: nothing if it is not what it should be; the stage's place where it is not given.
    fn inner(&mut self, name: &str, example: &str) -> Option<(Option<&'a Table>, Span)> {
        match self.table.get(name) {
            None => Some((None, self.span.clone())),
            Some(Node { value: Raw::Table(table), span, .. }) => Some((Some(table), span.clone())),
            Some(Node { value: Raw::Broken, .. }) => None,
            Some(node) => {
                let problem = || Problem::new(format!("`{name}` wants a table: `{name} = {{ {example} }}`")).label(node.describe());
                self.checker.sink.push(&node.span, problem);
                None
            }
        }
    }

    /// What the stage's job asks a cluster for.
    fn slurm(&mut self) -> Wants {
        let Some((Some(table), span)) = self.inner("slurm", "time = \"2:00:00\"") else { return Wants::default() };
        for entry in table.0.iter().filter(|entry| !slurm::PARAMS.iter().any(|param| param.name == entry.key)) {
            let names = slurm::PARAMS.iter().map(|param| param.name);
            let problem = || Problem::new(format!("`slurm` has no key `{}`", shown(&entry.key))).help(suggest(&entry.key, "keys", names));
            self.checker.sink.push(&entry.span, problem);
        }
        self.checker.enter("slurm");
        let checked = self.checker.fields(slurm::PARAMS, table, "`slurm`", &span);
        self.checker.leave();
        let wants: Wants = Values(as_map(checked.value)).parse().unwrap_or_default();
        if let Some((key, wanted)) = wants.wrong()
            && let Some(node) = table.get(key)
        {
            self.checker.sink.push(&node.span, || Problem::new(format!("`slurm.{key}` wants {wanted}")));
        }
        wants
    }

    /// Tells if the kind has no such parameter.
    fn known(&mut self, entry: &Entry) {
        let key = entry.key.as_str();
        let kind = self.kind;
        let declared = kind.params().iter().find(|param| param.name == key);
        if matches!(key, "kind" | "hints" | "slurm")
            || declared.is_some_and(|param| param.role == Role::Param)
            || (key == "seed" && takes_seed(kind))
        {
            return;
        }
        let is_hint = declared.is_some() || COMMON_HINTS.iter().any(|hint| hint.name == key);
        self.checker.sink.push(&entry.span, || {
            let kind_name = kind.name();
            if is_hint {
                return Problem::new(format!("`{key}` is a hint, not a parameter")).help(format!("write `hints = {{ {key} = … }}`"));
            }
            if key == "seed" {
                return Problem::new(format!("`seed`: kind `{kind_name}` draws no random numbers"));
            }
            let names = kind.params().iter().filter(|param| param.role == Role::Param).map(|param| param.name);
            Problem::new(format!("kind `{kind_name}` has no parameter `{}`", shown(key))).help(suggest(key, "parameters", names))
        });
    }

    fn known_hint(&mut self, entry: &Entry, declared: &[Param]) {
        let key = entry.key.as_str();
        if declared.iter().any(|hint| hint.name == key) {
            if key == "device" && !entry.node.is_broken() {
                self.device(&entry.node);
            }
            return;
        }
        let kind = self.kind;
        self.checker.sink.push(&entry.span, || {
            if kind.params().iter().any(|param| param.name == key) {
                return Problem::new(format!("`{key}` is a parameter, not a hint")).help("write it outside of `hints`".to_owned());
            }
            let names = declared.iter().map(|hint| hint.name);
            Problem::new(format!("kind `{}` has no hint `{}`", kind.name(), shown(key))).help(suggest(key, "hints", names))
        });
    }

    fn device(&mut self, node: &Node) {
        let Some(text) = node.as_text() else { return };
        let label = match text.parse() {
            Ok(Devices::Cuda(gpus)) if gpus.len() > 1 => "a stage runs on one device".to_owned(),
            Ok(_) => return,
            Err(_) => format!("`{}` is none of them", shown(text)),
        };
        self.checker.sink.push(&node.span, || Problem::new("`hints.device` wants auto, cpu, cuda, or cuda:N").label(label));
    }
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
