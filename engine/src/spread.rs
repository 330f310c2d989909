//! From the stages that a file writes to those that its matrix makes of them.
//!
//! A stage has the axes that it names and those of the stages that it refers to; a cell of it refers to the cells that agree with it. What is
//! written `@lora[rank=8]` refers to that cell whatever the rank of the stage itself, and so takes no axis over.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::cell::{Cell, Setting, key_of, listed};
use crate::check::{Draft, DraftInput, From};
use crate::matrix::{MOST, Matrix};
use crate::name::shown;
use crate::names::Names;
use crate::nearest::suggest;
use crate::pipeline::{InputSpec, Source};
use crate::reference;
use crate::source::{Problem, Sink, Span};

/// The stages of one file, one for each cell of the axes that it names itself, those of one name in a row.
#[derive(Default)]
pub(crate) struct Drafted {
    pub(crate) drafts: Vec<Draft>,
    pub(crate) matrix: Matrix,
}

/// The stages with all of their axes, and references to cells by their whole names. `names` are those of included files, whose stages are `known`.
pub(crate) fn spread(drafted: Drafted, names: &Names, known: &[Draft], sink: &mut Sink) -> Vec<Draft> {
    let Drafted { mut drafts, matrix } = drafted;
    let kin = included(names, known);
    let asks = |input: &DraftInput| matches!(&input.from, From::Stage { cell, .. } if !cell.is_empty());
    if kin.is_empty() && !drafts.iter().any(|draft| !draft.cell.is_empty() || draft.inputs.iter().any(asks)) {
        return drafts;
    }
    let families = families(&drafts);
    let Some(order) = order(&drafts, &families, sink) else {
        drafts.iter_mut().for_each(|draft| draft.inputs.clear());
        return drafts;
    };
    let mut spreader = Spreader { matrix, kin, drafts: drafts.into_iter().map(Some).collect(), count: 0, sink };
    let mut made: Vec<Vec<Draft>> = families.iter().map(|_| Vec::new()).collect();
    for family in order {
        made[family] = spreader.family(families[family].clone());
    }
    made.into_iter().flatten().collect()
}

/// The stages of one name.
struct Kin {
    axes: Vec<Arc<str>>,
    /// By cell, in the order of the axes, the whole name.
    names: HashMap<Cell, String>,
    /// The same cells in order.
    cells: Vec<Cell>,
    /// The values of each axis by what they are called.
    values: HashMap<(Arc<str>, String), Arc<Setting>>,
    /// Whether its cells come from the matrix of the file alone: then any that agrees with another cell of the file is there.
    is_own: bool,
}

impl Kin {
    fn new(members: impl Iterator<Item = (Cell, String)>, is_own: bool) -> Self {
        let mut kin = Self { axes: Vec::new(), names: HashMap::new(), cells: Vec::new(), values: HashMap::new(), is_own };
        for (cell, name) in members {
            if kin.cells.is_empty() {
                kin.axes = cell.0.iter().map(|setting| Arc::clone(&setting.axis)).collect();
            }
            let cell = cell.project(&kin.axes);
            for setting in &cell.0 {
                for called in [setting.label(), setting.key()] {
                    kin.values.entry((Arc::clone(&setting.axis), called.to_owned())).or_insert_with(|| Arc::clone(setting));
                }
            }
            kin.cells.push(cell.clone());
            kin.names.insert(cell, name);
        }
        kin
    }

