//! Execution in this process: how often a stage runs, what is recorded, what past runs tell.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;
#[path = "common/toy.rs"]
mod toy;

use std::sync::atomic::{AtomicBool, Ordering};

use project::{Heard, Project};
use qapipe_engine::{Decision, ErrorClass, Event, Kinds, Observer, Options, StageKind, StageState, events, fingerprint, log, runs};
use toy::Toy;

/// A chain a -> b -> c and, on its own, d.
const CHAIN: &str = "[stages.a]\nkind = \"toy\"\ntext = \"one\"\n[stages.b]\nkind = \"toy\"\ntext = \"b\"\nof = [\"@a\"]\n\
                     [stages.c]\nkind = \"toy\"\nof = [\"@b\"]\n[stages.d]\nkind = \"toy\"\ntext = \"d\"\n";

/// A project with a counting kind of its own.
fn project(pipeline: &str) -> (Project, &'static Toy) {
    let toy: &'static Toy = Box::leak(Box::new(Toy::new()));
    let kinds: &'static [&'static dyn StageKind] = Box::leak(Box::new([toy as &dyn StageKind]));
    (Project::new(Kinds::new(kinds), pipeline), toy)
}

fn keep_going() -> Options {
    Options { keep_going: true, ..Options::default() }
}

#[test]
fn a_result_is_computed_once() {
    let (project, toy) = project(CHAIN);
    project.run();
    assert_eq!(toy.count(), 4);
    project.run();
    assert_eq!(toy.count(), 4);
    project.edit("one", "two");
    project.run();
    assert_eq!(toy.count(), 7);
    project.edit("two", "one");
    assert_eq!(project.run().events, ["cached a", "cached b", "cached c", "cached d"]);
    assert_eq!(toy.count(), 7, "an old value finds its old results");
}

#[test]
fn an_equal_output_stops_the_rerun() {
    let (project, toy) = project(&CHAIN.replace("text = \"b\"\n", "text = \"b\"\nconstant = true\n"));
    project.run();
    project.edit("one", "two");
    let run = project.run();
    assert_eq!(run.ran(), ["a", "b"]);
    assert!(run.has("finished b, unchanged") && run.has("cached c"), "{:?}", run.events);
    assert_eq!(toy.count(), 6);
}

#[test]
fn a_hint_reruns_nothing_and_a_seed_does() {
    let (project, _) = project(CHAIN);
    project.run();
    project.edit("text = \"one\"\n", "text = \"one\"\nhints = { batch = 8 }\n");
    assert_eq!(project.run().ran(), [""; 0]);
    project.edit("hints = { batch = 8 }", "seed = 14");
    let run = project.run();
    assert_eq!(run.ran(), ["a"]);
    assert!(run.events.iter().any(|event| event.starts_with("started a: seed ") && event.ends_with(" -> 14")), "{:?}", run.events);
}

#[test]
fn two_equal_stages_are_computed_once() {
    let (project, toy) = project("[stages.a]\nkind = \"toy\"\n[stages.b]\nkind = \"toy\"\n");
    let run = project.run_with(Options { jobs: 2, ..Options::default() });
    assert_eq!((toy.count(), run.ran().len()), (1, 1), "{:?}", run.events);
}

/// Two stages with one fingerprint that would meet at its lock, and one after them.
const EQUAL: &str = "[stages.a]\nkind = \"toy\"\nslow = true\n[stages.b]\nkind = \"toy\"\nslow = true\n\
                     [stages.c]\nkind = \"toy\"\nof = [\"@b\"]\n";

#[test]
fn a_stage_takes_the_result_of_an_equal_one_and_waits_for_no_lock() {
    let (project, toy) = project(EQUAL);
    let run = project.run_with(Options { jobs: 4, ..Options::default() });
    assert_eq!(run.events, ["started a: new stage", "finished a", "cached b", "started c: new stage", "finished c"]);
    let both = vec!["a".into(), "b".into()];
    let run = project.run_with(Options { jobs: 4, force: both, ..Options::default() });
    assert_eq!(run.events, ["started a: forced", "finished a, unchanged", "cached b", "cached c"]);
    assert_eq!(toy.count(), 3);
}

