//! A store and the remote behind it: what is moved, what is not, and what is not believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use qapipe_cache::{Artifact, CacheError, Depot, Digest, Folder, Record, Remote, RemoteError, Store, Traffic, Watch};

/// Two stores and a folder between them.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn store(&self, name: &str) -> Store {
        Store::open(&self.folder.path().join(name)).unwrap()
    }

    fn remote(&self) -> Remote {
        Remote::new(Box::new(self.depot()))
    }

    fn depot(&self) -> Folder {
        Folder::new(&self.path(""))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join("remote").join(key)
    }

    fn object(&self, digest: &Digest) -> PathBuf {
        self.path(&format!("objects/{}/{digest}", &digest.to_string()[..2]))
    }
}

fn keep(store: &Store, files: &[(&str, &[u8])]) -> Artifact {
    let scratch = store.scratch().unwrap();
    let out = scratch.path().join("out");
    for (name, bytes) in files {
        let path = if name.is_empty() { out.clone() } else { out.join(name) };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        if name.ends_with(".sh") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    store.publish(&out).unwrap()
}

fn keep_program(store: &Store, bytes: &[u8]) -> Artifact {
    let scratch = store.scratch().unwrap();
    let out = scratch.path().join("out");
    fs::write(&out, bytes).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o755)).unwrap();
    store.publish(&out).unwrap()
}

fn record(store: &Store, name: &str, outputs: &[(&str, Artifact)]) -> Record {
    let cost = BTreeMap::from([("wall_seconds".to_owned(), 1.5)]);
    let record = common::record(Digest::of_bytes(name.as_bytes()), outputs.iter().cloned());
    let record = Record { stage: name.into(), cost, ..record };
    store.put_record(&record).unwrap();
    record
}

fn push(remote: &Remote, store: &Store) -> Traffic {
    remote.push(store, &store.records().collect::<Vec<_>>(), false, &()).unwrap()
}

fn pull(remote: &Remote, store: &Store) -> Result<Traffic, RemoteError> {
    remote.pull(store, &remote.fingerprints()?, false, &())
}

#[test]
fn what_was_pushed_is_pulled_bit_for_bit() {
    let world = World::new();
    let (one, two, remote) = (world.store("one"), world.store("two"), world.remote());
    let tree = keep(&one, &[("a", b"1"), ("deep/er/b.sh", b"2"), ("same", b"1"), ("empty", b"")]);
    let (file, program) = (keep(&one, &[("", &[7; 100_000])]), keep_program(&one, b"#!/bin/sh"));
    let kept = record(&one, "s", &[("tree", tree.clone()), ("file", file), ("program", program.clone())]);
    let none = record(&one, "none", &[]);
    let sent = push(&remote, &one);
    assert_eq!((sent.results, sent.results_there, sent.files, sent.bytes), (2, 0, 5, 100_011));
    let again = push(&world.remote(), &one);
    assert_eq!((again.results, again.results_there, again.files, again.bytes), (0, 2, 0, 0));
    let got = pull(&remote, &two).unwrap();
    assert_eq!((got.results, got.bytes, got.damaged.len()), (2, 100_011, 0));
    assert_eq!((two.record(&kept.fingerprint).unwrap(), two.record(&none.fingerprint).unwrap()), (Some(kept), Some(none)));
    assert!(two.verify_all(|_| {}).is_empty());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&two.path(&program)), mode(&two.path(&tree).join("deep/er/b.sh")), mode(&two.path(&tree).join("a"))),
        (0o555, 0o555, 0o444)
    );
    assert_eq!(pull(&remote, &two).unwrap().results_there, 2);
    assert_eq!(fs::read_dir(two.root().join("partial")).unwrap().count(), 0);
}

#[test]
fn many_results_are_looked_up_by_one_list() {
    let world = World::new();
    let (one, remote) = (world.store("one"), world.remote());
    for n in 0..60_u8 {
        record(&one, &format!("s{n}"), &[("y", keep(&one, &[("", &[n / 2])]))]);
    }
    let sent = push(&remote, &one);
    assert_eq!((sent.results, sent.files, sent.files_there), (60, 30, 30));
    assert_eq!(remote.push(&one, &one.records().collect::<Vec<_>>(), true, &()).unwrap().results_there, 60);
    fs::remove_file(world.object(&Digest::of_bytes(&[3]))).unwrap();
    let dry = remote.push(&one, &one.records().collect::<Vec<_>>(), true, &()).unwrap();
    assert_eq!((dry.files, dry.bytes, world.object(&Digest::of_bytes(&[3])).exists()), (1, 1, false));
    assert_eq!(push(&remote, &one).files, 1);
}