    /// The value that is asked for.
    fn value(&self, family: &str, axis: &str, text: &str) -> Result<Arc<Setting>, Problem> {
        let Some(axis) = self.axes.iter().find(|known| known.as_ref() == axis) else {
            let problem = Problem::new(format!("stage `{family}` has no axis `{}`", shown(axis)));
            return Err(problem.help(suggest(axis, "axes", self.axes.iter().map(AsRef::as_ref))));
        };
        let called = |text: String| self.values.get(&(Arc::clone(axis), text));
        called(text.to_owned()).or_else(|| called(key_of(text))).cloned().ok_or_else(|| {
            let mut seen = HashSet::new();
            let all = self.cells.iter().filter_map(|cell| cell.get(axis)).filter(|setting| seen.insert(setting.key()));
            let problem = Problem::new(format!("stage `{family}` has no cell with `{axis}={}`", shown(text)));
            problem.help(format!("`{axis}` is one of {}", listed(all.map(|setting| &**setting))))
        })
    }
}

/// The families of included files, by what they are called here.
fn included(names: &Names, known: &[Draft]) -> HashMap<String, Kin> {
    let cells = |members: &[(&str, usize)]| -> Vec<(Cell, String)> {
        members.iter().map(|&(name, stage)| (known[stage].cell.clone(), name.to_owned())).collect()
    };
    names.families().into_iter().map(|(family, members)| (family.to_owned(), Kin::new(cells(&members).into_iter(), false))).collect()
}

/// The stages of one name after the other.
fn families(drafts: &[Draft]) -> Vec<Range<usize>> {
    let mut at = 0;
    let family = |chunk: &[Draft]| {
        let start = at;
        at += chunk.len();
        start..at
    };
    drafts.chunk_by(|a, b| a.name == b.name).map(family).collect()
}

/// The families, each after those that it refers to; nothing if some wait for one another in a circle, which is then told.
fn order(drafts: &[Draft], families: &[Range<usize>], sink: &mut Sink) -> Option<Vec<usize>> {
    let names: Vec<&str> = families.iter().map(|family| drafts[family.start].name.as_str()).collect();
    let numbers: HashMap<&str, usize> = names.iter().enumerate().map(|(number, name)| (*name, number)).collect();
    let waits = |(number, family): (usize, &Range<usize>)| -> Vec<InputSpec> {
        let mut seen = HashSet::from([number]);
        let inputs = drafts[family.clone()].iter().flat_map(|draft| &draft.inputs);
        let before = inputs.filter_map(|input| match &input.from {
            From::Stage { stage, .. } => Some((*numbers.get(stage.as_str())?, input)),
            From::Path(_) => None,
        });
        let new = before.filter(|(index, _)| seen.insert(*index));
        new.map(|(index, input)| {
            let source = Source::Stage { index, output: String::new() };
            InputSpec { param: input.param.clone(), source, part: &[], span: input.span.clone() }
        })
        .collect()
    };
    let inputs: Vec<Vec<InputSpec>> = families.iter().enumerate().map(waits).collect();
    let order = reference::order(0, &inputs);
    if order.is_none() {
        reference::circles(&names, 0, &inputs, sink);
    }
    order
}

struct Spreader<'a> {
    matrix: Matrix,
    /// The families that are known by now, by name.
    kin: HashMap<String, Kin>,
    drafts: Vec<Option<Draft>>,
    /// How many stages matrices have made.
    count: usize,
    sink: &'a mut Sink,
}

/// What a reference of a stage to a family means: the family, and the values that it fixes.
struct Wanted {
    family: String,
    fixed: Vec<Arc<Setting>>,
}