#[test]
fn a_stage_has_its_own_turn_when_an_equal_one_fails() {
    let (project, toy) = project(&EQUAL.replace("slow = true", "fails = \"failed\""));
    let run = project.run_with(Options { jobs: 4, ..keep_going() });
    assert_eq!((run.ran(), toy.count()), (vec!["a", "b"], 2));
    assert!(run.has("blocked c by b") && !run.has("waiting b"), "{:?}", run.events);
    let run = project.run_with(Options { jobs: 4, ..Options::default() });
    assert_eq!(run.events[2..], ["blocked b by ", "blocked c by b"]);
}

#[test]
fn an_edit_while_an_equal_stage_runs_is_used() {
    let stages = ["a", "b"].map(|name| format!("[stages.{name}]\nkind = \"toy\"\nslow = true\nof = [\"{name}.txt\"]\n"));
    let (project, toy) = project(&stages.concat());
    ["a.txt", "b.txt", "later.txt"].iter().for_each(|name| project.write(name, "equal"));
    project.edit("b.txt", "later.txt");
    let editor = Editor(&project, AtomicBool::new(false));
    let outcome = project.engine(Options { jobs: 4, ..Options::default() }).run(&editor, &AtomicBool::new(false)).unwrap();
    let text = |stage: usize| {
        let artifact = &outcome.stages[stage].brief.as_ref().unwrap().outputs()["y"];
        std::fs::read_to_string(project.store().path(artifact)).unwrap()
    };
    assert_eq!((text(0), text(1), toy.count()), ("equal".into(), "edited".into(), 2));
}

/// Mends the result of stage `b` as another process would, once the run has looked at what is there.
struct Mender(std::path::PathBuf, Heard);

impl Observer for Mender {
    fn event(&self, event: &Event) {
        self.1.event(event);
        if matches!(event, Event::Cached { stage, .. } if stage == "a") {
            std::fs::write(&self.0, "bone").unwrap();
        }
    }
}

#[test]
fn a_result_that_was_mended_meanwhile_is_used() {
    let (project, toy) = project(CHAIN);
    let run = project.run();
    let object = project.store().path(&run.outcome.stages[1].brief.as_ref().unwrap().outputs()["y"]);
    assert_eq!(std::fs::read_to_string(&object).unwrap(), "bone");
    std::fs::remove_file(&object).unwrap();
    let mender = Mender(object, Heard::default());
    project.engine(Options::default()).run(&mender, &AtomicBool::new(false)).unwrap();
    let mut events = mender.1.0.into_inner().unwrap();
    events.sort_unstable();
    assert_eq!((events, toy.count()), (["a", "b", "c", "d"].map(|stage| format!("cached {stage}")).to_vec(), 4));
}

#[test]
fn a_forced_stage_runs_although_its_result_is_there() {
    let (project, toy) = project(CHAIN);
    project.run();
    let run = project.run_with(Options { force: vec!["b".into()], ..Options::default() });
    assert_eq!((run.ran(), toy.count()), (vec!["b"], 5));
    let unknown = qapipe_engine::Engine::new(
        project.store(),
        project.engine(Options::default()).pipeline().clone(),
        Options { force: vec!["bb".into()], ..Options::default() },
    );
    assert!(unknown.err().unwrap().to_string().starts_with("no stage `bb`"));
}

#[test]
fn failures_are_never_recorded_and_have_their_class() {
    for (how, class) in
        [("failed", ErrorClass::Failed), ("full-disk", ErrorClass::Environment), ("panics", ErrorClass::Bug), ("bug", ErrorClass::Bug)]
    {
        let (project, toy) = project(&CHAIN.replace("text = \"b\"", &format!("fails = \"{how}\"")));
        for _ in 0..2 {
            let run = project.run_with(keep_going());
            assert_eq!(run.outcome.failures().next().unwrap().1.class, class);
            assert!(run.has("blocked c by b"), "{:?}", run.events);
        }
        assert_eq!((toy.count(), project.store().usage().records), (4, 2), "{how}");
    }
}

#[test]
fn the_default_starts_nothing_after_a_failure() {
    let (project, toy) = project(&CHAIN.replace("text = \"one\"", "fails = \"failed\""));
    let run = project.run_with(Options { jobs: 1, ..Options::default() });
    assert_eq!(toy.count(), 1);
    assert_eq!(run.events[2..], ["blocked b by a", "blocked c by b", "blocked d by "]);
}

