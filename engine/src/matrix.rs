//! `[matrix]` of a pipeline file: axes, and which of their combinations there are.
//!
//! The cells are the product of all axes, without those that an `exclude` fits, and with those of `include`. A stage that depends on some of
//! the axes exists once for each combination of their values that a cell has.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::cell::{Cell, Setting, listed};
use crate::name::{is_name, no_name, shown};
use crate::nearest::suggest;
use crate::raw::{Entry, Node, Raw, Table};
use crate::source::{Problem, Sink, Span};

/// What a matrix holds besides axes.
pub(crate) const RULES: [&str; 2] = ["exclude", "include"];
/// Most cells of a matrix, and most stages that it makes.
pub(crate) const MOST: usize = 100_000;

/// An axis and its values.
struct Axis {
    name: Arc<str>,
    /// Where its name is written.
    span: Span,
    /// In the order of the file, then those that only an `include` has.
    values: Vec<Arc<Setting>>,
    /// Values by the form that equal ones share.
    places: HashMap<String, u32>,
    labels: HashSet<String>,
    /// How many of them are its own.
    own: usize,
}

/// The numbers of values, one for each axis.
type Row = Vec<u32>;

/// The matrix of one pipeline file.
#[derive(Default)]
pub(crate) struct Matrix {
    axes: Vec<Axis>,
    /// The cells that there are.
    rows: Vec<Row>,
    /// Whether something is wrong with it, which has been told.
    pub(crate) is_broken: bool,
}

/// The names of the axes that a table has.
pub(crate) fn axes(table: Option<&Table>) -> Vec<String> {
    table.into_iter().flat_map(Table::keys).filter(|key| !RULES.contains(key)).map(str::to_owned).collect()
}

impl Matrix {
    /// Reads the table, whose variables have been replaced.
    pub(crate) fn read(mut table: Table, sink: &mut Sink) -> Self {
        let before = sink.count();
        let [exclude, include] = RULES.map(|rule| table.take(rule));
        let mut matrix = Self::default();
        for entry in table.0 {
            matrix.axes.extend(axis(entry, sink));
        }
        // Without its axes, no rule can be right.
        if sink.count() == before {
            matrix.cells(exclude, include, sink);
        }
        matrix.is_broken = sink.count() > before;
        matrix
    }

    /// Which cells there are.
    fn cells(&mut self, exclude: Option<Node>, include: Option<Node>, sink: &mut Sink) {
        if self.axes.is_empty() {
            if let Some(rule) = exclude.or(include) {
                sink.push(&rule.span, || Problem::new("the matrix has no axes").help("write `[matrix]` and `rank = [4, 8]`".to_owned()));
            }
            return;
        }
        let count = self.axes.iter().map(|axis| axis.own).fold(1, usize::saturating_mul);
        if count > MOST {
            let span = self.axes.last().map(|axis| axis.span.clone()).unwrap_or_default();
            sink.push(&span, || Problem::new(format!("the matrix has {count} cells")).label(format!("at most {MOST}")));
            return;
        }
        let excluded = exclude.as_ref().map(|node| Excluded::read(node, self, sink)).unwrap_or_default();
        self.rows = product(&self.axes.iter().map(|axis| axis.own).collect::<Vec<_>>());
        self.rows.retain(|row| !excluded.fits(row));
        if let Some(node) = include {
            self.include(&node, sink);
        }
        if self.rows.is_empty() {
            let span = exclude.map_or_else(Span::default, |node| node.span);
            sink.push(&span, || Problem::new("no cell of the matrix is left").label("this excludes all of them"));
        }
    }

    /// Adds the cells of `include`.
    fn include(&mut self, node: &Node, sink: &mut Sink) {
        let mut known: HashSet<Row> = self.rows.iter().cloned().collect();
        for (table, span) in tables(node, "include", sink) {
            let row = match self.included(table, span) {
                Ok(row) => row,
                Err((at, problem)) => {
                    sink.push(&at, || problem);
                    continue;
                }
            };
            if known.insert(row.clone()) {
                self.rows.push(row);
            } else {
                sink.push(span, || Problem::new("the matrix has this cell already"));
            }
        }
    }