impl Spreader<'_> {
    /// Makes the stages of one name.
    fn family(&mut self, range: Range<usize>) -> Vec<Draft> {
        let mut drafts: Vec<Draft> = range.filter_map(|number| self.drafts[number].take()).collect();
        let Some(first) = drafts.first() else { return drafts };
        let (name, own): (String, Vec<Arc<str>>) = (first.name.clone(), axes(&first.cell));
        let wanted: Vec<Vec<Option<Wanted>>> = drafts.iter_mut().map(|draft| self.wanted(draft)).collect();
        let span = drafts[0].span.clone();
        let Some((cells, is_own)) = self.cells(&own, &wanted, &span) else { return Vec::new() };
        let places: HashMap<Cell, usize> = drafts.iter().enumerate().map(|(place, draft)| (draft.cell.clone(), place)).collect();
        let as_written = cells.first().is_some_and(|cell| cell.0.len() == own.len());
        let told = self.sink.count();
        let mut made = Vec::with_capacity(cells.len());
        for cell in &cells {
            let Some(&place) = places.get(&cell.project(&own)) else { continue };
            let draft = if as_written { std::mem::take(&mut drafts[place]) } else { drafts[place].clone() };
            made.push(self.of_cell(draft, cell, &wanted[place], told));
        }
        if cells.iter().any(|cell| !cell.is_empty()) {
            let members = cells.into_iter().map(|cell| (cell.clone(), format!("{name}{cell}")));
            let kin = Kin::new(members, is_own);
            self.kin.insert(name, kin);
        }
        made
    }

    /// The stage in one cell. That cells are missing which it refers to is told once.
    fn of_cell(&mut self, draft: Draft, cell: &Cell, wanted: &[Option<Wanted>], told: usize) -> Draft {
        let mut draft = Draft { name: format!("{}{cell}", draft.name), cell: cell.clone(), ..draft };
        for (input, wanted) in draft.inputs.iter_mut().zip(wanted) {
            let (Some(wanted), From::Stage { stage, cell: asked, .. }) = (wanted, &mut input.from) else { continue };
            let Some(kin) = self.kin.get(&wanted.family) else { continue };
            let value = |axis: &Arc<str>| wanted.fixed.iter().find(|setting| setting.axis == *axis).or_else(|| cell.get(axis)).cloned();
            let target = Cell(kin.axes.iter().filter_map(value).collect());
            asked.clear();
            match kin.names.get(&target) {
                Some(name) => stage.clone_from(name),
                None => {
                    draft.sound = false;
                    *stage = format!("{}{target}", wanted.family);
                    if self.sink.count() == told {
                        self.sink.push(&input.span, || Problem::new(format!("there is no stage `{stage}`")));
                    }
                }
            }
        }
        if !draft.sound {
            draft.inputs.retain(|input| !matches!(&input.from, From::Stage { stage, .. } if stage.contains('[')));
        }
        draft
    }

    /// What each reference of a stage means, in the order of its inputs. One that cannot be is told and taken away.
    fn wanted(&mut self, draft: &mut Draft) -> Vec<Option<Wanted>> {
        let mut wanted = Vec::with_capacity(draft.inputs.len());
        for input in std::mem::take(&mut draft.inputs) {
            match self.meaning(&draft.name, &input) {
                Ok(meaning) => {
                    wanted.push(meaning);
                    draft.inputs.push(input);
                }
                Err(problem) => {
                    draft.sound = false;
                    self.sink.push(&input.span, || problem);
                }
            }
        }
        wanted
    }

    fn meaning(&self, name: &str, input: &DraftInput) -> Result<Option<Wanted>, Problem> {
        let From::Stage { stage, cell, .. } = &input.from else { return Ok(None) };
        if stage == name {
            return Err(Problem::new(format!("stage `{stage}` refers to itself")));
        }
        let Some(kin) = self.kin.get(stage) else {
            // Whether there is such a stage is another question.
            let asked = cell.first().filter(|_| !stage.contains('['));
            return asked.map_or(Ok(None), |(axis, _)| Err(Problem::new(format!("stage `{stage}` has no axis `{}`", shown(axis)))));
        };
        let fixed = cell.iter().map(|(axis, text)| kin.value(stage, axis, text)).collect::<Result<_, _>>()?;
        Ok(Some(Wanted { family: stage.clone(), fixed }))
    }

    /// The cells of a family, and whether they come from the file's matrix alone; nothing if that is told to be impossible.
    fn cells(&mut self, own: &[Arc<str>], wanted: &[Vec<Option<Wanted>>], span: &Span) -> Option<(Vec<Cell>, bool)> {
        let mut known: HashSet<Arc<str>> = own.iter().cloned().collect();
        let (mut foreign, mut joins, mut joined) = (Vec::new(), Vec::new(), HashSet::new());
        for wanted in wanted.iter().flatten().flatten() {
            let Some(kin) = self.kin.get(&wanted.family) else { continue };
            let free: Vec<Arc<str>> =
                kin.axes.iter().filter(|axis| wanted.fixed.iter().all(|fixed| fixed.axis != **axis)).cloned().collect();
            let new: Vec<Arc<str>> = free.iter().filter(|axis| known.insert(Arc::clone(axis))).cloned().collect();
            foreign.extend(new.into_iter().filter(|axis| !self.matrix.names().any(|name| name == axis)));
            if !kin.is_own && joined.insert((wanted.family.as_str(), wanted.fixed.clone())) {
                joins.push((wanted, free));
            }
        }
        let mine: Vec<Arc<str>> = self.matrix.names().filter(|axis| known.contains(*axis)).cloned().collect();
        let mut cells = if mine.is_empty() { vec![Cell::default()] } else { self.matrix.project(&mine) };
        for (wanted, free) in &joins {
            let kin = self.kin.get(&wanted.family)?;
            let fits = |cell: &&Cell| wanted.fixed.iter().all(|fixed| cell.get(&fixed.axis) == Some(fixed));
            cells = join(&cells, kin.cells.iter().filter(fits).map(|cell| cell.project(free)));
        }
        let is_own = joins.is_empty();
        let order: Vec<Arc<str>> = mine.into_iter().chain(foreign).collect();
        if !is_own {
            cells = cells.iter().map(|cell| cell.project(&order)).collect();
        }
        self.bounded(cells, span).map(|cells| (cells, is_own))
    }

    /// The cells, if there are some and not too many.
    fn bounded(&mut self, cells: Vec<Cell>, span: &Span) -> Option<Vec<Cell>> {
        self.count += cells.len();
        if self.matrix.is_broken {
            return (!cells.is_empty()).then_some(cells);
        }
        if cells.is_empty() {
            let help = "stages of several files meet where their axes of one name have a value in common".to_owned();
            self.sink.push(span, || Problem::new("no cell of this stage is left").help(help));
        } else if self.count > MOST {
            self.sink.push(span, too_many);
            return None;
        }
        (!cells.is_empty()).then_some(cells)
    }
}

