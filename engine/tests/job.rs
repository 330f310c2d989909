//! One stage as a job for a driver: it is what was submitted, or it does not run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;
#[path = "common/toy.rs"]
mod toy;

use std::sync::atomic::AtomicBool;

use project::{Heard, Project};
use qapipe_cache::Digest;
use qapipe_engine::{Engine, ErrorClass, Event, Job, Kinds, Options, StageError, StageKind};
use toy::Toy;

static TOY: Toy = Toy::new();
const KINDS: &[&dyn StageKind] = &[&TOY];

/// A chain a -> b.
const CHAIN: &str = "[stages.a]\nkind = \"toy\"\ntext = \"one\"\n[stages.b]\nkind = \"toy\"\ntext = \"b\"\nof = [\"@a\"]\n";

fn engine(project: &Project) -> Engine {
    project.engine(Options::default())
}

/// The key that a plan gives a stage.
fn key(project: &Project, stage: &str) -> Digest {
    let plan = engine(project).plan().unwrap();
    plan.stages.iter().find(|planned| planned.stage == stage).and_then(|planned| planned.key).unwrap()
}

/// Runs a stage as a job; what was heard, what was written for the driver, and how it ended.
fn job(project: &Project, stage: &str, expect: Digest) -> (Vec<String>, Vec<Event>, Result<(), StageError>) {
    let job = Job { expect, run: "20260101-000000000-abcd".to_owned(), events: project.path("events/0-0.jsonl") };
    let heard = Heard::default();
    let ended = engine(project).run_job(stage, &job, &heard, &AtomicBool::new(false));
    let written = project.read("events/0-0.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (heard.0.into_inner().unwrap(), written, ended)
}

#[test]
fn a_job_runs_its_stage_and_nothing_else() {
    let project = Project::new(Kinds::new(KINDS), CHAIN);
    engine(&project).run(&(), &AtomicBool::new(false)).unwrap();
    project.edit("text = \"b\"", "text = \"new\"");
    let expected = key(&project, "b");
    let (heard, written, ended) = job(&project, "b", expected);
    ended.unwrap();
    assert_eq!(heard, ["started b: params.text \"b\" -> \"new\"", "finished b"]);
    assert!(matches!(written.as_slice(), [Event::Started { .. }, .., Event::Finished { .. }]), "{written:?}");
    assert_eq!(project.store().record(&expected).unwrap().unwrap().run, "20260101-000000000-abcd");
    assert_eq!(qapipe_engine::runs(project.store().root()).len(), 1, "a job is no run");
    let again = job(&project, "b", expected);
    assert_eq!((again.0, again.2), (vec!["cached b".to_owned()], Ok(())));
}

#[test]
fn what_was_edited_since_is_not_computed_under_the_old_name() {
    let project = Project::new(Kinds::new(KINDS), CHAIN);
    engine(&project).run(&(), &AtomicBool::new(false)).unwrap();
    let expected = key(&project, "b");
    project.edit("text = \"b\"", "text = \"new\"");
    let (_, written, ended) = job(&project, "b", expected);
    let error = ended.unwrap_err();
    assert!(error.class == ErrorClass::Stale && error.message.starts_with("the stage is no longer what was submitted"), "{error}");
    assert_eq!(written, [Event::Failed { stage: "b".to_owned(), error }]);
}

#[test]
fn a_job_whose_inputs_are_gone_does_not_make_them() {
    let project = Project::new(Kinds::new(KINDS), CHAIN);
    let before = TOY.count();
    let (heard, _, ended) = job(&project, "b", Digest::of_bytes(b"b"));
    assert_eq!(ended.unwrap_err().class, ErrorClass::Stale);
    assert!(heard.iter().all(|event| event.starts_with("failed b: what the stage reads is no longer in the store")), "{heard:?}");
    assert_eq!(TOY.count(), before);
}
