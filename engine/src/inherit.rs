//! Variables from file to file: what an including file says wins over what the included one says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::matrix;
use crate::name::shown;
use crate::nearest::suggest;
use crate::part::Part;
use crate::raw::{Entry, Node, Table};
use crate::source::{Problem, Sink};
use crate::substitute::Vars;
use crate::table::table_of;
use crate::variable;

/// The variables of every part. `set` names those that overrides set, which win over all that files say.
pub(crate) fn vars(parts: &mut [Part], set: &HashSet<&str>, sink: &mut Sink) -> Vec<Vars> {
    let mut heirs = Heirs { names: names(parts), given: parts.iter().map(|_| HashMap::new()).collect(), set, made: 0 };
    let mut found: Vec<Vars> = (0..parts.len()).rev().map(|number| heirs.part(parts, number, sink)).collect();
    found.reverse();
    found
}

/// For each part, the variables that it or what it includes has.
fn names(parts: &[Part]) -> Vec<HashSet<String>> {
    let mut names: Vec<HashSet<String>> = Vec::with_capacity(parts.len());
    for part in parts {
        let own = part.variables().into_iter().flat_map(Table::keys).map(str::to_owned);
        let below = part.children.iter().flat_map(|&child| names[child].iter().cloned());
        let all = own.chain(below).collect();
        names.push(all);
    }
    names
}

/// What goes down from file to file.
struct Heirs<'a> {
    names: Vec<HashSet<String>>,
    /// For each part, the values that it gets from above.
    given: Vec<HashMap<String, Node>>,
    set: &'a HashSet<&'a str>,
    /// Bytes that substitutions have made.
    made: usize,
}

impl Heirs<'_> {
    /// The variables of one part; what the files that it includes get from it is then known.
    fn part(&mut self, parts: &mut [Part], number: usize, sink: &mut Sink) -> Vars {
        let given = std::mem::take(&mut self.given[number]);
        let table = table_of(parts[number].root.take("vars"), "vars", sink);
        let here = fitting(&table, &given, &parts[number], sink);
        let own: Vec<String> = table.keys().map(str::to_owned).collect();
        let axes = matrix::axes(parts[number].root.get("matrix").and_then(Node::as_table));
        let mut vars = Vars::read(table, here, axes, self.made, sink);
        for child in parts[number].children.clone() {
            self.given[child] = self.for_child(parts, (number, child), (&own, &given), &mut vars, sink);
        }
        self.made = vars.made();
        vars
    }

    /// What a child gets: the variables of the file, over them those of its `include`, over both what comes from above.
    fn for_child(
        &self,
        parts: &mut [Part],
        (number, child): (usize, usize),
        (own, given): (&[String], &HashMap<String, Node>),
        vars: &mut Vars,
        sink: &mut Sink,
    ) -> HashMap<String, Node> {
        let mut passed = HashMap::new();
        for name in own.iter().filter(|name| self.names[child].contains(*name)) {
            if vars.varies(name) && !self.set.contains(name.as_str()) {
                sink.push(&parts[child].asked, || varies(name, &parts[child]));
            }
            passed.extend(vars.value(name, sink).map(|node| (name.clone(), node)));
        }
        for entry in std::mem::take(&mut parts[child].vars) {
            passed.extend(self.asked(entry, &parts[child], child, vars, sink));
        }
        let home = Arc::clone(&parts[number].home);
        passed.values_mut().for_each(|node| node.at_home(&home));
        for (name, node) in given.iter().filter(|(name, _)| self.names[child].contains(*name)) {
            passed.extend(vars.pass(node, sink).map(|node| (name.clone(), node)));
        }
        passed
    }

    /// A variable that an `include` sets.
    fn asked(&self, entry: Entry, part: &Part, child: usize, vars: &mut Vars, sink: &mut Sink) -> Option<(String, Node)> {
        let Entry { key, span, mut node } = entry;
        let names = &self.names[child];
        if !names.contains(&key) {
            let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
            all.sort_unstable();
            let problem = Problem::new(format!("`{}` has no variable `{}`", part.file.display(), shown(&key)));
            sink.push(&span, || problem.help(suggest(&key, "variables", all)));
            return None;
        }
        if !vars.axes_of(&node, sink).is_empty() {
            sink.push(&node.span, || varies(&key, part));
            return None;
        }
        vars.expand(&mut node, sink);
        (!self.set.contains(key.as_str()) && !node.holds_broken()).then_some((key, node))
    }
}

/// The error for a variable that an included file cannot be given.
fn varies(name: &str, part: &Part) -> Problem {
    let file = part.file.display();
    Problem::new(format!("variable `{}` is another in every cell, and the stages of `{file}` have none", shown(name)))
        .help("write the matrix in the included file".to_owned())
}

/// Of what comes from above, what the file has too. A value of another sort is told where it stands.
fn fitting(table: &Table, given: &HashMap<String, Node>, part: &Part, sink: &mut Sink) -> HashMap<String, Node> {
    let place = format!("`{}`", part.file.display());
    let mut here = HashMap::new();
    for entry in &table.0 {
        let Some(node) = given.get(&entry.key) else { continue };
        match variable::fit(&entry.key, &entry.node, node.clone(), &place) {
            Ok(node) => {
                here.insert(entry.key.clone(), node);
            }
            Err(problem) => sink.push(&node.span, || problem),
        }
    }
    here
}
