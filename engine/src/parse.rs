//! From text to a checked pipeline: parse, override, substitute, check each stage, then what lies between stages.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::cell::Cell;
use crate::check::{self, Draft};
use crate::diagnostic::Diagnostics;
use crate::head::Head;
use crate::kinds::Kinds;
use crate::link::{Linked, link};
use crate::matrix::{MOST, Matrix};
use crate::overrides::{self, Override, Shared};
use crate::parsed::Parsed;
use crate::part::Part;
use crate::pipeline::Pipeline;
use crate::raw::{Entry, Node};
use crate::source::{Problem, Sink, Sources};
use crate::spread::{Drafted, too_many};
use crate::substitute::Vars;
use crate::table::table_of;
use crate::{files, inherit, lineage, seed};

pub(crate) fn parse(text: &str, file: &Path, kinds: &Kinds, overrides: &[Override], parsed: &Parsed) -> Result<Pipeline, Diagnostics> {
    let mut sources = Sources::new(file, text, overrides);
    let mut sink = Sink::default();
    let folder = Pipeline::folder_of(file);
    let parts = files::parts(file, &mut sources, parsed, &mut sink);
    let read = parts.map(|parts| Reader { kinds, overrides, folder: &folder }.read(parts, &mut sink));
    sink.finish(&sources)?;
    let Read { head, linked, vars } = read.unwrap_or_default();
    let places = linked.stages.iter().enumerate().map(|(place, stage)| (stage.name.clone(), place)).collect();
    Ok(Pipeline {
        name: head.name,
        file: file.to_owned(),
        folder,
        seed: head.seed.unwrap_or_default(),
        strict: head.strict,
        vars: vars.map(|vars| vars.to_json()).unwrap_or_default(),
        stages: linked.stages,
        aliases: linked.aliases,
        places,
        targets: linked.targets,
        sources,
    })
}

/// What has been read; of use only if nothing was wrong.
#[derive(Default)]
struct Read {
    head: Head,
    linked: Linked,
    vars: Option<Vars>,
}

/// What is the same for all that a pipeline is made of.
struct Reader<'a> {
    kinds: &'a Kinds,
    overrides: &'a [Override],
    /// The pipeline's folder.
    folder: &'a Path,
}

impl Reader<'_> {
    fn read(&self, mut parts: Vec<Part>, sink: &mut Sink) -> Read {
        let shared = self.shared(&parts);
        overrides::apply(&mut parts, self.overrides, self.kinds, &shared, sink);
        self.check(parts, sink)
    }

    /// The names that several stages share: looked for only where an override may need one, and as they are without overrides of stages.
    fn shared(&self, parts: &[Part]) -> Shared {
        if !overrides::need_shared(parts, self.overrides) {
            return Shared::default();
        }
        let (mut parts, mut unheard) = (parts.to_vec(), Sink::default());
        let others: Vec<Override> = self.overrides.iter().filter(|change| !change.path.starts_with("stages.")).cloned().collect();
        overrides::apply(&mut parts, &others, self.kinds, &Shared::default(), &mut unheard);
        self.check(parts, &mut unheard).linked.shared
    }

    fn check(&self, mut parts: Vec<Part>, sink: &mut Sink) -> Read {
        seed::hand_down(&mut parts, self.kinds);
        let mut heads = heads(&parts, sink);
        let strict = heads.iter().any(|head| head.strict);
        let mut vars = inherit::vars(&mut parts, &overrides::variables(self.overrides), sink);
        let mut drafted = Vec::with_capacity(parts.len());
        let mut made = vars.first().map(Vars::made).unwrap_or_default();
        for number in 0..parts.len() {
            vars[number].go_on_from(made);
            drafted.push(self.drafts(&mut parts[number], number, &heads[number], &mut vars[number], sink));
            made = vars[number].made();
        }
        let targets = heads.iter_mut().map(|head| head.targets.take()).collect();
        let linked = link(&parts, drafted, targets, self.folder, strict, sink);
        lineage::check(&linked.stages, sink);
        let head = heads.into_iter().next_back().unwrap_or_default();
        Read { head: Head { strict, ..head }, linked, vars: vars.pop() }
    }

    fn drafts(&self, part: &mut Part, number: usize, head: &Head, vars: &mut Vars, sink: &mut Sink) -> Drafted {
        let stages = table_of(part.root.take("stages"), "stages", sink);
        if stages.0.is_empty() && part.children.is_empty() && sink.count() == 0 {
            let problem = Problem::new("the pipeline has no stages").help("write `[stages.NAME]` and its `kind`".to_owned());
            sink.push(&part.end, || problem);
        }
        let names: HashSet<String> = stages.keys().map(str::to_owned).collect();
        let mut cells = Cells::new(part.root.take("matrix"), vars, sink);
        let mut drafts = Vec::with_capacity(stages.0.len());
        for entry in stages.0 {
            let cells = cells.of(&entry, vars, sink);
            for (mut entry, cell) in std::iter::repeat_n(entry, cells.len()).zip(cells) {
                let before = sink.count();
                vars.enter(&cell);
                vars.expand(&mut entry.node, sink);
                // A broken variable was told where it stands, so that counting errors does not find it here.
                let expanded = sink.count() == before && !entry.node.holds_broken();
                let mut draft = check::stage(entry, number, self.kinds, &names, sink);
                draft.sound &= expanded;
                if draft.seed.is_none() {
                    (draft.seed, draft.seed_span) = (head.seed, head.seed_span.clone());
                }
                drafts.push(Draft { cell, ..draft });
            }
        }
        // A parameter that is set from outside may have been the only one to use its axis.
        if self.overrides.is_empty() {
            cells.tell_unused(sink);
        }
        Drafted { drafts, matrix: cells.matrix }
    }
}