#[test]
fn a_figure_that_is_no_number_is_not_recorded() {
    let (project, _) = project("[stages.a]\nkind = \"toy\"\nfigure = \"nan\"\n[stages.b]\nkind = \"toy\"\nfigure = \"one\"\n");
    let run = project.run();
    let cost = |index: usize| run.outcome.stages[index].brief.as_ref().unwrap().record().unwrap().cost.get("figure").copied();
    assert_eq!((cost(0), cost(1)), (None, Some(1.0)));
    assert_eq!(project.run().ran(), [""; 0], "the record can be read");
}

#[test]
fn a_record_tells_what_made_it() {
    let (project, _) = project(CHAIN);
    let run = project.run();
    let record = run.outcome.stages[1].brief.as_ref().unwrap().record().unwrap();
    assert_eq!((record.kind.as_str(), record.stage.as_str(), &record.run), ("toy", "b", &run.outcome.run));
    assert_eq!(record.fingerprint, fingerprint(&record.facets));
    assert_eq!(record.facets["params.text"], "\"b\"");
    assert_eq!(record.facets["input.of.0"], run.outcome.stages[0].brief.as_ref().unwrap().outputs()["y"].digest.to_string());
    assert!(record.cost["wall_seconds"] > 0.0);
    assert!(["host", "device", "qapipe", "started", "finished"].iter().all(|name| record.provenance.contains_key(*name)));
}

#[test]
fn an_unreadable_record_counts_as_absent() {
    let (project, toy) = project(CHAIN);
    let run = project.run();
    let key = run.outcome.stages[1].key.unwrap().to_string();
    project.write(&format!(".qapipe/records/{}/{key}.json", &key[..2]), "{\"format\": 99}");
    let run = project.run();
    assert!(run.has("started b: result not in the store"), "{:?}", run.events);
    assert_eq!(toy.count(), 5);
}

#[test]
fn a_plan_expects_what_it_took_last_time() {
    let (project, _) = project(CHAIN);
    let plan = project.engine(Options::default()).plan().unwrap();
    assert!(plan.stages.iter().all(|planned| planned.expected_seconds.is_none()));
    assert!(matches!(&plan.stages[0].decision, Decision::Run(reason) if reason.to_string() == "new stage"));
    assert!(!project.path(".qapipe/runs").exists(), "planning leaves no run");
    project.run();
    project.edit("one", "two");
    let plan = project.engine(Options::default()).plan().unwrap();
    assert!(matches!(&plan.stages[0].decision, Decision::Run(reason) if reason.to_string() == "params.text \"one\" -> \"two\""));
    let expected: Vec<bool> = plan.stages.iter().map(|planned| planned.expected_seconds.is_some()).collect();
    assert_eq!(expected, [true, true, true, false], "a, b, c may run; d is cached");
    assert!(!plan.is_done());
}

#[test]
fn past_runs_and_logs_can_be_read() {
    let (project, _) = project(CHAIN);
    let (first, second) = (project.run().outcome.run, project.run().outcome.run);
    assert!(first < second, "run ids sort by time");
    let root = project.path(".qapipe");
    let past = runs(&root);
    assert_eq!(past.iter().map(|run| run.run.as_str()).collect::<Vec<_>>(), [second.as_str(), first.as_str()]);
    assert_eq!((past[1].ran, past[1].cached, past[1].stages, past[0].cached), (4, 0, 4, 4));
    assert!(past[0].seconds.is_some() && past[0].pipeline == "pipeline");
    let heard = events(&root, &first).unwrap();
    assert!(matches!(heard.first(), Some(Event::RunStarted { .. })) && matches!(heard.last(), Some(Event::RunFinished { ran: 4, .. })));
    assert!(events(&root, "20000101-000000000-0000").is_none());
    let path = log(&root, "b", None).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "at work\n");
    assert_eq!(log(&root, "b", Some(&first)), Some(path));
    assert_eq!(log(&root, "b", Some(&second)), None);
}

#[test]
fn a_run_that_was_cut_short_is_still_told() {
    let (project, _) = project(CHAIN);
    let run = project.run().outcome.run;
    let file = project.path(".qapipe/runs").join(&run).join("events.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() - 30]).unwrap();
    let past = runs(&project.path(".qapipe"));
    assert_eq!((past[0].ran, past[0].seconds), (4, None));
}

#[test]
fn a_run_that_is_stopped_before_it_starts_runs_nothing() {
    let (project, toy) = project(CHAIN);
    let outcome = project.engine(Options::default()).run(&(), &AtomicBool::new(true)).unwrap();
    assert!(outcome.interrupted);
    assert_eq!((toy.count(), outcome.count(|state| *state == StageState::Blocked)), (0, 4));
}

/// Edits a file as soon as the first stage starts.
struct Editor<'a>(&'a Project, AtomicBool);