#[test]
fn what_is_damaged_in_the_remote_is_named_and_not_served() {
    let world = World::new();
    let (one, remote) = (world.store("one"), world.remote());
    let (good, bad) = (keep(&one, &[("", b"good")]), keep(&one, &[("", b"fine")]));
    let tree = keep(&one, &[("x", b"leaf")]);
    record(&one, "good", &[("y", good)]);
    let kept = record(&one, "bad", &[("y", bad.clone())]);
    record(&one, "tree", &[("y", tree.clone())]);
    push(&remote, &one);
    let leaf = world.object(&Digest::of_bytes(b"leaf"));
    for (damage, told) in [(&b"fime"[..], "another digest"), (b"fi", "2 bytes instead of 4"), (b"fine and more", "13 bytes instead of 4")] {
        let two = Store::open(&world.folder.path().join(told)).unwrap();
        fs::write(world.object(&bad.digest), damage).unwrap();
        let got = pull(&remote, &two).unwrap();
        if damage.len() <= 4 {
            assert!(got.results == 2 && got.damaged.len() == 1 && got.damaged[0].contains(told), "{got:?}");
            assert!(got.damaged[0].contains(&bad.digest.to_string()), "{got:?}");
            assert_eq!(two.record(&kept.fingerprint).unwrap(), None);
        }
        assert!(two.verify_all(|_| {}).is_empty());
    }
    fs::remove_file(world.object(&bad.digest)).unwrap();
    fs::remove_file(leaf).unwrap();
    let two = world.store("two");
    let got = pull(&remote, &two).unwrap();
    assert!(got.results == 1 && got.damaged.iter().all(|what| what.contains("is missing, though a record there cites it")), "{got:?}");
    // What was deleted is put there again by who has it.
    assert_eq!(push(&remote, &one).files, 2);
    assert_eq!(pull(&remote, &two).unwrap().results, 2);
    assert!(two.verify_all(|_| {}).is_empty());
}

#[test]
fn a_damaged_record_or_listing_is_not_believed() {
    let world = World::new();
    let (one, remote) = (world.store("one"), world.remote());
    let tree = keep(&one, &[("x", b"leaf")]);
    let kept = record(&one, "s", &[("y", tree.clone())]);
    push(&remote, &one);
    let name = |digest: &Digest, folder: &str| world.path(&format!("{folder}/{}/{digest}.json", &digest.to_string()[..2]));
    let of = |folder: &str, digest: &Digest, change: &dyn Fn(String) -> String| {
        let path = name(digest, folder);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(whole.clone())).unwrap();
        let two = tempfile::tempdir().unwrap();
        let two = Store::open(two.path()).unwrap();
        let got = pull(&remote, &two).unwrap();
        assert!(got.results == 0 && got.damaged.len() == 1, "{got:?}");
        fs::write(&path, whole).unwrap();
        got.damaged[0].clone()
    };
    let told = of("records", &kept.fingerprint, &|text| text.replace("1.5", "2.5"));
    assert!(told.contains("it is no record of this key"), "{told}");
    of("records", &kept.fingerprint, &|text| text[..text.len() / 2].to_owned());
    let told = of("trees", &tree.digest, &|text| text.replace("\"x\"", "\"../../../x\""));
    assert!(told.contains("it is no listing of this digest"), "{told}");
}

#[test]
fn what_is_damaged_here_is_not_spread() {
    let world = World::new();
    let (one, remote) = (world.store("one"), world.remote());
    let (bad, gone) = (keep(&one, &[("", b"fine")]), keep(&one, &[("", b"gone")]));
    record(&one, "bad", &[("y", bad.clone())]);
    record(&one, "gone", &[("y", gone.clone())]);
    record(&one, "good", &[("y", keep(&one, &[("", b"good")]))]);
    for (artifact, text) in [(&bad, Some("fime")), (&gone, None)] {
        fs::remove_file(one.path(artifact)).unwrap();
        text.into_iter().for_each(|text| fs::write(one.path(artifact), text).unwrap());
    }
    let sent = push(&remote, &one);
    assert!(sent.results == 1 && sent.damaged.len() == 2 && sent.damaged.iter().any(|what| what.starts_with("p bad: ")), "{sent:?}");
    assert!(!world.object(&bad.digest).exists() && remote.fingerprints().unwrap().len() == 1);
}