/// The cells of a file's stages, as far as these name axes themselves.
struct Cells {
    matrix: Matrix,
    used: HashSet<Arc<str>>,
    /// How many stages there are with axes.
    count: usize,
}

impl Cells {
    fn new(matrix: Option<Node>, vars: &mut Vars, sink: &mut Sink) -> Self {
        let mut table = table_of(matrix, "matrix", sink);
        vars.enter(&Cell::default());
        for Entry { node, .. } in &mut table.0 {
            if let Some(axis) = vars.axes_of(node, sink).first() {
                sink.push(&node.span, || Problem::new(format!("the matrix is made from its own axis `{axis}`")));
            }
            vars.expand(node, sink);
        }
        Self { matrix: Matrix::read(table, sink), used: HashSet::new(), count: 0 }
    }

    /// The cells of one stage: one without axes if it names none.
    fn of(&mut self, stage: &Entry, vars: &mut Vars, sink: &mut Sink) -> Vec<Cell> {
        let named = vars.axes_of(&stage.node, sink);
        let axes: Vec<Arc<str>> = self.matrix.names().filter(|axis| named.contains(axis.as_ref())).cloned().collect();
        if axes.is_empty() || self.matrix.is_broken {
            return vec![Cell::default()];
        }
        let cells = self.matrix.project(&axes);
        self.used.extend(axes);
        self.count += cells.len();
        if self.count > MOST {
            sink.push(&stage.span, too_many);
            return Vec::new();
        }
        cells
    }

    fn tell_unused(&self, sink: &mut Sink) {
        if sink.count() == 0 {
            self.matrix.tell_unused(&self.used, sink);
        }
    }
}

/// The tops of all files. One without a seed has that of the file that includes it.
fn heads(parts: &[Part], sink: &mut Sink) -> Vec<Head> {
    let mut heads: Vec<Head> = parts.iter().map(|part| Head::read(&part.root, &part.file, sink)).collect();
    for (number, part) in parts.iter().enumerate().rev() {
        let (seed, span) = (heads[number].seed, heads[number].seed_span.clone());
        for &child in &part.children {
            if heads[child].seed.is_none() {
                (heads[child].seed, heads[child].seed_span) = (seed, span.clone());
            }
        }
    }
    heads
}