impl Observer for Editor<'_> {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Started { .. }) && !self.1.swap(true, Ordering::SeqCst) {
            self.0.write("later.txt", "edited");
        }
    }
}

#[test]
fn an_edit_before_a_stage_has_its_turn_is_used() {
    let (project, toy) = project("[stages.a]\nkind = \"toy\"\n[stages.b]\nkind = \"toy\"\nof = [\"later.txt\"]\n");
    project.write("later.txt", "as it was");
    let editor = Editor(&project, AtomicBool::new(false));
    let outcome = project.engine(Options { jobs: 1, ..Options::default() }).run(&editor, &AtomicBool::new(false)).unwrap();
    assert_eq!((outcome.count(|state| *state == StageState::Ran), toy.count()), (2, 2));
    let artifact = &outcome.stages[1].brief.as_ref().unwrap().outputs()["y"];
    assert_eq!(std::fs::read_to_string(project.store().path(artifact)).unwrap(), "edited");
    assert_eq!(project.run().ran(), [""; 0]);
}

#[test]
fn many_independent_stages_keep_the_budget() {
    use std::sync::atomic::AtomicUsize;
    struct Busy(AtomicUsize, AtomicUsize);
    impl Observer for Busy {
        fn event(&self, event: &Event) {
            match event {
                Event::Started { .. } => {
                    let now = self.0.fetch_add(1, Ordering::SeqCst) + 1;
                    self.1.fetch_max(now, Ordering::SeqCst);
                }
                Event::Finished { .. } => {
                    self.0.fetch_sub(1, Ordering::SeqCst);
                }
                _ => {}
            }
        }
    }
    let stages: String = (0..60).map(|n| format!("[stages.s{n}]\nkind = \"toy\"\ntext = \"{n}\"\n")).collect();
    let (project, toy) = project(&stages);
    let busy = Busy(AtomicUsize::new(0), AtomicUsize::new(0));
    project.engine(Options { jobs: 3, ..Options::default() }).run(&busy, &AtomicBool::new(false)).unwrap();
    assert_eq!(toy.count(), 60);
    assert!((2..=3).contains(&busy.1.load(Ordering::SeqCst)), "{} at once", busy.1.load(Ordering::SeqCst));
}

#[test]
fn why_lists_the_nearest_first() {
    let pipeline = "[stages.a]\nkind = \"toy\"\ntext = \"1\"\n[stages.b]\nkind = \"toy\"\nof = [\"@a\"]\n\
                    [stages.c]\nkind = \"toy\"\ntext = \"1\"\n[stages.d]\nkind = \"toy\"\nof = [\"@b\", \"@c\"]\n";
    let (project, _) = project(pipeline);
    project.run();
    project.edit("text = \"1\"", "text = \"2\"");
    let why = project.engine(Options::default()).why("d").unwrap();
    let told: Vec<String> = why
        .steps
        .iter()
        .map(|step| format!("{} {:?}", step.stage, step.changes.iter().map(|cause| cause.change.to_string()).collect::<Vec<_>>()))
        .collect();
    assert_eq!(told, ["d []", "b []", "c [\"params.text \\\"1\\\" -> \\\"2\\\"\"]", "a [\"params.text \\\"1\\\" -> \\\"2\\\"\"]"]);
    assert_eq!(why.steps[0].decision, Decision::Maybe { after: vec!["b".into(), "c".into()] });
}

#[test]
fn why_sees_what_another_run_has_done_upstream() {
    let (project, _) = project(CHAIN);
    project.run();
    project.edit("one", "two");
    project.run_with(Options { targets: vec!["b".into()], ..Options::default() });
    let why = project.engine(Options::default()).why("c").unwrap();
    let told: Vec<String> = why
        .steps
        .iter()
        .map(|step| format!("{} {}", step.stage, step.changes.first().map_or_else(String::new, |cause| cause.change.to_string())))
        .collect();
    assert_eq!(told, ["c input.of.0 changed (@b)", "b input.of.0 changed (@a)", "a params.text \"one\" -> \"two\""]);
    assert_eq!(why.steps[2].decision, Decision::Cached);
}
