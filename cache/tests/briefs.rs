//! Results that are found again without reading their records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use qapipe_cache::{Artifact, Brief, Briefs, Digest, Record, Shape, Store};

struct World {
    _folder: tempfile::TempDir,
    store: Store,
    file: PathBuf,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Self { file: folder.path().join("p.briefs"), store, _folder: folder }
    }

    fn briefs(&self) -> Briefs {
        Briefs::of(&self.store, &self.file)
    }

    fn find(&self, key: &Digest) -> Option<Brief> {
        self.briefs().find(&self.store, key).unwrap()
    }

    /// Finds results, and remembers them where their records are old enough.
    fn learn(&self, keys: &[Digest], current: &[Digest]) {
        let briefs = self.briefs();
        keys.iter().for_each(|key| drop(briefs.find(&self.store, key).unwrap().unwrap()));
        briefs.save(current.iter().copied()).unwrap();
    }

    fn record_file(&self, key: &Digest) -> PathBuf {
        let hex = key.to_string();
        self.store.root().join("records").join(&hex[..2]).join(format!("{hex}.json"))
    }

    fn put(&self, name: &str, output: &str) -> Digest {
        let key = Digest::of_bytes(name.as_bytes());
        self.store.put_record(&record(key, output)).unwrap();
        key
    }
}

fn record(fingerprint: Digest, output: &str) -> Record {
    let output = Artifact { digest: Digest::of_bytes(output.as_bytes()), shape: Shape::Blob, bytes: output.len() as u64 };
    let cost = BTreeMap::from([("wall_seconds".to_owned(), 1.5), ("peak_memory_bytes".to_owned(), 7.0)]);
    let provenance = BTreeMap::from([("device".to_owned(), "cpu".to_owned())]);
    Record { cost, provenance, ..common::record(fingerprint, [("y", output)]) }
}

/// Long enough for a record to be remembered where the file system is this machine's own.
fn settle() {
    std::thread::sleep(Duration::from_millis(150));
}

/// A result that was found before.
fn learnt() -> (World, Digest) {
    let world = World::new();
    let key = world.put("a", "x");
    settle();
    world.learn(&[key], &[key]);
    (world, key)
}

/// Writes other bytes of the same length over a file, and gives it its time of modification back.
fn alter(path: &Path) {
    let before = fs::metadata(path).unwrap();
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replace("wall_seconds\":1.5", "wall_seconds\":2.5")).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), before.len());
}

/// In a file system that may be another machine's nothing is remembered, and there is nothing more to see.
fn remembers(world: &World) -> bool {
    let remembers = world.file.exists();
    if !remembers {
        eprintln!("skipped: the temporary folder is not in a file system of this machine's own");
    }
    remembers
}

#[test]
fn a_result_is_found_as_its_record_says() {
    let world = World::new();
    let key = world.put("a", "x");
    let expected = record(key, "x");
    settle();
    for time in 0..3 {
        let brief = world.find(&key).unwrap();
        assert_eq!((brief.fingerprint, brief.outputs()), (key, &expected.outputs), "time {time}");
        let short = (brief.short.wall_seconds, brief.short.peak_memory_bytes, brief.short.device.as_deref());
        assert_eq!(short, (Some(1.5), Some(7.0), Some("cpu")));
        assert_eq!(**brief.record().unwrap(), expected);
        world.learn(&[key], &[key]);
    }
    assert!(world.find(&Digest::of_bytes(b"nothing")).is_none());
}

#[test]
fn a_record_that_has_gone_or_changed_is_not_believed() {
    let world = World::new();
    let (gone, replaced, altered) = (world.put("gone", "1"), world.put("replaced", "2"), world.put("altered", "3"));
    settle();
    world.learn(&[gone, replaced, altered], &[gone, replaced, altered]);
    world.store.remove_record(&gone).unwrap();
    world.put("replaced", "4");
    alter(&world.record_file(&altered));
    let briefs = world.briefs();
    assert!(briefs.find(&world.store, &gone).unwrap().is_none());
    assert_eq!(briefs.find(&world.store, &replaced).unwrap().unwrap().outputs()["y"].digest, Digest::of_bytes(b"4"));
    assert_eq!(briefs.find(&world.store, &altered).unwrap().unwrap().short.wall_seconds, Some(2.5));
}

