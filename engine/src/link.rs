//! From stages that were checked one by one to the stages that the engine runs: references, places, and what is shared.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::artifact::OutputSpec;
use crate::check::Draft;
use crate::name::{is_name, no_name};
use crate::names::Names;
use crate::overrides::Shared;
use crate::part::Part;
use crate::pipeline::{InputSpec, Source, StageSpec};
use crate::reference::{self, Known};
use crate::select::Directory;
use crate::selector::family;
use crate::sharing::Sharing;
use crate::source::{Problem, Sink, Span};
use crate::spread::{Drafted, spread};
use crate::{paths, place};

/// The stages of a pipeline, linked.
#[derive(Default)]
pub(crate) struct Linked {
    /// None if something is wrong.
    pub(crate) stages: Vec<StageSpec>,
    /// Other names of stages.
    pub(crate) aliases: BTreeMap<String, usize>,
    /// The stages that are meant where none is named; none means all.
    pub(crate) targets: Vec<String>,
    /// The names that stand for several stages that are one.
    pub(crate) shared: Shared,
}

/// What each file says is meant where no stage is named, and where.
pub(crate) type Targets = Vec<Option<Vec<(String, Span)>>>;

/// Checks what lies between stages, and makes them what the engine runs. `folder` is the pipeline's; the drafts come in the order of the parts.
pub(crate) fn link(parts: &[Part], drafted: Vec<Drafted>, targets: Targets, folder: &Path, strict: bool, sink: &mut Sink) -> Linked {
    let folders: Vec<PathBuf> = parts.iter().map(|part| paths::joined(folder, &part.home)).collect();
    let mut linker = Linker {
        parts,
        folders,
        starts: vec![0],
        specs: Vec::new(),
        inputs: Vec::new(),
        sharing: Sharing::new(folder, strict),
        names: parts.iter().map(|_| Names::default()).collect(),
        drafts: Vec::new(),
        outputs: Vec::new(),
        targets,
        meant: Vec::with_capacity(parts.len()),
    };
    for (part, drafted) in drafted.into_iter().enumerate() {
        linker.part(part, drafted, sink);
    }
    let firsts = |stage: usize| linker.sharing.first(stage) == stage;
    place::check(linker.known(), &linker.inputs, &firsts, parts, folder, sink);
    linker.finish(sink.count() == 0)
}

struct Linker<'a> {
    parts: &'a [Part],
    /// For each part, the folder that its programs run in.
    folders: Vec<PathBuf>,
    /// For each part that has been linked, the number of its first stage; then the number of all stages.
    starts: Vec<usize>,
    drafts: Vec<Draft>,
    outputs: Vec<Option<Vec<OutputSpec>>>,
    inputs: Vec<Vec<InputSpec>>,
    specs: Vec<Option<StageSpec>>,
    sharing: Sharing,
    targets: Targets,
    /// For each part, the stages that are meant where none is named, if that is not all.
    meant: Vec<Option<Vec<usize>>>,
    /// Of every part that has been linked and not yet been taken over by the one that includes it.
    names: Vec<Names>,
}

