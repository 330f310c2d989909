//! Which stage gets which GPU, and when: toy devices, workers made of shell.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/heavy.rs"]
mod heavy;
#[path = "common/project.rs"]
mod project;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gpu::{Toys, at, came, forget, go};
use heavy::HEAVY;
use project::{Heard, Project, Run};
use qapipe_cache::Record;
use qapipe_engine::{Devices, ErrorClass, Kinds, Options, StageKind, StageState};

const KINDS: &[&dyn StageKind] = &[&HEAVY];

/// Independent stages, each with so many MiB of peak memory.
fn project(stages: &[(&str, u64)]) -> Project {
    let text =
        stages.iter().map(|(name, peak)| format!("[stages.{name}]\nkind = \"heavy\"\ntext = \"{name}\"\nhints = {{ peak = {peak} }}\n"));
    Project::new(Kinds::new(KINDS), &text.collect::<String>())
}

fn options(project: &Project, gpus: &[u16], gibibytes: &[u64]) -> Options {
    let toys = Arc::new(Toys::new(gibibytes));
    Options { jobs: 8, devices: Devices::Cuda(gpus.to_vec()), gpus: Some(toys), worker: Some(gpu::worker(project)), ..Options::default() }
}

/// Runs to the end while `meanwhile` looks on.
fn run(project: &Project, options: Options, meanwhile: impl FnOnce()) -> Run {
    let (heard, cancel) = (Heard::default(), AtomicBool::new(false));
    let engine = project.engine(options);
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| engine.run(&heard, &cancel).unwrap());
        meanwhile();
        run.join().unwrap()
    });
    Run { events: heard.0.into_inner().unwrap(), outcome }
}

/// Runs everything once, so that it is known what it takes, and makes all of it due again.
fn seen(project: &Project, options: &Options) {
    go(project, "all");
    let run = project.run_with(options.clone());
    assert!(run.outcome.stages.iter().all(|stage| stage.state == StageState::Ran), "{:?}", run.events);
    project.edit("text = \"", "text = \"again ");
    forget(project);
}

fn record<'a>(run: &'a Run, stage: &str) -> &'a Record {
    run.outcome.stages.iter().find(|outcome| outcome.stage == stage).unwrap().brief.as_ref().unwrap().record().unwrap()
}

/// The place of an event in a run.
fn place(run: &Run, event: &str) -> usize {
    run.events.iter().position(|heard| heard.starts_with(event)).unwrap_or_else(|| panic!("no {event} in {:?}", run.events))
}

#[test]
fn two_gpus_take_two_stages_at_once_and_the_third_the_one_that_is_free() {
    let project = project(&[("a", 0), ("b", 0), ("c", 0)]);
    let run = run(&project, options(&project, &[2, 5], &[8; 6]), || {
        let (a, b) = (at(&project, "a"), at(&project, "b"));
        assert_eq!((a.0.as_str(), b.0.as_str()), ("cuda:2", "cuda:5"));
        go(&project, "b");
        assert_eq!(at(&project, "c"), b, "on the GPU of b, in the worker that has used it");
        go(&project, "all");
    });
    let gpus = ["a", "b", "c"].map(|stage| record(&run, stage).provenance["gpu"].clone());
    assert_eq!(gpus, ["cuda:2", "cuda:5", "cuda:5"]);
    assert!(place(&run, "finished b") < place(&run, "started c"), "{:?}", run.events);
}

#[test]
fn a_worker_keeps_to_its_gpu() {
    let project = project(&[("a", 0), ("b", 0)]);
    project.edit("text = \"b\"\nhints = { peak = 0 }", "of = [\"@a\"]\nhints = { device = \"cuda:1\" }");
    run(&project, options(&project, &[0], &[8]), || {
        let (first, worker) = at(&project, "a");
        go(&project, "a");
        let (second, other) = at(&project, "b");
        assert_eq!((first.as_str(), second.as_str()), ("cuda:0", "cuda:1"), "the hint wins");
        assert_ne!(worker, other);
        go(&project, "all");
    });
}

#[test]
fn stages_do_not_share_a_gpu_unless_that_is_asked_for() {
    let project = project(&[("a", 100), ("b", 100)]);
    let alone = options(&project, &[0], &[80]);
    seen(&project, &alone);
    go(&project, "all");
    let run = run(&project, alone, || {});
    let sorts: Vec<&str> = run.events.iter().map(|event| event.split(' ').next().unwrap()).collect();
    assert_eq!(sorts, ["started", "finished", "started", "finished"], "{:?}", run.events);
    assert!(!record(&run, "a").cost.contains_key("gpu_shared"));
}

