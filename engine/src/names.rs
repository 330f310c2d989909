//! The names by which the stages of a file can be reached from there: its own, those of the files that it includes, and short ones of
//! stages that several of them share.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::check::Draft;
use crate::part::Part;
use crate::selector::family;
use crate::sharing::Sharing;
use crate::source::{Problem, Sink};

/// The names that hold in one file.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By name, the stages that it stands for: one, or several that are one.
    stages: HashMap<String, Vec<usize>>,
    /// All names, the file's own first.
    order: Vec<String>,
    /// What stages that are one are called here, by the first of them.
    called: HashMap<usize, String>,
    /// What the file's own stages are written as, which no others are called.
    written: HashSet<String>,
}

impl Names {
    /// None yet of a file whose own stages are written as these.
    pub(crate) fn beside<'d>(own: impl Iterator<Item = &'d Draft>) -> Self {
        Self { written: own.map(|draft| draft.name.clone()).collect(), ..Self::default() }
    }

    /// Adds the names of the file's own stages, which have the numbers `own`.
    pub(crate) fn own(&mut self, own: Range<usize>, drafts: &[Draft]) {
        let others = std::mem::take(&mut self.order);
        for stage in own {
            self.insert(drafts[stage].name.clone(), vec![stage]);
        }
        self.order.extend(others);
    }

    /// Whether nothing is called so.
    fn is_free(&self, name: &str) -> bool {
        !self.stages.contains_key(name) && !self.written.contains(family(name))
    }

    /// Takes over the names of an included file; what is called so already is told.
    pub(crate) fn include(&mut self, child: Self, part: &Part, sink: &mut Sink) {
        let full = |name: &str| format!("{}-{name}", part.name);
        let Self { mut stages, order, called, .. } = child;
        for name in order {
            let (full, Some(stages)) = (full(&name), stages.remove(&name)) else { continue };
            if !self.is_free(&full) {
                let help = "give the included pipeline another name: `{ file = …, name = … }`".to_owned();
                sink.push(&part.asked, || Problem::new(format!("two stages are called `{full}`")).help(help));
                continue;
            }
            self.insert(full, stages);
        }
        for (first, name) in called {
            self.called.entry(first).or_insert_with(|| full(&name));
        }
    }

    /// Gives short names to stages of included files that are one: what all of them are called in their own files, where it is free.
    /// The stages of the included files have the numbers `included`.
    pub(crate) fn shorten(&mut self, included: Range<usize>, drafts: &[Draft], sharing: &Sharing) {
        for (first, members) in sharing.groups(included) {
            let name = &drafts[members[0]].name;
            let alike = members.iter().all(|&member| drafts[member].name == *name);
            if members.len() > 1 && alike && self.is_free(name) {
                self.called.insert(first, name.clone());
                self.insert(name.clone(), members);
            }
        }
    }

    /// Says what the file's own stages are called. One that is the same as stages of included files gives them its name only if that is
    /// what all are called in their own files.
    pub(crate) fn call(&mut self, own: Range<usize>, all: Range<usize>, drafts: &[Draft], sharing: &Sharing) {
        let mut same: HashMap<usize, bool> = HashMap::new();
        for (first, members) in sharing.groups(all) {
            same.insert(first, members.iter().all(|&member| drafts[member].name == drafts[members[0]].name));
        }
        for stage in own {
            let (first, name) = (sharing.first(stage), drafts[stage].name.clone());
            if same.get(&first).copied().unwrap_or(true) {
                self.called.insert(first, name);
            } else {
                self.called.entry(first).or_insert(name);
            }
        }
    }

    fn insert(&mut self, name: String, stages: Vec<usize>) {
        self.order.push(name.clone());
        self.stages.insert(name, stages);
    }

    /// The stage of this name.
    pub(crate) fn get(&self, name: &str) -> Option<usize> {
        self.stages.get(name)?.first().copied()
    }

    /// All names, the file's own first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.order.iter().map(String::as_str)
    }

    /// All names, those of a family as one.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> + Clone {
        let mut last = "";
        self.iter().map(family).filter(move |name| *name != std::mem::replace(&mut last, name))
    }

    /// The stages of one name each that are several for a matrix, and what each is called.
    pub(crate) fn families(&self) -> HashMap<&str, Vec<(&str, usize)>> {
        let mut families: HashMap<&str, Vec<(&str, usize)>> = HashMap::new();
        for name in self.iter().filter(|name| name.contains('[')) {
            families.entry(family(name)).or_default().extend(self.get(name).map(|stage| (name, stage)));
        }
        families
    }

    /// What a stage is called here, by the first of those that are one with it.
    pub(crate) fn called(&self, first: usize) -> Option<&str> {
        self.called.get(&first).map(String::as_str)
    }

    /// The names that stand for several stages, and these.
    pub(crate) fn several(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.stages.iter().filter(|(_, stages)| stages.len() > 1).map(|(name, stages)| (name.as_str(), stages.as_slice()))
    }
}