impl Linker<'_> {
    fn known(&self) -> Known<'_> {
        Known { drafts: &self.drafts, outputs: &self.outputs }
    }

    /// The stages of a part itself.
    fn own(&self, part: usize) -> Range<usize> {
        self.starts[part]..self.starts[part + 1]
    }

    /// The stages of all that a part includes.
    fn included(&self, part: usize) -> Range<usize> {
        self.starts[self.parts[part].first]..self.starts[part]
    }

    /// Links the stages of a part. Those of the files that it includes have been linked before: they cannot refer to the part's own.
    fn part(&mut self, part: usize, drafted: Drafted, sink: &mut Sink) {
        let included = self.included(part);
        let mut names = Names::beside(drafted.drafts.iter());
        for &child in &self.parts[part].children {
            names.include(std::mem::take(&mut self.names[child]), &self.parts[child], sink);
        }
        names.shorten(included.clone(), &self.drafts, &self.sharing);
        self.take_in(spread(drafted, &names, &self.drafts, sink), sink);
        let own = self.own(part);
        names.own(own.clone(), &self.drafts);
        let inputs = reference::resolve(self.known(), own.clone(), &names, self.parts, sink);
        let order = reference::order(own.start, &inputs);
        self.inputs.extend(inputs);
        self.check_length(part, sink);
        for stage in own.clone() {
            let spec = self.spec(stage);
            self.specs.push(spec);
        }
        if self.parts.len() > 1 {
            self.sharing.add(&order.unwrap_or_default(), &self.specs);
            names.call(own.clone(), included.start..own.end, &self.drafts, &self.sharing);
        }
        let meant = self.meant(part, &names, sink);
        self.meant.push(meant);
        self.names[part] = names;
    }

    /// Takes the stages of the next part.
    fn take_in(&mut self, mut drafts: Vec<Draft>, sink: &mut Sink) {
        self.outputs.extend(drafts.iter_mut().map(|draft| outputs(draft, sink)));
        self.drafts.append(&mut drafts);
        self.starts.push(self.drafts.len());
        self.sharing.grow(self.drafts.len());
    }

    /// The stages that a part means where none is named: those of its `targets`; or else its own, and what the files that it includes mean.
    fn meant(&self, part: usize, names: &Names, sink: &mut Sink) -> Option<Vec<usize>> {
        if let Some(targets) = &self.targets[part] {
            let directory = Directory::new(names.iter().filter_map(|name| Some((name, names.get(name)?))));
            return Some(targets.iter().flat_map(|(name, span)| self.target(name, span, &directory, sink)).collect());
        }
        let children = &self.parts[part].children;
        if children.iter().all(|&child| self.meant[child].is_none()) {
            return None;
        }
        let of = |&child: &usize| self.meant[child].clone().unwrap_or_else(|| self.within(child).collect());
        Some(children.iter().flat_map(of).chain(self.own(part)).collect())
    }

    /// The stages that a target means: one, or those of a family.
    fn target(&self, target: &str, span: &Span, directory: &Directory<'_>, sink: &mut Sink) -> Vec<usize> {
        directory.find(target, &|stage| &self.drafts[stage].cell).unwrap_or_else(|unknown| {
            sink.push(span, || Problem::new(format!("there is {}", unknown.message())).help(unknown.help));
            Vec::new()
        })
    }

    /// The stages of a part, and of all that it includes.
    fn within(&self, part: usize) -> Range<usize> {
        self.starts[self.parts[part].first]..self.starts[part + 1]
    }

    fn spec(&mut self, stage: usize) -> Option<StageSpec> {
        let home = &self.parts[self.drafts[stage].part].home;
        let draft = &mut self.drafts[stage];
        let outputs = self.outputs[stage].iter().flatten();
        let placed = |output: &OutputSpec| OutputSpec { place: output.place.as_ref().map(|place| home.join(place)), ..output.clone() };
        let outputs: Vec<OutputSpec> = outputs.map(placed).collect();
        Some(StageSpec {
            name: draft.name.clone(),
            cell: draft.cell.clone(),
            kind: draft.kind.filter(|_| !outputs.is_empty())?,
            values: std::mem::take(&mut draft.values),
            explicit: std::mem::take(&mut draft.explicit),
            inputs: self.inputs[stage].clone(),
            outputs,
            seed: draft.seed.unwrap_or_default(),
            slurm: std::mem::take(&mut draft.slurm),
            folder: self.folders[draft.part].clone(),
            span: draft.span.clone(),
            table: Arc::clone(&draft.table),
            seed_span: draft.seed_span.take(),
        })
    }

    /// What stages are called in the whole pipeline must be names as well.
    fn check_length(&self, part: usize, sink: &mut Sink) {
        let written = self.own(part).map(|stage| family(&self.drafts[stage].name)).filter(|name| is_name(name));
        let full = written.max_by_key(|name| name.len()).map(|name| format!("{}{name}", self.parts[part].prefix));
        if let Some(longest) = full.filter(|full| !is_name(full)) {
            let help = "include the file under a shorter name: `{ file = …, name = … }`".to_owned();
            sink.push(&self.parts[part].asked, || no_name("a stage", &longest).help(help));
        }
    }

    /// A stage's own name in the whole pipeline.
    fn full(&self, stage: usize) -> String {
        let draft = &self.drafts[stage];
        format!("{}{}", self.parts[draft.part].prefix, draft.name)
    }

    /// The stages without those that are one with an earlier one; none if the pipeline is not `sound`.
    fn finish(mut self, sound: bool) -> Linked {
        let names = self.names.pop().unwrap_or_default();
        let mut shared = Shared::default();
        for (name, stages) in names.several() {
            let all = shared.entry(family(name).to_owned()).or_default();
            all.extend(stages.iter().map(|&stage| family(&self.full(stage)).to_owned()));
        }
        for all in shared.values_mut() {
            let mut seen = HashSet::new();
            all.retain(|name| seen.insert(name.clone()));
        }
        if !sound {
            return Linked { shared, ..Linked::default() };
        }
        let kept: Vec<usize> = (0..self.specs.len()).filter(|&stage| self.sharing.first(stage) == stage).collect();
        let new: HashMap<usize, usize> = kept.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        let place = |stage: usize| new.get(&self.sharing.first(stage)).copied().unwrap_or_default();
        let specs = std::mem::take(&mut self.specs).into_iter().enumerate().filter(|(stage, _)| new.contains_key(stage));
        let rename = |(stage, spec): (usize, Option<StageSpec>)| {
            let spec = spec?;
            let name = names.called(stage).map_or_else(|| spec.name.clone(), str::to_owned);
            Some(StageSpec { name, inputs: moved(spec.inputs, &place), ..spec })
        };
        let stages: Vec<StageSpec> = specs.filter_map(rename).collect();
        let places = names.iter().filter_map(|name| Some((name, place(names.get(name)?))));
        let aliases = places.filter(|(name, stage)| stages[*stage].name != *name).map(|(name, stage)| (name.to_owned(), stage)).collect();
        let meant = self.meant.pop().flatten().unwrap_or_default();
        let targets = meant.into_iter().map(|stage| stages[place(stage)].name.clone()).collect();
        Linked { stages, aliases, targets, shared }
    }
}

/// Inputs whose stages have moved.
fn moved(mut inputs: Vec<InputSpec>, place: &dyn Fn(usize) -> usize) -> Vec<InputSpec> {
    for input in &mut inputs {
        if let Source::Stage { index, .. } = &mut input.source {
            *index = place(*index);
        }
    }
    inputs
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
