//! A remote behind the store: what is fetched, what is not, and that a run never fails because of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/plain.rs"]
mod plain;
#[path = "common/project.rs"]
mod project;
#[path = "common/toy.rs"]
mod toy;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use plain::{Plain, plain};
use project::{Project, Run};
use qapipe_cache::{Depot, Folder, Remote, RemoteError, Watch};
use qapipe_engine::{Accepts, ArtifactType, Command, Decision, Kinds, Options, Param, Plan, StageError, StageKind, Ty};
use toy::Toy;

/// A chain a -> b -> c and, on its own, d.
const CHAIN: &str = "[stages.a]\nkind = \"toy\"\ntext = \"one\"\n[stages.b]\nkind = \"toy\"\ntext = \"b\"\nof = [\"@a\"]\n\
                     [stages.c]\nkind = \"toy\"\ntext = \"c\"\nof = [\"@b\"]\n[stages.d]\nkind = \"toy\"\ntext = \"d\"\n";

const KINDS: &[&dyn StageKind] = &[&TOY, &MODEL, &READS, &EVALUATES, &Command];
static TOY: Toy = Toy::new();

const OF: Accepts = Accepts { types: &[], part: &["tokenizer"] };
const ALL: Accepts = Accepts { types: &[], part: &[] };

/// Gives a folder.
const MODEL: Plain = Plain {
    outputs: &[("model", ArtifactType::MODEL)],
    ..plain("model", &[Param::required("weights", Ty::Str, "What is in it.")], |cx| {
        let out = cx.output("model")?;
        std::fs::create_dir(out).unwrap();
        std::fs::write(out.join("tokenizer"), "words").unwrap();
        std::fs::write(out.join("weights"), cx.request.values.text("weights").unwrap()).unwrap();
        Ok(())
    })
};

/// Reads only a part of such a folder.
const READS: Plain = plain("reads", &[Param::required("of", Ty::Ref(OF), "A model.")], |cx| {
    std::fs::copy(cx.input("of")?.join("tokenizer"), cx.output("y")?).map(drop).map_err(|error| StageError::failed(error.to_string()))
});

/// Gives a table and something large.
const EVALUATES: Plain = Plain {
    outputs: &[("large", ArtifactType::MODEL), ("metrics", ArtifactType::METRICS)],
    ..plain("evaluates", &[Param::required("of", Ty::Ref(ALL), "A model.")], |cx| {
        std::fs::write(cx.output("large")?, "large").unwrap();
        std::fs::write(cx.output("metrics")?, "rows").unwrap();
        Ok(())
    })
};

/// A folder that can be told to misbehave.
#[derive(Debug)]
struct Moody {
    depot: Folder,
    mood: Arc<AtomicU8>,
}

const WELL: u8 = 0;
/// Nobody answers.
const DOWN: u8 = 1;
/// Whatever is asked is forbidden.
const DENIED: u8 = 2;
/// Records are there; then the connection breaks off.
const NO_OBJECTS: u8 = 3;
/// May be read alone.
const READ_ONLY: u8 = 4;

impl Moody {
    fn check(&self, bad: &[u8]) -> Result<(), RemoteError> {
        let (mood, remote, what) = (self.mood.load(Ordering::SeqCst), self.url().to_owned(), "it was told to".to_owned());
        match mood {
            mood if !bad.contains(&mood) => Ok(()),
            DENIED | READ_ONLY => Err(RemoteError::Denied { remote, what }),
            _ => Err(RemoteError::Unreachable { remote, what }),
        }
    }
}

impl Depot for Moody {
    fn url(&self) -> &str {
        self.depot.url()
    }
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        self.check(&[DOWN, DENIED]).and_then(|()| self.depot.get(key))
    }
    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, RemoteError> {
        self.check(&[DOWN, DENIED, NO_OBJECTS]).and_then(|()| self.depot.read(key, range))
    }
    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        self.check(&[DOWN, DENIED, NO_OBJECTS]).and_then(|()| self.depot.size(key))
    }
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.check(&[DOWN, DENIED, READ_ONLY]).and_then(|()| self.depot.put(key, bytes))
    }
    fn upload(&self, key: &str, file: &Path, note: &Path, watch: &dyn Watch) -> Result<(), RemoteError> {
        self.check(&[DOWN, DENIED, READ_ONLY]).and_then(|()| self.depot.upload(key, file, note, watch))
    }
    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, RemoteError> {
        self.check(&[DOWN, DENIED]).and_then(|()| self.depot.list(folder))
    }
}

