//! The top of a pipeline file: its name, its seed, how exact its numbers must be.

use std::path::Path;

use crate::name::{is_name, no_name, shown};
use crate::nearest::{nearest, suggest};
use crate::raw::{Node, Raw, Table};
use crate::source::{Problem, Sink, Span};

/// What a pipeline file may hold.
const KEYS: [&str; 8] = ["name", "include", "seed", "numerics", "targets", "vars", "matrix", "stages"];
/// What it will hold one day.
const RESERVED: [&str; 1] = ["extends"];

/// The top of the file.
#[derive(Default)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) seed: Option<u64>,
    /// Where that is written.
    pub(crate) seed_span: Option<Span>,
    pub(crate) strict: bool,
    /// The stages that are meant where none is named, and where each is written.
    pub(crate) targets: Option<Vec<(String, Span)>>,
}

impl Head {
    /// Reads it; what is wrong goes to `sink`.
    pub(crate) fn read(root: &Table, file: &Path, sink: &mut Sink) -> Self {
        keys(root, sink);
        let mut head = Self { name: default_name(file), ..Self::default() };
        for (key, read) in [("name", name as Reader), ("seed", seed), ("numerics", numerics), ("targets", targets)] {
            if let Some(node) = root.get(key).filter(|node| !node.is_broken())
                && let Err(problem) = read(node, &mut head)
            {
                sink.push(&node.span, || problem);
            }
        }
        head
    }
}

/// The name of a pipeline, where nothing is said about a wrong one.
pub(crate) fn name_of(root: &Table, file: &Path) -> String {
    let written = root.get("name").and_then(Node::as_text).filter(|text| is_name(text));
    written.map_or_else(|| default_name(file), str::to_owned)
}

fn keys(root: &Table, sink: &mut Sink) {
    for entry in &root.0 {
        let key = entry.key.as_str();
        if RESERVED.contains(&key) {
            sink.push(&entry.span, || Problem::new(format!("`{key}` is not supported yet")));
        } else if !KEYS.contains(&key) {
            let moved = nearest(key, KEYS).is_none() && matches!(entry.node.value, Raw::Table(_));
            let help = if moved { Some(format!("a stage is written `[stages.{}]`", shown(key))) } else { suggest(key, "keys", KEYS) };
            sink.push(&entry.span, || Problem::new(format!("unknown key `{}`", shown(key))).help(help));
        }
    }
}

type Reader = fn(&Node, &mut Head) -> Result<(), Problem>;

fn name(node: &Node, head: &mut Head) -> Result<(), Problem> {
    let text = node.as_text().ok_or_else(|| Problem::new("`name` wants text").label(node.describe()))?;
    if !is_name(text) {
        return Err(no_name("a pipeline", text));
    }
    text.clone_into(&mut head.name);
    Ok(())
}

fn seed(node: &Node, head: &mut Head) -> Result<(), Problem> {
    let wrong = |label: String| Problem::new("`seed` wants a whole number, 0 or more").label(label);
    match node.value {
        Raw::Int(number) => head.seed = Some(u64::try_from(number).map_err(|_| wrong(format!("{number} is too small")))?),
        _ => return Err(wrong(node.describe().to_owned())),
    }
    head.seed_span = Some(node.written().clone());
    Ok(())
}

fn numerics(node: &Node, head: &mut Head) -> Result<(), Problem> {
    let problem = Problem::new("`numerics` wants one of default | strict");
    match node.as_text() {
        Some("default") => head.strict = false,
        Some("strict") => head.strict = true,
        Some(other) => {
            let help = nearest(other, ["default", "strict"]).map(|word| format!("did you mean `{word}`?"));
            return Err(problem.label(format!("`{}` is none of them", shown(other))).help(help));
        }
        None => return Err(problem.label(node.describe())),
    }
    Ok(())
}

fn targets(node: &Node, head: &mut Head) -> Result<(), Problem> {
    let wrong = |label: &str| Problem::new("`targets` wants a list of names of stages").label(label);
    let Raw::List(items) = &node.value else { return Err(wrong(node.describe())) };
    let named = |item: &Node| item.as_text().map(|text| (text.to_owned(), item.span.clone())).ok_or_else(|| wrong(item.describe()));
    let targets = items.iter().map(named).collect::<Result<Vec<_>, _>>()?;
    if targets.is_empty() {
        return Err(wrong("this list is empty; leave it out to mean all stages"));
    }
    head.targets = Some(targets);
    Ok(())
}

/// The file's name without its ending, made fit to be a name.
fn default_name(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let fit = |letter: char| if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-') { letter } else { '_' };
    let name: String = stem.trim_start_matches('-').chars().take(80).map(fit).collect();
    if is_name(&name) { name } else { "pipeline".to_owned() }
}