#[test]
fn three_stages_of_3_gib_share_a_gpu_of_13_and_the_fourth_waits() {
    let project = project(&[("a", 3072), ("b", 3072), ("c", 3072), ("d", 3072)]);
    let shared = Options { share_gpus: true, ..options(&project, &[0], &[13]) };
    seen(&project, &shared);
    let run = run(&project, shared, || {
        let first = came(&project, 3);
        assert_eq!(first.len(), 3);
        go(&project, &first[0]);
        came(&project, 4);
        go(&project, "all");
    });
    let sorts: Vec<&str> = run.events.iter().map(|event| event.split(' ').next().unwrap()).collect();
    assert_eq!(sorts[..5], ["started", "started", "started", "finished", "started"], "{:?}", run.events);
    assert!(["a", "b", "c", "d"].iter().all(|stage| record(&run, stage).cost["gpu_shared"] == 1.0));
}

#[test]
fn a_stage_that_was_never_seen_takes_the_whole_gpu() {
    let project = project(&[("a", 100), ("b", 100)]);
    let shared = Options { share_gpus: true, ..options(&project, &[0], &[80]) };
    seen(&project, &shared);
    project.edit("[stages.a]", "[stages.new]\nkind = \"heavy\"\ntext = \"new\"\n[stages.a]");
    go(&project, "all");
    let run = run(&project, shared, || {});
    assert_eq!(place(&run, "started new") + 1, place(&run, "finished new"), "{:?}", run.events);
    assert!(!record(&run, "new").cost.contains_key("gpu_shared"));
}

#[test]
fn what_does_not_fit_a_gpu_goes_to_a_larger_one_and_others_pass() {
    let project = project(&[("large", 20_000), ("larger", 30_000), ("small", 1000)]);
    let two = options(&project, &[0, 1], &[8, 40]);
    seen(&project, &two);
    // Both come before the small one. Whichever is first, one is on the larger GPU and the other waits for it.
    project.edit("[stages.small]", "[stages.last]\nkind = \"heavy\"\ntext = \"last\"\nof = [\"@large\", \"@larger\"]\n[stages.small]");
    let run = run(&project, two, || {
        let first = came(&project, 2);
        assert!(first.contains(&"small".to_owned()), "though another one waits for the larger GPU: {first:?}");
        let on = |stage: &str| at(&project, stage).0;
        assert_eq!(first.iter().map(|stage| on(stage)).collect::<std::collections::BTreeSet<_>>().len(), 2);
        go(&project, "all");
    });
    let gpu = |stage| record(&run, stage).provenance["gpu"].as_str();
    assert_eq!((gpu("large"), gpu("larger"), gpu("small")), ("cuda:1", "cuda:1", "cuda:0"));
}

#[test]
fn a_hint_without_a_number_leaves_the_choice_among_the_runs_gpus() {
    let project = project(&[("a", 0)]);
    project.edit("peak = 0", "device = \"cuda\"");
    run(&project, options(&project, &[3], &[8; 4]), || {
        assert_eq!(at(&project, "a").0, "cuda:3");
        go(&project, "all");
    });
}

#[test]
fn a_gpu_that_is_not_there_is_told_before_anything_runs() {
    let project = project(&[("a", 0), ("b", 0)]);
    let run = project.run_with(options(&project, &[0, 7], &[8, 8]));
    assert_eq!(run.events, ["failed a: cuda:7 was asked for, but libtorch sees 2 CUDA devices", "blocked b by "]);
    assert_eq!(run.outcome.failures().next().unwrap().1.class, ErrorClass::Environment);
}

#[test]
fn nobody_asks_for_gpus_where_nothing_hangs_on_them() {
    let project = project(&[("a", 0), ("b", 0)]);
    go(&project, "all");
    for (gpus, share_gpus) in [(vec![0], false), (vec![0, 1], true)] {
        let toys = Arc::new(Toys::new(&[8, 8]));
        project.run_with(Options { share_gpus, gpus: Some(toys.clone()), ..options(&project, &gpus, &[]) });
        assert_eq!(toys.asked.load(Ordering::SeqCst), 0, "one GPU, or nothing to be done");
    }
}

#[test]
fn results_hang_on_the_device_and_not_on_its_number() {
    let project = project(&[("a", 0)]);
    let text = project.read("pipeline.toml");
    project.write("pipeline.toml", &format!("numerics = \"strict\"\n{text}"));
    let key = |gpus: &[u16]| project.engine(options(&project, gpus, &[8; 3])).plan().unwrap().stages[0].key;
    let on_the_cpu = Options { devices: Devices::Cpu, ..options(&project, &[0], &[8]) };
    let cpu = project.engine(on_the_cpu).plan().unwrap().stages[0].key;
    assert_eq!((key(&[0]), key(&[0])), (key(&[1, 2]), key(&[2])));
    assert_ne!(key(&[0]), cpu);
    let before = key(&[0]);
    project.edit("peak = 0", "peak = 0, exclusive = true");
    assert_eq!(key(&[0]), before, "nor on what runs beside it");
}