    /// One cell of `include`: a value for every axis, which may be new.
    fn included(&mut self, table: &Table, span: &Span) -> Result<Row, (Span, Problem)> {
        for entry in &table.0 {
            self.number(entry)?;
        }
        let mut row = Vec::with_capacity(self.axes.len());
        for axis in &mut self.axes {
            let Some(node) = table.get(&axis.name) else {
                let what = format!("this cell has no `{}`", axis.name);
                return Err((span.clone(), Problem::new(what).label("a cell has a value for every axis")));
            };
            row.push(axis.number(node, true)?);
        }
        Ok(row)
    }

    /// The number of the axis that an entry of a rule is about.
    fn number(&self, entry: &Entry) -> Result<usize, (Span, Problem)> {
        self.axes.iter().position(|axis| *axis.name == *entry.key).ok_or_else(|| {
            let names = self.axes.iter().map(|axis| axis.name.as_ref());
            let problem = Problem::new(format!("the matrix has no axis `{}`", shown(&entry.key)));
            (entry.span.clone(), problem.help(suggest(&entry.key, "axes", names)))
        })
    }

    /// The names of the axes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.axes.iter().map(|axis| &axis.name)
    }

    /// Tells axes that nothing depends on.
    pub(crate) fn tell_unused(&self, used: &HashSet<Arc<str>>, sink: &mut Sink) {
        for axis in self.axes.iter().filter(|axis| !self.is_broken && !used.contains(&axis.name)) {
            let name = &axis.name;
            sink.push(&axis.span, || {
                Problem::new(format!("no stage uses the axis `{name}`")).help(format!("write `${{matrix.{name}}}` in one"))
            });
        }
    }

    /// The combinations of values that the cells have for these of its axes, each once, in order.
    pub(crate) fn project(&self, names: &[Arc<str>]) -> Vec<Cell> {
        let numbers: Vec<usize> = names.iter().filter_map(|name| self.axes.iter().position(|axis| axis.name == *name)).collect();
        let mut seen: HashSet<Row> = HashSet::with_capacity(self.rows.len());
        let rows = self.rows.iter().map(|row| -> Row { numbers.iter().map(|&number| row[number]).collect() });
        let new = rows.filter(|row| seen.insert(row.clone()));
        let setting = |(&axis, &value): (&usize, &u32)| Arc::clone(&self.axes[axis].values[value as usize]);
        new.map(|row| Cell(numbers.iter().zip(&row).map(setting).collect())).collect()
    }
}

impl Axis {
    /// The number of a value; a new one is taken in if that is allowed.
    fn number(&mut self, node: &Node, may_be_new: bool) -> Result<u32, (Span, Problem)> {
        let setting = Setting::new(&self.name, node.clone()).ok_or_else(|| (node.span.clone(), no_scalar(&self.name, node)))?;
        if let Some(&place) = self.places.get(setting.key()) {
            return Ok(place);
        }
        if may_be_new {
            return Ok(self.add(setting));
        }
        let problem = Problem::new(format!("the axis `{}` has no value {}", self.name, shown(setting.label())));
        Err((node.span.clone(), problem.help(format!("its values: {}", listed(self.values.iter().map(|value| &**value))))))
    }

    /// Whether its values were given from outside.
    fn is_replaced(&self) -> bool {
        self.values.first().is_some_and(|value| value.node.span.is_override())
    }

    fn add(&mut self, mut setting: Setting) -> u32 {
        if !self.labels.insert(setting.label().to_owned()) {
            setting.tell_apart();
        }
        let place = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.places.insert(setting.key().to_owned(), place);
        self.values.push(Arc::new(setting));
        place
    }
}

/// Reads an axis; nothing if something is wrong with it.
fn axis(entry: Entry, sink: &mut Sink) -> Option<Axis> {
    let Entry { key, span, node } = entry;
    let before = sink.count();
    // The name of a swept parameter may be its path.
    if !is_name(&key) && !span.is_override() {
        sink.push(&span, || no_name("an axis", &key));
    }
    let Raw::List(items) = node.value else {
        if !node.is_broken() {
            let problem = Problem::new(format!("axis `{}` wants a list of values", shown(&key))).label(node.describe());
            sink.push(&node.span, || problem);
        }
        return None;
    };
    if items.is_empty() {
        sink.push(&node.span, || Problem::new(format!("axis `{}` has no values", shown(&key))));
    }
    let mut axis = Axis { name: key.into(), span, values: Vec::new(), places: HashMap::new(), labels: HashSet::new(), own: items.len() };
    for item in items.into_iter().filter(|item| !item.is_broken()) {
        let span = item.span.clone();
        match Setting::new(&axis.name, item.clone()) {
            None => sink.push(&span, || no_scalar(&axis.name, &item)),
            Some(setting) if axis.places.contains_key(setting.key()) => {
                sink.push(&span, || Problem::new(format!("axis `{}` has the value {} twice", axis.name, shown(setting.label()))));
            }
            Some(setting) => {
                axis.add(setting);
            }
        }
    }
    (sink.count() == before && axis.values.len() == axis.own).then_some(axis)
}

