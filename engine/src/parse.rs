//! From text to a checked pipeline: parse, override, substitute, check each stage, then what lies between stages.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::artifact::OutputSpec;
use crate::check::{self, Draft};
use crate::diagnostic::Diagnostics;
use crate::kinds::Kinds;
use crate::name::{is_name, no_name, shown};
use crate::nearest::{nearest, suggest};
use crate::overrides::{self, Override};
use crate::paths::absolute;
use crate::pipeline::{InputSpec, Pipeline, StageSpec};
use crate::raw::{self, Node, Raw, Table};
use crate::source::{Problem, Sink, Sources, Span};
use crate::substitute::Vars;
use crate::{place, reference};

/// Largest pipeline file, in bytes.
const LARGEST: usize = 16 << 20;
/// What a pipeline file may hold.
const KEYS: [&str; 5] = ["name", "seed", "numerics", "vars", "stages"];
/// What it will hold one day.
const RESERVED: [&str; 3] = ["matrix", "extends", "include"];

pub(crate) fn parse(text: &str, file: &Path, kinds: &Kinds, overrides: &[Override]) -> Result<Pipeline, Diagnostics> {
    let sources = Sources::new(file, text, overrides);
    let mut sink = Sink::default();
    let pipeline = read(text, file, kinds, overrides, &mut sink);
    sink.finish(&sources)?;
    let Read { head, stages, vars, folder } = pipeline.unwrap_or_default();
    let Head { name, seed, strict } = head;
    Ok(Pipeline {
        name,
        file: file.to_owned(),
        folder,
        seed,
        strict,
        vars: vars.map(|vars| vars.to_json()).unwrap_or_default(),
        stages,
        sources,
    })
}

/// What has been read; of use only if nothing was wrong.
#[derive(Default)]
struct Read {
    head: Head,
    stages: Vec<StageSpec>,
    vars: Option<Vars>,
    folder: PathBuf,
}

/// The top of the file.
#[derive(Default)]
struct Head {
    name: String,
    seed: u64,
    strict: bool,
}

fn read(text: &str, file: &Path, kinds: &Kinds, overrides: &[Override], sink: &mut Sink) -> Option<Read> {
    if text.len() > LARGEST {
        sink.push(&Span::default(), || Problem::new("the file is too large").label("a pipeline has at most 16 MiB"));
        return None;
    }
    let mut root = raw::document(text, sink)?;
    overrides::apply(&mut root, overrides, kinds, sink);
    let head = head(&root, file, sink);
    let mut vars = Vars::read(table_of(root.take("vars"), "vars", sink), sink);
    let stages = table_of(root.take("stages"), "stages", sink);
    if stages.0.is_empty() && sink.count() == 0 {
        sink.push(&Span::file(text.len()..text.len()), || {
            Problem::new("the pipeline has no stages").help("write `[stages.NAME]` and its `kind`".to_owned())
        });
    }
    let drafts = drafts(stages, &mut vars, kinds, sink);
    let folder = folder_of(file);
    let stages = link(drafts, head.seed, &folder, file, sink);
    Some(Read { head, stages, vars: Some(vars), folder })
}

/// The file's folder, absolute where the working directory is known.
fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    absolute(folder)
}

fn head(root: &Table, file: &Path, sink: &mut Sink) -> Head {
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
    let mut head = Head { name: default_name(file), seed: 0, strict: false };
    for (key, read) in [("name", name as Reader), ("seed", seed), ("numerics", numerics)] {
        if let Some(node) = root.get(key).filter(|node| !node.is_broken())
            && let Err(problem) = read(node, &mut head)
        {
            sink.push(&node.span, || problem);
        }
    }
    head
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
        Raw::Int(number) => head.seed = u64::try_from(number).map_err(|_| wrong(format!("{number} is too small")))?,
        _ => return Err(wrong(node.describe().to_owned())),
    }
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