#[test]
fn another_layout_and_a_missing_disk_are_refused() {
    let world = World::new();
    let store = world.store("one");
    let kept = record(&store, "s", &[("y", keep(&store, &[("", b"x")]))]);
    assert_eq!(world.remote().record(&kept.fingerprint).unwrap(), None);
    assert!(!world.path("").exists(), "asking makes nothing");
    push(&world.remote(), &store);
    fs::write(world.path("VERSION"), "qapipe remote 9\n").unwrap();
    for error in [world.remote().record(&kept.fingerprint).unwrap_err(), world.remote().push(&store, &[], false, &()).unwrap_err()] {
        assert!(matches!(&error, RemoteError::Layout { found, .. } if found == "qapipe remote 9") && error.help().is_some(), "{error}");
    }
    let unmounted = Remote::new(Box::new(Folder::new(&world.folder.path().join("no/such/disk"))));
    assert!(matches!(unmounted.probe(), Err(RemoteError::Missing { .. })));
    assert!(
        matches!(unmounted.push(&store, &[kept], false, &()), Err(RemoteError::Missing { .. })) && !world.folder.path().join("no").exists()
    );
}

/// A folder whose connection breaks off after so many bytes.
#[derive(Debug)]
struct Breaking {
    depot: Folder,
    left: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
}

impl Breaking {
    fn spend(&self, bytes: u64) -> Result<(), RemoteError> {
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(bytes));
        spent.map(drop).map_err(|_| RemoteError::Unreachable { remote: self.depot.url().into(), what: "the connection broke off".into() })
    }
}

impl Depot for Breaking {
    fn url(&self) -> &str {
        self.depot.url()
    }
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        self.depot.get(key)
    }
    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, RemoteError> {
        self.spend(range.end - range.start)?;
        self.read.fetch_add(range.end - range.start, Ordering::SeqCst);
        self.depot.read(key, range)
    }
    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        self.depot.size(key)
    }
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.spend(0)?;
        self.depot.put(key, bytes)
    }
    fn upload(&self, key: &str, file: &Path, note: &Path, watch: &dyn Watch) -> Result<(), RemoteError> {
        self.spend(fs::metadata(file).unwrap().len())?;
        self.depot.upload(key, file, note, watch)
    }
    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, RemoteError> {
        self.depot.list(folder)
    }
}

fn breaking(world: &World, left: u64) -> (Remote, Arc<AtomicU64>, Arc<AtomicU64>) {
    let (left, read) = (Arc::new(AtomicU64::new(left)), Arc::default());
    (Remote::new(Box::new(Breaking { depot: world.depot(), left: Arc::clone(&left), read: Arc::clone(&read) })), left, read)
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_was() {
    const MIB: u64 = 1 << 20;
    let world = World::new();
    let (one, two) = (world.store("one"), world.store("two"));
    let bytes: Vec<u8> = (0..20 * MIB).map(|at| (at % 251) as u8).collect();
    record(&one, "large", &[("y", keep(&one, &[("", &bytes)]))]);
    push(&world.remote(), &one);
    let (remote, left, read) = breaking(&world, 10 * MIB);
    let error = pull(&remote, &two).unwrap_err();
    assert!(matches!(&error, RemoteError::Unreachable { .. }), "{error}");
    assert_eq!((two.records().count(), two.objects().count(), two.usage().scratch_bytes), (0, 0, 8 * MIB));
    left.store(u64::MAX, Ordering::SeqCst);
    let got = pull(&remote, &two).unwrap();
    assert_eq!((got.results, got.bytes, read.load(Ordering::SeqCst)), (1, 12 * MIB, 20 * MIB));
    assert!(two.verify_all(|_| {}).is_empty() && two.usage().scratch_bytes == 0);
    // Garbage in what had come is found, and fetched anew.
    let (three, digest) = (world.store("three"), Digest::of_bytes(&bytes));
    fs::create_dir_all(three.root().join("partial")).unwrap();
    fs::write(three.root().join("partial").join(digest.to_string()), "garbage").unwrap();
    assert_eq!(pull(&remote, &three).unwrap().bytes, 20 * MIB);
    assert!(three.verify_all(|_| {}).is_empty());
}

#[test]
fn a_push_that_broke_off_cites_nothing_that_is_missing_and_goes_on() {
    let world = World::new();
    let one = world.store("one");
    let files: Vec<(String, Vec<u8>)> = (0..20_u8).map(|n| (format!("f{n}"), vec![n; 1000])).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    record(&one, "tree", &[("y", keep(&one, &files))]);
    let (remote, left, _) = breaking(&world, 7500);
    let records: Vec<Record> = one.records().collect();
    assert!(matches!(remote.push(&one, &records, false, &()), Err(RemoteError::Unreachable { .. })));
    assert_eq!(remote.fingerprints().unwrap(), []);
    left.store(u64::MAX, Ordering::SeqCst);
    let sent = remote.push(&one, &records, false, &()).unwrap();
    assert_eq!((sent.results, sent.files, sent.files_there), (1, 13, 7));
    let two = world.store("two");
    assert!(pull(&remote, &two).unwrap().results == 1 && two.verify_all(|_| {}).is_empty());
}

struct Stopped(AtomicBool);

impl Watch for Stopped {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn an_interrupt_leaves_both_sides_sound() {
    let world = World::new();
    let (one, two, remote) = (world.store("one"), world.store("two"), world.remote());
    record(&one, "s", &[("y", keep(&one, &[("", b"x")]))]);
    let records: Vec<Record> = one.records().collect();
    let stopped = Stopped(AtomicBool::new(true));
    assert!(matches!(remote.push(&one, &records, false, &stopped), Err(RemoteError::Interrupted)));
    push(&remote, &one);
    let keys = remote.fingerprints().unwrap();
    assert!(matches!(remote.pull(&two, &keys, false, &stopped), Err(RemoteError::Interrupted)));
    assert_eq!((two.records().count(), two.objects().count()), (0, 0));
}

#[test]
fn several_at_once_fetch_an_object_once() {
    let world = World::new();
    let (one, two) = (world.store("one"), world.store("two"));
    for n in 0..4 {
        record(&one, &format!("s{n}"), &[("y", keep(&one, &[("shared", &[9; 50_000]), ("own", &[n])]))]);
    }
    push(&world.remote(), &one);
    let (remote, _, read) = breaking(&world, u64::MAX);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(&remote, &two).unwrap());
        }
    });
    assert_eq!(read.load(Ordering::SeqCst), 50_004);
    assert!(two.verify_all(|_| {}).is_empty() && two.records().count() == 4);
}