/// Machines with a project and a store each, and one remote.
struct World {
    folder: tempfile::TempDir,
    mood: Arc<AtomicU8>,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), mood: Arc::default() }
    }

    fn remote(&self) -> Remote {
        let depot = Folder::new(&self.folder.path().join("remote"));
        Remote::new(Box::new(Moody { depot, mood: Arc::clone(&self.mood) }))
    }

    fn options(&self) -> Options {
        Options { remote: Some(Arc::new(self.remote())), jobs: 2, ..Options::default() }
    }

    fn be(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    /// A machine on which the pipeline has run, and whose results are in the remote.
    fn computed(&self, pipeline: &str) -> Project {
        let project = Project::new(Kinds::new(KINDS), pipeline);
        let run = project.run();
        assert_eq!(run.outcome.failures().count(), 0, "{:?}", run.events);
        self.push(&project);
        project
    }

    fn push(&self, project: &Project) {
        self.remote().push(&project.store(), &project.store().records().collect::<Vec<_>>(), false, &()).unwrap();
    }

    fn run(&self, project: &Project) -> Run {
        project.run_with(self.options())
    }

    fn plan(&self, project: &Project) -> Plan {
        project.engine(self.options()).plan().unwrap()
    }

    fn object(&self, text: &str) -> std::path::PathBuf {
        let digest = qapipe_cache::Digest::of_bytes(text.as_bytes()).to_string();
        self.folder.path().join("remote/objects").join(&digest[..2]).join(digest)
    }
}

fn machine(pipeline: &str) -> Project {
    Project::new(Kinds::new(KINDS), pipeline)
}

/// Words of the decisions: c(ached), f(etch), r(un), m(aybe).
fn words(plan: &Plan) -> String {
    let word = |decision: &Decision| match decision {
        Decision::Cached => 'c',
        Decision::Fetch { .. } => 'f',
        Decision::Run(_) => 'r',
        Decision::Maybe { .. } => 'm',
    };
    plan.stages.iter().map(|planned| word(&planned.decision)).collect()
}

fn sorted(run: &Run) -> Vec<&str> {
    let mut events: Vec<&str> = run.events.iter().map(String::as_str).collect();
    events.sort_unstable();
    events
}

#[test]
fn another_machine_computes_nothing_and_fetches_what_it_needs() {
    let world = World::new();
    world.computed(CHAIN);
    let two = machine(CHAIN);
    let plan = world.plan(&two);
    assert!(words(&plan) == "ffff" && plan.is_done(), "{plan:?}");
    assert_eq!(sorted(&world.run(&two)), ["in remote a", "in remote b", "in remote c", "in remote d"]);
    assert_eq!((two.store().objects().count(), two.store().records().count()), (0, 0));
    // What an edit makes new needs only what stands before it.
    two.edit("text = \"c\"", "text = \"e\"");
    assert_eq!(words(&world.plan(&two)), "ffrf");
    let run = world.run(&two);
    assert_eq!(sorted(&run), ["fetched b", "finished c", "in remote a", "in remote d", "started c: params.text \"c\" -> \"e\""]);
    assert_eq!(sorted(&world.run(&two)), ["cached b", "cached c", "in remote a", "in remote d"]);
    assert!(two.store().verify_all(|_| {}).is_empty());
}

#[test]
fn what_a_remote_said_is_not_asked_again_and_an_unknown_key_is() {
    let world = World::new();
    world.computed(CHAIN);
    let two = machine(CHAIN);
    world.run(&two);
    world.be(DOWN);
    assert_eq!(sorted(&world.run(&two)), ["in remote a", "in remote b", "in remote c", "in remote d"]);
}

#[test]
fn a_remote_that_nobody_reaches_costs_one_warning() {
    let world = World::new();
    world.computed(CHAIN);
    for (mood, told) in [(DOWN, "cannot be reached"), (DENIED, "refuses access")] {
        world.be(mood);
        let two = machine(CHAIN);
        let engine = two.engine(world.options());
        assert_eq!(words(&engine.plan().unwrap()), "rmmr");
        let warnings = engine.warnings();
        assert!(warnings.len() == 1 && warnings[0].message.contains(told) && warnings[0].help.is_some(), "{warnings:?}");
        let run = world.run(&two);
        assert_eq!(run.ran(), ["a", "b", "c", "d"]);
        let warnings: Vec<&String> = run.events.iter().filter(|event| event.starts_with("warning")).collect();
        assert!(warnings.len() == 1 && warnings[0].contains(told) && run.outcome.failures().count() == 0, "{warnings:?}");
    }
}

