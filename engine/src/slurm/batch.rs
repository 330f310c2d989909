//! Stages that go to the cluster as one job.

use std::collections::HashMap;

use qapipe_cache::Digest;

use super::wants::Wants;
use crate::selector::family;

/// A stage that has to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// Its number in the pipeline.
    pub(crate) stage: usize,
    /// Its name.
    pub(crate) name: String,
    /// What it is to come out with.
    pub(crate) key: Digest,
    /// Whether it runs although its result is there.
    pub(crate) anew: bool,
    /// What its job asks for.
    pub(crate) wants: Wants,
}

/// Stages that go to the cluster as one job: cells of a family that ask for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// In their order; never empty.
    pub(crate) tasks: Vec<Task>,
}

impl Batch {
    /// Stages in batches of at most so many.
    pub(crate) fn of(tasks: Vec<Task>, widest: usize) -> Vec<Self> {
        let mut batches: Vec<Self> = Vec::new();
        let mut places: HashMap<(String, Wants, bool), usize> = HashMap::new();
        for task in tasks {
            let group = (family(&task.name).to_owned(), task.wants.clone(), task.anew);
            let place = *places.entry(group.clone()).or_insert(batches.len());
            match batches.get_mut(place).filter(|batch| batch.tasks.len() < widest) {
                Some(batch) => batch.tasks.push(task),
                None => {
                    places.insert(group, batches.len());
                    batches.push(Self { tasks: vec![task] });
                }
            }
        }
        batches
    }

    pub(crate) fn is_array(&self) -> bool {
        self.tasks.len() > 1
    }

    /// What all of them ask for.
    pub(crate) fn wants(&self) -> Wants {
        self.tasks.first().map(|task| task.wants.clone()).unwrap_or_default()
    }

    /// What they are called together: a stage's name without its cell.
    pub(crate) fn family(&self) -> &str {
        self.tasks.first().map_or("", |task| family(&task.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, cpus: u64) -> Task {
        let wants = Wants { cpus: Some(cpus), ..Wants::default() };
        Task { stage: 0, name: name.to_owned(), key: Digest::of_bytes(name.as_bytes()), anew: false, wants }
    }

    fn names(batches: &[Batch]) -> Vec<String> {
        batches.iter().map(|batch| batch.tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn cells_of_a_family_that_ask_for_the_same_go_together() {
        let tasks = vec![task("a[r=1]", 1), task("b", 1), task("a[r=2]", 1), task("a[r=3]", 2), task("c", 1)];
        assert_eq!(names(&Batch::of(tasks, 10)), ["a[r=1] a[r=2]", "b", "a[r=3]", "c"]);
    }

    #[test]
    fn an_array_is_no_wider_than_the_cluster_allows() {
        let tasks: Vec<Task> = (0..5).map(|cell| task(&format!("a[r={cell}]"), 1)).collect();
        assert_eq!(names(&Batch::of(tasks, 2)), ["a[r=0] a[r=1]", "a[r=2] a[r=3]", "a[r=4]"]);
    }
}
