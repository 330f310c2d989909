//! Places: where stages put outputs in the pipeline's folder. Each belongs to one stage, and others reach it by reference.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use crate::artifact::OutputSpec;
use crate::check::Draft;
use crate::name::shown;
use crate::paths::{real, without_dots};
use crate::pipeline::{InputSpec, Source};
use crate::raw::{Node, Raw};
use crate::source::{Problem, Sink, Span};

/// The folder of results, which is nobody's to write.
const STORE: &str = ".qapipe";

/// Checks all places, and the inputs against them. `folder` is absolute; `file` is the pipeline file's name in it.
pub(crate) fn check(
    drafts: &[Draft],
    outputs: &[Option<Vec<OutputSpec>>],
    inputs: &[Vec<InputSpec>],
    folder: &Path,
    file: &Path,
    sink: &mut Sink,
) {
    let mut places = Places::default();
    for (draft, outputs) in drafts.iter().zip(outputs) {
        for output in outputs.iter().flatten() {
            if let Some(place) = &output.place
                && let Err(problem) = places.claim(place, draft, &output.name, file)
            {
                let span = written(&draft.table, &place.to_string_lossy()).unwrap_or_else(|| draft.span.clone());
                sink.push(&span, || problem);
            }
        }
    }
    if places.whole.is_empty() {
        return;
    }
    for input in inputs.iter().flatten() {
        if let Source::Path(path) = &input.source
            && let Some((place, owner)) = inside(folder, path).and_then(|path| places.touching(&path))
        {
            let message = format!("`{}` is written by stage `{}`", shown(&path.to_string_lossy()), owner.stage);
            let label = if place.is_empty() { String::new() } else { format!("it holds `{}`", shown(place)) };
            sink.push(&input.span, || Problem::new(message).label(label).help(format!("write `{}`", owner.reference())));
        }
    }
}

/// Which output a place belongs to.
struct Owner<'a> {
    stage: &'a str,
    output: &'a str,
    is_first: bool,
}

impl Owner<'_> {
    fn reference(&self) -> String {
        if self.is_first { format!("@{}", self.stage) } else { format!("@{}.{}", self.stage, self.output) }
    }
}

#[derive(Default)]
struct Places<'a> {
    /// By normal form.
    whole: HashMap<String, Owner<'a>>,
    /// For each folder above a place, that place.
    above: HashMap<String, String>,
}

impl<'a> Places<'a> {
    fn claim(&mut self, place: &Path, draft: &'a Draft, output: &'a str, file: &Path) -> Result<(), Problem> {
        let text = || shown(&place.to_string_lossy());
        let Some(normal) = normal(place).filter(|normal| !normal.is_empty()) else {
            let problem = Problem::new(format!("`{}` is not a place inside the pipeline's folder", text()));
            return Err(problem.help("give a relative path without `..`".to_owned()));
        };
        if normal == STORE || normal.starts_with(".qapipe/") {
            return Err(Problem::new(format!("`{}` lies in the store, which stages do not write", text())));
        }
        if Path::new(&normal) == file {
            return Err(Problem::new(format!("`{}` is the pipeline file itself", text())));
        }
        if let Some((other, owner)) = self.touching(&normal) {
            let problem = Problem::new(format!("`{}` is written by stage `{}` already", text(), owner.stage));
            return Err(if other.is_empty() { problem } else { problem.label(format!("it holds `{}`", shown(other))) });
        }
        let is_first = output == first_name(draft).unwrap_or(output);
        for (at, _) in normal.match_indices('/') {
            if !self.above.contains_key(&normal[..at]) {
                self.above.insert(normal[..at].to_owned(), normal.clone());
            }
        }
        self.whole.insert(normal, Owner { stage: &draft.name, output, is_first });
        Ok(())
    }

    /// The place that is this path, holds it, or lies in it (only then it is named), and whose it is.
    fn touching(&self, normal: &str) -> Option<(&str, &Owner<'a>)> {
        let around = normal.match_indices('/').map(|(at, _)| &normal[..at]).chain([normal]);
        if let Some(owner) = around.filter_map(|path| self.whole.get(path)).next() {
            return Some(("", owner));
        }
        let inner = if normal.is_empty() { self.above.values().next() } else { self.above.get(normal) }?;
        self.whole.get(inner).map(|owner| (inner.as_str(), owner))
    }
}

fn first_name(draft: &Draft) -> Option<&str> {
    draft.first_output.as_deref()
}

/// A relative path without `.` and doubled slashes; nothing if it leaves the folder or is absolute.
fn normal(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    if !text.is_empty() && text.split('/').all(|part| !matches!(part, "" | "." | "..")) {
        return Some(text.to_owned());
    }
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// The normal form of an input, if it lies in the folder. Either may be written through `..` or linked folders.
fn inside(folder: &Path, path: &Path) -> Option<String> {
    let plain = !path.is_absolute() && path.components().all(|component| !matches!(component, Component::ParentDir));
    if plain {
        return normal(path);
    }
    let whole = folder.join(path);
    let below = |resolve: fn(&Path) -> PathBuf| normal(resolve(&whole).strip_prefix(resolve(folder)).ok()?);
    below(without_dots).or_else(|| below(real))
}

/// Where a text stands in a stage's table.
pub(crate) fn written(node: &Node, text: &str) -> Option<Span> {
    match &node.value {
        Raw::Text(value) if value == text => Some(node.span.clone()),
        Raw::List(items) => items.iter().find_map(|item| written(item, text)),
        Raw::Table(table) => table.0.iter().find_map(|entry| written(&entry.node, text)),
        _ => None,
    }
}