#[test]
fn offline_asks_nothing_and_forced_stages_run() {
    let world = World::new();
    world.computed(CHAIN);
    let two = machine(CHAIN);
    let run = two.run_with(Options { force: vec!["d".into()], ..world.options() });
    assert_eq!(sorted(&run), ["finished d", "in remote a", "in remote b", "in remote c", "started d: forced"]);
    let three = machine(CHAIN);
    world.be(DOWN);
    let run = three.run_with(Options { offline: true, ..world.options() });
    assert!(run.ran() == ["a", "b", "c", "d"] && !run.events.iter().any(|event| event.starts_with("warning")), "{:?}", run.events);
}

#[test]
fn what_breaks_off_while_it_is_needed_is_computed_with_all_before_it() {
    let world = World::new();
    world.computed(CHAIN);
    let two = machine(&CHAIN.replace("text = \"c\"", "text = \"e\""));
    world.be(NO_OBJECTS);
    let run = world.run(&two);
    assert_eq!(run.ran(), ["a", "b", "c"], "{:?}", run.events);
    assert!(run.has("in remote d") && run.outcome.failures().count() == 0);
    assert_eq!(run.events.iter().filter(|event| event.starts_with("warning")).count(), 1, "{:?}", run.events);
    world.be(WELL);
    assert_eq!(sorted(&world.run(&two)), ["cached a", "cached b", "cached c", "in remote d"]);
}

#[test]
fn what_is_damaged_in_the_remote_is_computed_and_the_rest_fetched() {
    let world = World::new();
    world.computed(CHAIN);
    let path = world.object("bone");
    std::fs::write(&path, "bonx").unwrap();
    let two = machine(&CHAIN.replace("text = \"c\"", "text = \"e\""));
    let run = world.run(&two);
    assert_eq!(run.ran(), ["b", "c"], "{:?}", run.events);
    assert!(run.has("fetched a") && run.outcome.failures().count() == 0, "{:?}", run.events);
    let warnings: Vec<&String> = run.events.iter().filter(|event| event.starts_with("warning")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("is damaged"), "{warnings:?}");
    assert!(two.store().verify_all(|_| {}).is_empty());
    std::fs::remove_file(&path).unwrap();
    world.push(&two);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "bone");
}

#[test]
fn a_stage_that_is_computed_after_all_has_what_follows_decided_anew() {
    let world = World::new();
    let random = "[stages.a]\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"cat /proc/sys/kernel/random/uuid > {out.y}\"]\noutputs = [\"y\"]\n\
                  [stages.b]\nkind = \"toy\"\nof = [\"@a\"]\n[stages.c]\nkind = \"toy\"\ntext = \"c\"\nof = [\"@a\"]\n";
    let one = world.computed(random);
    let a = one.store().records().find(|record| record.stage == "a").unwrap().outputs["y"].digest.to_string();
    std::fs::remove_file(world.folder.path().join("remote/objects").join(&a[..2]).join(&a)).unwrap();
    let two = machine(&random.replace("text = \"c\"", "text = \"e\""));
    let run = world.run(&two);
    assert_eq!(run.ran(), ["a", "b", "c"], "b hangs on what a gives now: {:?}", run.events);
    assert_eq!(sorted(&world.run(&two)), ["cached a", "cached b", "cached c"]);
}

#[test]
fn a_part_of_what_is_only_in_the_remote_makes_a_key() {
    let world = World::new();
    let text = "[stages.m]\nkind = \"model\"\nweights = \"1\"\n[stages.r]\nkind = \"reads\"\nof = \"@m\"\n[stages.e]\nkind = \"evaluates\"\nof = \"@m\"\n";
    world.computed(text);
    let two = machine(text);
    assert_eq!(words(&world.plan(&two)), "fff");
    let run = world.run(&two);
    assert_eq!(sorted(&run), ["in remote e", "in remote m", "in remote r"]);
    // The small table is here for reports, the large output is not.
    assert_eq!(two.store().objects().map(|object| object.bytes).sum::<u64>(), 4);
    let three = machine(&text.replace("\"1\"", "\"2\""));
    let run = world.run(&three);
    assert!(run.ran() == ["e", "m"] && run.has("in remote r"), "only the tokenizer counts: {:?}", run.events);
}