#[test]
fn the_record_of_another_execution_is_not_taken_for_it() {
    let (world, key) = learnt();
    let (brief, gone) = (world.find(&key).unwrap(), world.find(&key).unwrap());
    world.put("a", "y");
    assert!(!remembers(&world) || brief.record().is_none());
    world.store.remove_record(&key).unwrap();
    assert!(!remembers(&world) || gone.record().is_none());
}

#[test]
fn a_record_is_read_whole_before_it_is_believed() {
    let world = World::new();
    let key = world.put("a", "x");
    let path = world.record_file(&key);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"peak_memory_bytes\":7.0", "\"throughput\":null")).unwrap();
    assert!(world.find(&key).is_none());
}

#[test]
fn golden_file() {
    let (world, key) = learnt();
    if !remembers(&world) {
        return;
    }
    let bytes = fs::read(&world.file).unwrap();
    let kind = b"qapipe briefs 1, records 1\n";
    // After the stamp: an output, its digest, shape and size; seconds, bytes, device.
    let output = [&[1, 1, b'y'][..], Digest::of_bytes(b"x").as_bytes(), &[0, 1]].concat();
    let costs = [&[1][..], &1.5f64.to_le_bytes(), &[1], &7.0f64.to_le_bytes(), b"\x01\x03cpu"].concat();
    assert!(bytes.starts_with(kind) && bytes[kind.len() + 32 + 1..].starts_with(key.as_bytes()));
    assert_eq!([output, costs].concat()[..], bytes[bytes.len() - 60..], "another form wants another number");
}

#[test]
fn a_damaged_file_costs_nothing_but_time() {
    let (world, key) = learnt();
    if !remembers(&world) {
        return;
    }
    let whole = fs::read(&world.file).unwrap();
    for bytes in [&[][..], &whole[..whole.len() - 1], &[&whole[..whole.len() - 1], b"?"].concat()] {
        fs::write(&world.file, bytes).unwrap();
        assert_eq!(world.find(&key).unwrap().outputs(), &record(key, "x").outputs);
    }
}

#[test]
fn only_current_results_stay_remembered() {
    let world = World::new();
    let keys: Vec<Digest> = (0..20).map(|number| world.put(&format!("{number}"), "x")).collect();
    settle();
    world.learn(&keys[..10], &[]);
    if !remembers(&world) {
        return;
    }
    let ten = fs::metadata(&world.file).unwrap().len();
    world.learn(&keys[10..], &keys[..5]);
    let fifteen = fs::metadata(&world.file).unwrap().len();
    assert!(fifteen > ten && fifteen < ten * 2, "{ten} {fifteen}");
    world.learn(&keys[..3], &keys);
    assert_eq!(fs::metadata(&world.file).unwrap().len(), fifteen, "what was known already is not written again");
    world.learn(&[keys[6]], &keys);
    assert_eq!(fs::metadata(&world.file).unwrap().len(), fifteen, "one of sixteen is learnt again");
    world.learn(&keys[5..8], &keys);
    assert!(fs::metadata(&world.file).unwrap().len() > fifteen);
}

#[test]
fn to_find_a_result_is_to_use_it() {
    let (world, key) = learnt();
    let path = world.record_file(&key);
    let long_ago = SystemTime::now() - Duration::from_secs(7 * 24 * 3600);
    for time in 0..2 {
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        settle();
        world.learn(&[key], &[key]);
        let age = fs::metadata(&path).unwrap().modified().unwrap().elapsed().unwrap();
        assert!(age < Duration::from_secs(3600), "time {time}: {age:?}");
    }
}