/// The file's name without its ending, made fit to be a name.
fn default_name(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let fit = |letter: char| if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-') { letter } else { '_' };
    let name: String = stem.trim_start_matches('-').chars().take(80).map(fit).collect();
    if is_name(&name) { name } else { "pipeline".to_owned() }
}

fn table_of(node: Option<Node>, key: &str, sink: &mut Sink) -> Table {
    match node {
        Some(Node { value: Raw::Table(table), .. }) => table,
        Some(node) if !node.is_broken() => {
            sink.push(&node.span, || Problem::new(format!("`{key}` wants a table")).label(node.describe()));
            Table::default()
        }
        _ => Table::default(),
    }
}

fn drafts(stages: Table, vars: &mut Vars, kinds: &Kinds, sink: &mut Sink) -> Vec<Draft> {
    let names: HashSet<String> = stages.keys().map(str::to_owned).collect();
    let mut drafts = Vec::with_capacity(stages.0.len());
    for mut entry in stages.0 {
        let before = sink.count();
        vars.expand(&mut entry.node, sink);
        // A broken variable was told where it stands, so that counting errors does not find it here.
        let expanded = sink.count() == before && !entry.node.holds_broken();
        let mut draft = check::stage(entry, kinds, &names, sink);
        draft.sound &= expanded;
        drafts.push(draft);
    }
    drafts
}

/// Checks what lies between stages, and makes them what the engine runs.
fn link(mut drafts: Vec<Draft>, seed: u64, folder: &Path, file: &Path, sink: &mut Sink) -> Vec<StageSpec> {
    let outputs: Vec<Option<Vec<OutputSpec>>> = drafts.iter_mut().map(|draft| outputs(draft, sink)).collect();
    let inputs = reference::resolve(&drafts, &outputs, sink);
    let file_name = file.file_name().map(PathBuf::from).unwrap_or_default();
    place::check(&drafts, &outputs, &inputs, folder, &file_name, sink);
    if sink.count() > 0 {
        return Vec::new();
    }
    let parts = drafts.into_iter().zip(outputs).zip(inputs);
    parts.filter_map(|((draft, outputs), inputs)| spec(draft, outputs?, inputs, seed)).collect()
}

fn spec(draft: Draft, outputs: Vec<OutputSpec>, inputs: Vec<InputSpec>, seed: u64) -> Option<StageSpec> {
    let Draft { name, span, kind, values, explicit, seed: own_seed, .. } = draft;
    Some(StageSpec { name, kind: kind?, values, explicit, inputs, outputs, seed: own_seed.unwrap_or(seed), span })
}

/// The kind's own check, then what the stage gives; nothing if something is wrong with it.
fn outputs(draft: &mut Draft, sink: &mut Sink) -> Option<Vec<OutputSpec>> {
    let kind = draft.kind.filter(|_| draft.sound)?;
    if let Err(invalid) = kind.check(&draft.values) {
        let span = draft.table.at(&invalid.param).map_or_else(|| draft.span.clone(), |node| node.span.clone());
        sink.push(&span, || Problem::new(invalid.message).help(invalid.help));
        return None;
    }
    let outputs = kind.outputs(&draft.values);
    if let Some((name, problem)) = misnamed(&outputs) {
        let span = place::written(&draft.table, name).unwrap_or_else(|| draft.span.clone());
        sink.push(&span, || problem);
        return None;
    }
    if outputs.is_empty() {
        sink.push(&draft.span, || Problem::new(format!("stage `{}` gives nothing", draft.name)));
        return None;
    }
    draft.first_output = outputs.first().map(|first| first.name.clone());
    Some(outputs)
}

/// The first output whose name will not do, and why.
fn misnamed(outputs: &[OutputSpec]) -> Option<(&str, Problem)> {
    let mut seen = HashSet::new();
    let several = outputs.len() > 1;
    outputs.iter().map(|output| output.name.as_str()).find_map(|name| {
        if !is_name(name) {
            return Some((name, no_name("an output", name)));
        }
        (several && !seen.insert(name)).then(|| (name, Problem::new(format!("output `{name}` is given twice"))))
    })
}