#[test]
fn what_is_put_into_the_folder_is_fetched_at_once() {
    let world = World::new();
    let text = "[stages.a]\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"echo a > {out.y}\"]\noutputs = { y = \"out/a.txt\" }\n";
    world.computed(text);
    let two = machine(text);
    assert_eq!(world.run(&two).events, ["fetched a"]);
    assert_eq!(two.read("out/a.txt"), "a\n");
    assert_eq!(world.run(&two).events, ["cached a"]);
}

#[test]
fn a_damaged_result_is_mended_from_the_remote() {
    let world = World::new();
    let one = world.computed(CHAIN);
    let artifact = one.store().records().find(|record| record.stage == "b").unwrap().outputs["y"].clone();
    std::fs::remove_file(one.store().path(&artifact)).unwrap();
    assert_eq!(words(&world.plan(&one)), "cfcc");
    one.edit("text = \"c\"", "text = \"e\"");
    let run = world.run(&one);
    assert!(run.ran() == ["c"] && run.has("fetched b") && run.has("damaged b"), "{:?}", run.events);
    assert!(one.store().verify_all(|_| {}).is_empty());
}

#[test]
fn equal_stages_are_fetched_once() {
    let world = World::new();
    let text = "[stages.a]\nkind = \"toy\"\ntext = \"one\"\n[stages.b]\nkind = \"toy\"\ntext = \"one\"\n";
    world.computed(text);
    let two = machine(&format!("{text}[stages.c]\nkind = \"toy\"\nof = [\"@a\", \"@b\"]\n"));
    let run = world.run(&two);
    assert_eq!(run.ran(), ["c"]);
    assert_eq!(run.events.iter().filter(|event| event.starts_with("fetched")).count(), 1, "{:?}", run.events);
}

#[test]
fn with_push_what_is_computed_is_sent_while_the_run_goes_on() {
    let world = World::new();
    let one = machine(CHAIN);
    let run = one.run_with(Options { push: true, ..world.options() });
    assert_eq!(run.events.iter().filter(|event| event.starts_with("pushed")).count(), 4, "{:?}", run.events);
    let two = machine(CHAIN);
    assert_eq!(world.run(&two).ran(), [""; 0]);
}

#[test]
fn what_cannot_be_pushed_stays_here_and_is_told_once() {
    let world = World::new();
    world.computed(CHAIN);
    world.be(READ_ONLY);
    let one = machine(&CHAIN.replace("one", "two"));
    let run = one.run_with(Options { push: true, ..world.options() });
    assert!(run.ran() == ["a", "b", "c"] && run.has("in remote d"), "{:?}", run.events);
    let warnings: Vec<&String> = run.events.iter().filter(|event| event.starts_with("warning")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("3 results were not pushed"), "{warnings:?}");
    world.be(WELL);
    world.push(&one);
    assert_eq!(world.run(&machine(&CHAIN.replace("one", "two"))).ran(), [""; 0]);
}

#[test]
fn sixty_stages_in_every_mixture_end_well() {
    let world = World::new();
    let text = |edited: &dyn Fn(usize) -> bool| -> String {
        let stage = |at: usize| {
            let of = if at < 8 { String::new() } else { format!("of = [\"@s{}\", \"@s{}\"]\n", at - 8, at - 1 - at % 7) };
            let word = if edited(at) { "new" } else { "old" };
            format!("[stages.s{at}]\nkind = \"toy\"\ntext = \"{word}{at}\"\nconstant = {}\n{of}", at.is_multiple_of(3))
        };
        (0..60).map(stage).collect()
    };
    world.computed(&text(&|_| false));
    for seed in 0..4_usize {
        // Some objects are gone, and some stages are edited.
        for (at, file) in walk(&world.folder.path().join("remote/objects")).into_iter().enumerate() {
            if (at * 7 + seed).is_multiple_of(23) {
                std::fs::remove_file(file).unwrap();
            }
        }
        let two = machine(&text(&|at| (at * 31 + seed * 17).is_multiple_of(41)));
        let run = world.run(&two);
        assert_eq!(run.outcome.failures().count(), 0, "{:?}", run.outcome.failures().collect::<Vec<_>>());
        assert_eq!(run.outcome.count(|state| *state == qapipe_engine::StageState::Blocked), 0, "{:?}", run.events);
        assert!(two.store().verify_all(|_| {}).is_empty());
        let again = world.run(&two);
        assert_eq!(again.ran(), [""; 0]);
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}