fn no_scalar(axis: &str, node: &Node) -> Problem {
    Problem::new(format!("axis `{}` wants texts, numbers, true or false", shown(axis))).label(node.describe())
}

/// The tables of a rule, and where each is.
fn tables<'n>(node: &'n Node, rule: &str, sink: &mut Sink) -> Vec<(&'n Table, &'n Span)> {
    let help = || format!("write `{rule} = [{{ rank = 16, lr = 1e-3 }}]`");
    let Raw::List(items) = &node.value else {
        if !node.is_broken() {
            sink.push(&node.span, || Problem::new(format!("`{rule}` wants a list of tables")).label(node.describe()).help(help()));
        }
        return Vec::new();
    };
    let mut tables = Vec::new();
    for item in items.iter().filter(|item| !item.is_broken()) {
        match &item.value {
            Raw::Table(table) if !table.0.is_empty() => tables.push((table, &item.span)),
            Raw::Table(_) => sink.push(&item.span, || Problem::new(format!("this `{rule}` names no axis")).help(help())),
            _ => sink.push(&item.span, || Problem::new(format!("`{rule}` wants tables")).label(item.describe()).help(help())),
        }
    }
    tables
}

/// What is left out: by the axes that a rule names, the combinations of their values. However many rules there are, a cell is looked up once for
/// each set of axes.
#[derive(Default)]
struct Excluded(HashMap<Vec<usize>, HashSet<Row>>);

impl Excluded {
    fn read(node: &Node, matrix: &mut Matrix, sink: &mut Sink) -> Self {
        let mut excluded = Self::default();
        for (table, _) in tables(node, "exclude", sink) {
            if let Err((span, problem)) = excluded.rule(table, matrix) {
                sink.push(&span, || problem);
            }
        }
        excluded
    }

    /// One rule: a value for some axes, or a list of values.
    fn rule(&mut self, table: &Table, matrix: &mut Matrix) -> Result<(), (Span, Problem)> {
        let mut wanted: Vec<(usize, Row)> = Vec::with_capacity(table.0.len());
        for entry in &table.0 {
            let number = matrix.number(entry)?;
            let axis = &mut matrix.axes[number];
            let nodes = match &entry.node.value {
                Raw::List(items) => items.as_slice(),
                _ => std::slice::from_ref(&entry.node),
            };
            let mut values = Row::with_capacity(nodes.len());
            for node in nodes {
                match axis.number(node, false) {
                    Ok(value) => values.push(value),
                    // The file's rules stand, whatever values were given from outside.
                    Err(_) if axis.is_replaced() => {}
                    Err(told) => return Err(told),
                }
            }
            values.sort_unstable();
            values.dedup();
            wanted.push((number, values));
        }
        wanted.sort_by_key(|(number, _)| *number);
        let (axes, values): (Vec<usize>, Vec<Row>) = wanted.into_iter().unzip();
        let counts: Vec<usize> = values.iter().map(Vec::len).collect();
        let rows = product(&counts).into_iter().map(|row| row.iter().zip(&values).map(|(&at, values)| values[at as usize]).collect());
        self.0.entry(axes).or_default().extend(rows);
        Ok(())
    }

    fn fits(&self, row: &Row) -> bool {
        self.0.iter().any(|(axes, rows)| rows.contains(&axes.iter().map(|&axis| row[axis]).collect::<Row>()))
    }
}

/// All combinations of numbers below these, the last counting fastest.
fn product(counts: &[usize]) -> Vec<Row> {
    let mut rows: Vec<Row> = vec![Row::with_capacity(counts.len())];
    for &count in counts {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        rows = rows.iter().flat_map(|row| (0..count).map(|value| row.iter().copied().chain([value]).collect())).collect();
    }
    rows
}
