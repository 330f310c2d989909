//! Which of several ready stages comes first, and which one has the machine for itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;
#[path = "common/toy.rs"]
mod toy;

use std::sync::atomic::AtomicBool;

use project::{Heard, Project};
use qapipe_engine::{Event, Kinds, Observer, Options, StageKind};
use toy::Toy;

static TOY: Toy = Toy::new();
static KINDS: [&dyn StageKind; 1] = [&TOY];

fn project(pipeline: &str) -> Project {
    Project::new(Kinds::new(&KINDS), pipeline)
}

fn stage(name: &str, rest: &str) -> String {
    format!("[stages.{name}]\nkind = \"toy\"\ntext = \"{name}\"\n{rest}\n")
}

/// The order in which stages start where one has to end before the next one starts.
fn order(project: &Project) -> Vec<String> {
    let run = project.run_with(Options { jobs: 1, ..Options::default() });
    let started = run.events.iter().filter_map(|event| Some(event.strip_prefix("started ")?.split(':').next()?.to_owned()));
    started.collect()
}

/// Makes the result of a stage say that it took so many seconds.
fn took(project: &Project, stage: &str, seconds: f64) {
    let engine = project.engine(Options::default());
    let plan = engine.plan().unwrap();
    let key = plan.stages.iter().find(|planned| planned.stage == stage).unwrap().key.unwrap();
    let mut record = project.store().record(&key).unwrap().unwrap();
    record.cost.insert("wall_seconds".into(), seconds);
    project.store().put_record(&record).unwrap();
}

#[test]
fn the_longest_chain_goes_first() {
    let text = stage("alone", "") + &stage("a", "") + &stage("b", "of = [\"@a\"]") + &stage("c", "of = [\"@b\"]") + &stage("other", "");
    assert_eq!(order(&project(&text)), ["a", "b", "alone", "c", "other"], "of equally long ways, in the order of the file");
}

#[test]
fn the_longest_chain_is_that_of_the_longest_time() {
    let text = stage("a", "") + &stage("b", "of = [\"@a\"]") + &stage("c", "of = [\"@b\"]") + &stage("long", "");
    let project = project(&text);
    project.run();
    [("a", 2.0), ("b", 30.0), ("c", 10.0), ("long", 41.0)].iter().for_each(|(stage, seconds)| took(&project, stage, *seconds));
    project.edit("text = \"", "text = \"again ");
    assert_eq!(order(&project), ["a", "long", "b", "c"]);
}

#[test]
fn a_stage_that_is_new_takes_as_long_as_others_of_its_kind() {
    let text = stage("a", "") + &stage("b", "") + &stage("c", "");
    let project = project(&text);
    project.run();
    [("a", 20.0), ("b", 10.0), ("c", 5.0)].iter().for_each(|(stage, seconds)| took(&project, stage, *seconds));
    project.edit("text = \"", "text = \"again ");
    project.write("pipeline.toml", &(project.read("pipeline.toml") + &stage("new", "")));
    assert_eq!(order(&project), ["a", "b", "new", "c"]);
}

/// Leaves a file `STAGE.EVENT` where a stage starts or ends.
struct Marks<'a>(&'a Project, Heard);

impl Observer for Marks<'_> {
    fn event(&self, event: &Event) {
        self.1.event(event);
        match event {
            Event::Started { stage, .. } => self.0.write(&format!("{stage}.started"), ""),
            Event::Finished { stage, .. } => self.0.write(&format!("{stage}.finished"), ""),
            _ => {}
        }
    }
}

#[test]
fn an_exclusive_stage_runs_alone_and_is_not_starved() {
    // `first`, `a` and `b` start. Then `alone` has its turn: `c` and all the others must wait, although there would be room.
    let text = stage("first", "")
        + &stage("alone", "of = [\"@first\"]\nhints = { exclusive = true }")
        + &stage("after", "of = [\"@alone\"]")
        + &stage("a", "waits = \"first.finished\"")
        + &stage("b", "waits = \"a.finished\"")
        + &["c", "d", "e", "f"].map(|name| stage(name, "")).concat();
    let project = project(&text);
    let marks = Marks(&project, Heard::default());
    let outcome = project.engine(Options { jobs: 3, ..Options::default() }).run(&marks, &AtomicBool::new(false)).unwrap();
    assert_eq!(outcome.failures().count(), 0);
    let events = marks.1.0.into_inner().unwrap();
    let place = |event: &str| events.iter().position(|heard| heard.starts_with(event)).unwrap();
    assert_eq!((place("started alone"), place("finished alone")), (6, 7), "{events:?}");
    assert!(place("finished b") < 6 && place("started c") > 7, "{events:?}");
}

#[test]
fn nothing_starts_beside_an_exclusive_stage() {
    let text = stage("alone", "hints = { exclusive = true }") + &stage("after", "of = [\"@alone\"]") + &stage("a", "") + &stage("b", "");
    let run = project(&text).run_with(Options { jobs: 8, ..Options::default() });
    assert_eq!(run.events[..2], ["started alone: new stage", "finished alone"]);
    assert_eq!(run.ran(), ["a", "after", "alone", "b"]);
}

#[test]
fn a_plan_says_what_a_run_takes_side_by_side() {
    let text = stage("a", "") + &stage("b", "of = [\"@a\"]") + &stage("c", "") + &stage("d", "hints = { exclusive = true }");
    let project = project(&text);
    let forecast = |jobs: usize| project.engine(Options { jobs, ..Options::default() }).plan().unwrap().side_by_side_seconds;
    assert_eq!(forecast(2), None, "nothing is known yet");
    project.run();
    assert_eq!(forecast(2), None, "nothing is to be done");
    [("a", 2.0), ("b", 3.0), ("c", 4.0), ("d", 10.0)].iter().for_each(|(stage, seconds)| took(&project, stage, *seconds));
    project.edit("text = \"", "text = \"again ");
    assert_eq!((forecast(1), forecast(2)), (Some(19.0), Some(15.0)));
}