#[test]
fn what_a_remote_has_is_remembered_for_that_remote() {
    let world = World::new();
    let (one, two, remote) = (world.store("one"), world.store("two"), world.remote());
    let kept = record(&one, "s", &[("y", keep(&one, &[("", b"x")]))]);
    push(&remote, &one);
    let shared = remote.record(&kept.fingerprint).unwrap().unwrap();
    two.note_away(&remote, &shared);
    assert_eq!(two.away(&remote, &kept.fingerprint).as_ref(), Some(&shared));
    let other = Remote::new(Box::new(Folder::new(&world.path("other"))));
    assert_eq!((two.away(&other, &kept.fingerprint), two.away(&remote, &Digest::of_bytes(b"other"))), (None, None));
    remote.fetch(&two, &shared, &()).unwrap();
    assert_eq!(two.away(&remote, &kept.fingerprint), None);
}

#[test]
fn a_folder_that_may_not_be_written_is_told() {
    let world = World::new();
    let store = world.store("one");
    fs::create_dir(world.path("")).unwrap();
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(world.path("x"), "").is_ok() {
        return eprintln!("skipped: this user may write anywhere");
    }
    let error = world.remote().push(&store, &[], false, &()).unwrap_err();
    assert!(matches!(error, RemoteError::Denied { .. }), "{error}");
}

#[test]
fn a_failing_store_is_no_failing_remote() {
    let world = World::new();
    let (one, two, remote) = (world.store("one"), world.store("two"), world.remote());
    record(&one, "s", &[("y", keep(&one, &[("", b"x")]))]);
    push(&remote, &one);
    fs::write(two.root().join("partial"), "a file where a folder goes").unwrap();
    assert!(matches!(pull(&remote, &two), Err(RemoteError::Store(CacheError::Io { .. }))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever trees are pushed, in whatever states of the remote, come back equal.
    #[test]
    fn any_results_survive_the_way_there_and_back(trees in prop::collection::vec(prop::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}x)?", prop::collection::vec(any::<u8>(), 0..20), 0..5), 1..5)) {
        let world = World::new();
        let (one, two, remote) = (world.store("one"), world.store("two"), world.remote());
        for (n, tree) in trees.iter().enumerate() {
            // A name is a file or a folder, not both.
            let files: Vec<(&str, &[u8])> = tree.iter().filter(|(name, _)| name.contains('/')).map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            let files = if files.is_empty() { vec![("f", &b"f"[..])] } else { files };
            record(&one, &format!("s{n}"), &[("y", keep(&one, &files))]);
            push(&remote, &one);
        }
        pull(&remote, &two).unwrap();
        prop_assert_eq!(two.verify_all(|_| {}), []);
        for record in one.records() {
            prop_assert_eq!(two.record(&record.fingerprint).unwrap(), Some(record));
        }
    }
}
