//! Places: where stages put outputs in the pipeline's folder. Each belongs to one stage, and others reach it by reference.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use crate::check::Draft;
use crate::name::shown;
use crate::part::Part;
use crate::paths::{real, without_dots};
use crate::pipeline::{InputSpec, Source};
use crate::raw::{Node, Raw};
use crate::reference::Known;
use crate::selector::family;
use crate::source::{Problem, Sink, Span};

/// The folder of results, which is nobody's to write.
const STORE: &str = ".qapipe";

/// Checks all places, and the inputs against them. `folder` is the pipeline's, absolute; of stages that are one only the first counts.
pub(crate) fn check(
    known: Known<'_>,
    inputs: &[Vec<InputSpec>],
    is_first: &dyn Fn(usize) -> bool,
    parts: &[Part],
    folder: &Path,
    sink: &mut Sink,
) {
    let mut places = Places::new(parts, folder);
    for (draft, outputs) in known.drafts.iter().zip(known.outputs).enumerate().filter(|(stage, _)| is_first(*stage)).map(|(_, both)| both) {
        for output in outputs.iter().flatten() {
            if let Some(place) = &output.place
                && let Err(problem) = places.claim(place, draft, &output.name)
            {
                let span = written(&draft.table, &place.to_string_lossy()).unwrap_or_else(|| draft.span.clone());
                sink.push(&span, || problem);
            }
        }
    }
    if places.whole.is_empty() {
        return;
    }
    for (draft, inputs) in known.drafts.iter().zip(inputs) {
        inputs.iter().for_each(|input| places.look_at(input, draft, sink));
    }
}

/// Which output a place belongs to.
struct Owner<'a> {
    draft: &'a Draft,
    output: &'a str,
    is_first: bool,
}

struct Places<'a> {
    parts: &'a [Part],
    /// The pipeline's folder.
    folder: &'a Path,
    /// The pipeline's files, as places.
    files: Vec<String>,
    /// By place: relative to the pipeline's folder, or absolute where it lies elsewhere.
    whole: HashMap<String, Owner<'a>>,
    /// For each folder above a place, that place.
    above: HashMap<String, String>,
}

impl<'a> Places<'a> {
    fn new(parts: &'a [Part], folder: &'a Path) -> Self {
        let mut places = Self { parts, folder, files: Vec::new(), whole: HashMap::new(), above: HashMap::new() };
        for part in parts {
            let name = part.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let file = places.place(part, &name);
            places.files.push(file);
        }
        places
    }

    /// What a place in a file is in the whole pipeline.
    fn place(&self, part: &Part, normal: &str) -> String {
        if part.home.as_os_str().is_empty() {
            return normal.to_owned();
        }
        let whole = without_dots(&self.folder.join(&part.home).join(normal));
        let place = whole.strip_prefix(without_dots(self.folder)).unwrap_or(&whole);
        place.to_string_lossy().into_owned()
    }

    fn claim(&mut self, place: &Path, draft: &'a Draft, output: &'a str) -> Result<(), Problem> {
        let text = || shown(&place.to_string_lossy());
        let Some(normal) = normal(place).filter(|normal| !normal.is_empty()) else {
            let problem = Problem::new(format!("`{}` is not a place inside the pipeline's folder", text()));
            return Err(problem.help("give a relative path without `..`".to_owned()));
        };
        if normal == STORE || normal.starts_with(".qapipe/") {
            return Err(Problem::new(format!("`{}` lies in the store, which stages do not write", text())));
        }
        let normal = self.place(&self.parts[draft.part], &normal);
        if let Some(file) = self.files.iter().position(|file| *file == normal) {
            let what = if file == draft.part { "the pipeline file itself" } else { "a pipeline file" };
            return Err(Problem::new(format!("`{}` is {what}", text())));
        }
        if let Some((other, owner)) = self.touching(&normal) {
            let problem = Problem::new(format!("`{}` is written by stage `{}` already", text(), self.name(owner, draft)));
            let axis = owner.draft.cell.axes().next().filter(|_| family(&owner.draft.name) == family(&draft.name));
            let problem = problem.help(axis.map(|axis| format!("write the cell into the path: `${{matrix.{axis}}}`")));
            return Err(if other.is_empty() { problem } else { problem.label(format!("it holds `{}`", shown(other))) });
        }
        let is_first = output == first_name(draft).unwrap_or(output);
        for (at, _) in normal.match_indices('/').filter(|(at, _)| *at > 0) {
            if !self.above.contains_key(&normal[..at]) {
                self.above.insert(normal[..at].to_owned(), normal.clone());
            }
        }
        self.whole.insert(normal, Owner { draft, output, is_first });
        Ok(())
    }

    /// Tells if a stage reads a path that another one writes.
    fn look_at(&self, input: &InputSpec, draft: &Draft, sink: &mut Sink) {
        let Source::Path(path) = &input.source else { return };
        let Some((place, owner)) = self.of(path).and_then(|path| self.touching(&path)) else { return };
        let message = format!("`{}` is written by stage `{}`", shown(&path.to_string_lossy()), self.name(owner, draft));
        let label = if place.is_empty() { String::new() } else { format!("it holds `{}`", shown(place)) };
        sink.push(&input.span, || Problem::new(message).label(label).help(self.reference(owner, draft)));
    }

    /// An input as a place. Either may be written through `..` or linked folders.
    fn of(&self, path: &Path) -> Option<String> {
        let found = inside(self.folder, path);
        let is_elsewhere = || self.parts.iter().any(|part| !part.home.as_os_str().is_empty());
        found.or_else(|| is_elsewhere().then(|| without_dots(&self.folder.join(path)).to_string_lossy().into_owned()))
    }

    /// An owner's name as the file of another stage may use it, or else as the whole pipeline does.
    fn name(&self, owner: &Owner<'_>, asking: &Draft) -> String {
        let prefix = if owner.draft.part == asking.part { "" } else { &self.parts[owner.draft.part].prefix };
        format!("{prefix}{}", owner.draft.name)
    }

    /// How to reach an owner from another stage of its file, or from the pipeline file itself.
    fn reference(&self, owner: &Owner<'_>, asking: &Draft) -> Option<String> {
        let reachable = owner.draft.part == asking.part || !self.parts[asking.part].is_included();
        let name = self.name(owner, asking);
        let written = if owner.is_first { format!("write `@{name}`") } else { format!("write `@{name}.{}`", owner.output) };
        reachable.then_some(written)
    }

    /// The place that is this path, holds it, or lies in it (only then it is named), and whose it is.
    fn touching(&self, normal: &str) -> Option<(&str, &Owner<'a>)> {
        let around = normal.match_indices('/').map(|(at, _)| &normal[..at]).chain([normal]);
        if let Some(owner) = around.filter_map(|path| self.whole.get(path)).next() {
            return Some(("", owner));
        }
        let is_inside = |place: &&String| !place.starts_with('/');
        let inner = if normal.is_empty() { self.above.values().find(is_inside) } else { self.above.get(normal) }?;
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