/// The error for a stage with which a matrix makes too many.
pub(crate) fn too_many() -> Problem {
    Problem::new("the matrix makes too many stages").label(format!("with this one more than {MOST}"))
}

/// The axes of a cell.
fn axes(cell: &Cell) -> Vec<Arc<str>> {
    cell.0.iter().map(|setting| Arc::clone(&setting.axis)).collect()
}

/// All pairs of cells that agree on the axes that both have, as one cell each.
fn join(cells: &[Cell], others: impl Iterator<Item = Cell>) -> Vec<Cell> {
    let mut seen = HashSet::new();
    let others: Vec<Cell> = others.filter(|cell| seen.insert(cell.clone())).collect();
    let (Some(first), Some(other)) = (cells.first(), others.first()) else { return Vec::new() };
    let (common, more): (Vec<Arc<str>>, Vec<Arc<str>>) = axes(other).into_iter().partition(|axis| first.get(axis).is_some());
    let mut partners: HashMap<Cell, Vec<Cell>> = HashMap::new();
    for other in &others {
        partners.entry(other.project(&common)).or_default().push(other.project(&more));
    }
    let mut joined = Vec::new();
    for cell in cells {
        for more in partners.get(&cell.project(&common)).into_iter().flatten() {
            joined.push(Cell(cell.0.iter().chain(&more.0).cloned().collect()));
            if joined.len() > MOST {
                return joined;
            }
        }
    }
    joined
}
