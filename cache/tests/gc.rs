//! Garbage collection: what stays, what goes, and that nobody else notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use qapipe_cache::{Artifact, Digest, Garbage, Leftover, Policy, Record, Store};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn key(name: &str) -> Digest {
    Digest::of_bytes(name.as_bytes())
}

fn record(name: &str, seconds: f64, output: Artifact) -> Record {
    let cost = [("wall_seconds".to_owned(), seconds)].into();
    Record { stage: name.into(), cost, ..common::record(key(name), [("y", output)]) }
}

/// Keeps files in a folder as a result, as a run does.
fn keep(store: &Store, name: &str, seconds: f64, files: &[String]) -> Record {
    let scratch = store.scratch().unwrap();
    let out = scratch.path().join("out");
    fs::create_dir(&out).unwrap();
    files.iter().for_each(|text| fs::write(out.join(key(text).short()), text).unwrap());
    let _held = store.hold();
    let record = record(name, seconds, store.publish(&out).unwrap());
    store.put_record(&record).unwrap();
    record
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn record_path(store: &Store, record: &Record) -> PathBuf {
    let hex = record.fingerprint.to_string();
    store.root().join("records").join(&hex[..2]).join(format!("{hex}.json"))
}

fn age(path: &Path, age: Duration) {
    File::options().append(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

fn collect(store: &Store, policy: &Policy, roots: &HashSet<Digest>) -> Garbage {
    store.try_alone().unwrap().expect("nobody else is here").collect(policy, roots).unwrap()
}

fn names(garbage: &Garbage) -> Vec<&str> {
    garbage.results.iter().map(|gone| gone.record.stage.as_str()).collect()
}

fn left(store: &Store) -> BTreeSet<String> {
    store.records().map(|record| record.stage).collect()
}

#[test]
fn what_nothing_cites_goes_and_what_is_shared_stays() {
    let (_folder, store) = store();
    let kept = keep(&store, "kept", 1.0, &texts(&["shared", "own"]));
    keep(&store, "gone", 1.0, &texts(&["shared", "other"]));
    let unrecorded = store.scratch().unwrap();
    fs::write(unrecorded.path().join("f"), "nobody's").unwrap();
    store.publish(&unrecorded.path().join("f")).unwrap();
    let roots = [kept.fingerprint].into();
    let dry = store.garbage(&Policy::default(), &roots).unwrap();
    assert_eq!((names(&dry), dry.objects.count, dry.objects.bytes, dry.trees, dry.kept), (vec!["gone"], 2, 13, 1, 1));
    assert_eq!(left(&store).len(), 2, "that was dry");
    let done = collect(&store, &Policy::default(), &roots);
    assert_eq!((names(&done), done.objects, done.leftovers.len()), (vec!["gone"], dry.objects, 0));
    assert_eq!((store.usage().objects, store.usage().trees, store.usage().records), (2, 1, 1));
    assert!(store.verify_all(|_| ()).is_empty() && store.check(&kept.outputs["y"]).is_ok());
    assert!(collect(&store, &Policy::default(), &roots).is_empty());
}

#[test]
fn age_counts_from_the_last_use() {
    let (_folder, store) = store();
    let all = ["old", "used", "new"].map(|name| keep(&store, name, 1.0, &texts(&[name])));
    all.iter().take(2).for_each(|record| age(&record_path(&store, record), 40 * DAY));
    store.use_record(&all[1].fingerprint).unwrap();
    let policy = Policy { unused_for: Some(30 * DAY), ..Policy::default() };
    assert_eq!(names(&collect(&store, &policy, &HashSet::new())), ["old"]);
    let before = fs::metadata(record_path(&store, &all[2])).unwrap().modified().unwrap();
    store.use_record(&all[2].fingerprint).unwrap();
    assert_eq!(fs::metadata(record_path(&store, &all[2])).unwrap().modified().unwrap(), before, "at most once a day");
}

#[test]
fn a_size_is_reached_by_what_is_cheapest_to_compute_again() {
    let (_folder, store) = store();
    let large = |letter: &str| letter.repeat(1000);
    keep(&store, "slow", 1000.0, &[large("a")]);
    keep(&store, "quick", 1.0, &[large("b")]);
    keep(&store, "middling", 100.0, &[large("c")]);
    let root = keep(&store, "root", 0.0, &[large("d")]);
    keep(&store, "beside the root", 0.0, &[large("d")]);
    let policy = |max_bytes| Policy { max_bytes: Some(max_bytes), ..Policy::default() };
    let roots = [root.fingerprint].into();
    assert!(store.garbage(&policy(4000), &roots).unwrap().is_empty());
    assert_eq!(names(&store.garbage(&policy(3999), &roots).unwrap()), ["quick"]);
    assert_eq!(names(&store.garbage(&policy(2500), &roots).unwrap()), ["quick", "middling"]);
    let all = collect(&store, &policy(0), &roots);
    assert_eq!((names(&all), all.bytes - all.objects.bytes), (vec!["quick", "middling", "slow"], 1000));
    assert!(collect(&store, &policy(0), &roots).is_empty(), "what frees nothing stays");
}

#[test]
fn what_a_living_process_uses_stays_until_it_ends() {
    let (_folder, store) = store();
    let used = keep(&store, "used", 1.0, &texts(&["a"]));
    let coming = keep(&store, "coming", 1.0, &texts(&["b", "c"]));
    store.remove_record(&coming.fingerprint).unwrap();
    let lease = store.lease();
    lease.keep(store.hold(), [&used.fingerprint, &coming.outputs["y"].digest]);
    assert!(collect(&store, &Policy::default(), &HashSet::new()).is_empty());
    assert!(store.verify(&coming.outputs["y"]).is_ok());
    let held = store.hold();
    assert!(store.try_alone().unwrap().is_none(), "something is being kept");
    drop(held);
    drop(lease);
    assert_eq!(collect(&store, &Policy::default(), &HashSet::new()).objects.count, 3);
}

#[test]
fn what_a_killed_process_used_stays_for_some_days() {
    let test = "what_a_killed_process_used_stays_for_some_days";
    if let Some(root) = std::env::var_os(CHILD).map(PathBuf::from) {
        let store = Store::open(&root).unwrap();
        let lease = store.lease();
        let record = keep(&store, "made", 1.0, &texts(&["a"]));
        lease.keep(store.hold(), [&record.fingerprint]);
        std::process::abort();
    }
    let (_folder, store) = store();
    again(test, store.root()).wait().unwrap();
    store.sweep();
    assert!(collect(&store, &Policy::default(), &HashSet::new()).is_empty());
    assert_eq!(left(&store).len(), 1);
    let leases: Vec<PathBuf> = fs::read_dir(store.root().join("leases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(leases.len(), 2);
    leases.iter().for_each(|path| age(path, 15 * DAY));
    let done = collect(&store, &Policy::default(), &HashSet::new());
    assert_eq!((names(&done), done.leftovers[&Leftover::Unfinished].count), (vec!["made"], 1));
    assert_eq!(fs::read_dir(store.root().join("leases")).unwrap().count(), 0);
}

/// Without the right to write a list, a process keeps everything by its guard.
#[test]
fn where_no_lease_can_be_written_nothing_is_collected() {
    let (_folder, store) = store();
    let used = keep(&store, "used", 1.0, &texts(&["a"]));
    fs::write(store.root().join("leases"), "no folder").unwrap();
    let lease = store.lease();
    lease.keep(store.hold(), [&used.fingerprint]);
    assert!(store.try_alone().unwrap().is_none());
    drop(lease);
    assert!(store.try_alone().unwrap().is_some());
}

#[test]
fn what_the_dead_and_the_past_left_goes_too() {
    let (_folder, store) = store();
    let put = |name: &str, old: Duration| {
        let path = store.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "12345").unwrap();
        age(&path, old);
    };
    let living = store.scratch().unwrap();
    fs::write(living.path().join("f"), "x").unwrap();
    put("scratch/1-1", DAY);
    put("scratch/1-1.lock", DAY);
    put(&format!("partial/{}", key("p")), DAY);
    put(&format!("partial/{}", key("held")), DAY);
    let _held = store.lock(&key("held")).unwrap();
    put("damaged/abc", DAY);
    put("rows/old/1.txt", 40 * DAY);
    put("rows/mixed/1.txt", 40 * DAY);
    put("rows/mixed/2.txt", DAY);
    put("trainings/done/done", DAY);
    put("trainings/long ago/7", 40 * DAY);
    put("trainings/under way/7", DAY);
    put("away/r/old", 40 * DAY);
    put("away/r/new", DAY);
    put(&format!("locks/{}", key("dead")), DAY);
    let policy = Policy { unused_for: Some(30 * DAY), ..Policy::default() };
    let counts = |garbage: &Garbage| garbage.leftovers.iter().map(|(what, amount)| (*what, amount.count)).collect::<Vec<_>>();
    use Leftover::{Away, Damaged, Locks, Partial, Rows, Trainings, Unfinished};
    let expected = [(Unfinished, 1), (Partial, 1), (Damaged, 1), (Rows, 1), (Trainings, 2), (Away, 1), (Locks, 1)];
    assert_eq!(counts(&store.garbage(&policy, &HashSet::new()).unwrap()), expected);
    assert_eq!(
        counts(&store.garbage(&Policy::default(), &HashSet::new()).unwrap()).len(),
        5,
        "rows, trainings under way and notes go by their age"
    );
    let done = collect(&store, &policy, &HashSet::new());
    assert_eq!((counts(&done), done.freed()), (expected.to_vec(), 40));
    assert!(collect(&store, &policy, &HashSet::new()).is_empty());
    assert!(living.path().join("f").exists() && store.root().join("rows/mixed/1.txt").exists());
    assert_eq!(collect(&store, &Policy { all: true, ..Policy::default() }, &HashSet::new()).leftovers.len(), 3);
}

#[test]
fn a_record_of_another_version_stays_with_what_it_cites_and_a_broken_one_goes() {
    let (_folder, store) = store();
    let (foreign, broken) = (keep(&store, "foreign", 1.0, &texts(&["a"])), keep(&store, "broken", 1.0, &texts(&["b"])));
    let path = record_path(&store, &foreign);
    let text = fs::read_to_string(&path).unwrap().replace("\"format\":1", "\"format\":2,\"more\":[]");
    fs::write(&path, text).unwrap();
    fs::write(record_path(&store, &broken), "{ half").unwrap();
    let done = collect(&store, &Policy::default(), &HashSet::new());
    assert_eq!((done.unreadable, done.kept, done.objects.count), (1, 1, 1));
    assert!(store.verify(&foreign.outputs["y"]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_stays_is_whole_and_nothing_else_stays(
        results in prop::collection::vec((prop::collection::btree_set(0_u8..12, 1..5), 0_u32..100, any::<bool>(), 0_u64..60), 1..12),
        days in prop::option::of(0_u64..60),
        max_bytes in prop::option::of(0_u64..600),
    ) {
        let (_folder, store) = store();
        let mut roots = HashSet::new();
        for (at, (files, seconds, is_root, old)) in results.iter().enumerate() {
            let files: Vec<String> = files.iter().map(|&file| char::from(b'a' + file).to_string().repeat(usize::from(file) * 7 + 1)).collect();
            let record = keep(&store, &at.to_string(), f64::from(*seconds), &files);
            age(&record_path(&store, &record), DAY * u32::try_from(*old).unwrap());
            roots.extend(is_root.then_some(record.fingerprint));
        }
        let policy = Policy { unused_for: days.map(|days| DAY * u32::try_from(days).unwrap()), max_bytes, all: false };
        let before: Vec<Record> = store.records().collect();
        let done = collect(&store, &policy, &roots);
        let gone: HashSet<Digest> = done.results.iter().map(|gone| gone.record.fingerprint).collect();
        prop_assert!(gone.is_disjoint(&roots));
        for gone in &done.results {
            prop_assert!(policy.unused_for.is_none_or(|age| gone.unused_for >= age));
        }
        let (mut files, mut trees) = (HashSet::new(), HashSet::new());
        for record in before.iter().filter(|record| !gone.contains(&record.fingerprint)) {
            prop_assert!(store.verify(&record.outputs["y"]).is_ok());
            trees.insert(record.outputs["y"].digest);
            files.extend(store.tree(&record.outputs["y"].digest).unwrap().entries.into_iter().map(|entry| entry.digest));
        }
        let usage = store.usage();
        prop_assert_eq!((usage.objects, usage.trees, usage.records), (files.len() as u64, trees.len() as u64, (before.len() - gone.len()) as u64));
        prop_assert_eq!((usage.object_bytes, usage.scratch_bytes), (done.bytes - done.objects.bytes, 0));
        prop_assert!(store.verify_all(|_| ()).is_empty());
        prop_assert!(collect(&store, &policy, &roots).is_empty());
        if let (Some(max_bytes), None) = (max_bytes, days) {
            let rooted = before.iter().filter(|record| roots.contains(&record.fingerprint));
            let entries = rooted.flat_map(|record| store.tree(&record.outputs["y"].digest).unwrap().entries);
            let needed: HashMap<Digest, u64> = entries.map(|entry| (entry.digest, entry.bytes)).collect();
            prop_assert!(usage.object_bytes <= max_bytes.max(needed.values().sum()));
        }
    }
}

/// Each publish uses files again that the collector is about to delete; what it has recorded and goes on using must stay whole.
#[test]
fn whoever_keeps_results_beside_it_loses_nothing() {
    let (_folder, store) = store();
    let (done, collected) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let keepers: Vec<_> = (0..3)
            .map(|keeper| {
                scope.spawn({
                    let store = &store;
                    move || (0..150).for_each(|round| keep_and_use(store, keeper, round))
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Some(alone) = store.try_alone().unwrap() {
                    collected.fetch_add(alone.collect(&Policy::default(), &HashSet::new()).unwrap().results.len(), Ordering::Relaxed);
                }
            }
        });
        let kept: Vec<_> = keepers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(kept.iter().all(Result::is_ok));
    });
    assert!(collected.into_inner() > 50, "the collector had something to do");
    assert!(store.verify_all(|_| ()).is_empty());
}

fn keep_and_use(store: &Store, keeper: usize, round: usize) {
    let lease = store.lease();
    let files: Vec<String> = (0..3).map(|file| format!("shared {}", (round + file) % 4)).collect();
    let guard = store.hold();
    let record = keep(store, &format!("{keeper}-{}", round % 5), 1.0, &files);
    lease.keep(guard, [&record.fingerprint]);
    for _ in 0..3 {
        assert_eq!(store.record(&record.fingerprint).unwrap().as_ref(), Some(&record));
        store.verify(&record.outputs["y"]).unwrap();
        std::thread::yield_now();
    }
}

/// The store that a test works on when it is run again as a process of its own.
const CHILD: &str = "QAPIPE_TEST_CHILD";

fn again(test: &str, root: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args(["--exact", test]).env(CHILD, root).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_collector_that_is_killed_leaves_a_whole_store() {
    let test = "a_collector_that_is_killed_leaves_a_whole_store";
    if let Some(root) = std::env::var_os(CHILD).map(PathBuf::from) {
        let store = Store::open(&root).unwrap();
        fs::write(root.join("begun"), "").unwrap();
        collect(&store, &Policy::default(), &[key("0")].into());
        return;
    }
    let mut cut_short = 0;
    for round in 0..12_u64 {
        let (_folder, store) = store();
        for at in 0..150 {
            keep(&store, &at.to_string(), 1.0, &texts(&["shared", &format!("own {at}")]));
        }
        let mut process = again(test, store.root());
        while !store.root().join("begun").exists() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(1500 * round));
        process.kill().unwrap();
        process.wait().unwrap();
        let records = left(&store).len();
        cut_short += usize::from(records > 1 || store.usage().scratch_bytes > 0);
        assert_eq!(store.verify_all(|_| ()), []);
        assert_eq!(store.unreadable_records().count(), 0);
        collect(&store, &Policy::default(), &[key("0")].into());
        assert_eq!((left(&store).len(), store.usage().objects, store.usage().scratch_bytes), (1, 2, 0));
    }
    assert!(cut_short > 0, "none was killed while it worked");
}
