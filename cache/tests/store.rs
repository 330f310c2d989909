//! What the store keeps, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use qapipe_cache::{Artifact, CacheError, Digest, Record, Shape, Store};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Publishes a folder of files.
fn publish(store: &Store, files: &[(&str, &str)]) -> Artifact {
    let scratch = store.scratch().unwrap();
    let folder = scratch.path().join("out");
    fs::create_dir(&folder).unwrap();
    files.iter().for_each(|(name, text)| write(&folder.join(name), text));
    store.publish(&folder).unwrap()
}

fn publish_file(store: &Store, text: &str) -> Artifact {
    let scratch = store.scratch().unwrap();
    let path = scratch.path().join("out");
    write(&path, text);
    store.publish(&path).unwrap()
}

fn record(fingerprint: Digest, output: Artifact) -> Record {
    let text = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let cost = BTreeMap::from([("wall_seconds".to_owned(), 1.5)]);
    Record { facets: text("kind", "toy"), cost, provenance: text("host", "h"), ..common::record(fingerprint, [("y", output)]) }
}

#[test]
fn a_file_is_kept_by_content_and_read_only() {
    let (_folder, store) = store();
    let first = publish_file(&store, "hello");
    assert_eq!(first, publish_file(&store, "hello"));
    assert_eq!(first, Artifact { digest: Digest::of_bytes(b"hello"), shape: Shape::Blob, bytes: 5 });
    assert_eq!(fs::read_to_string(store.path(&first)).unwrap(), "hello");
    assert_eq!(fs::metadata(store.path(&first)).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(store.usage().objects, 1);
    assert_eq!(store.usage().scratch_bytes, 0);
}

#[test]
fn a_folder_is_read_where_it_lies_and_shares_its_files() {
    let (_folder, store) = store();
    let model = publish(&store, &[("config.json", "{}"), ("deep/er/weights", "wwww"), ("odd näme \"x\"", "o")]);
    let tuned = publish(&store, &[("config.json", "{}"), ("deep/er/weights", "vvvv")]);
    assert_eq!(fs::read_to_string(store.path(&model).join("deep/er/weights")).unwrap(), "wwww");
    assert_eq!(store.usage().objects, 4, "config.json is kept once");
    assert_eq!(model.bytes, 7);
    assert_eq!(store.part(&model, &["config.json"]).unwrap(), store.part(&tuned, &["config.json"]).unwrap());
    assert_ne!(store.part(&model, &["deep"]).unwrap(), store.part(&tuned, &["deep"]).unwrap());
    assert_eq!(publish(&store, &[("config.json", "{}"), ("deep/er/weights", "vvvv")]), tuned);
    assert!(store.verify_all(|_| ()).is_empty());
}

#[test]
fn an_empty_folder_and_an_empty_file_are_results_too() {
    let (_folder, store) = store();
    let empty = publish(&store, &[]);
    assert_eq!((empty.shape, empty.bytes), (Shape::Tree, 0));
    assert!(store.path(&empty).is_dir() && store.verify(&empty).is_ok());
    assert!(store.verify(&publish_file(&store, "")).is_ok());
}

#[test]
fn a_folder_that_is_gone_is_damage_even_if_it_was_empty() {
    let (_folder, store) = store();
    for files in [&[][..], &[("f", "x")]] {
        let artifact = publish(&store, files);
        let path = store.path(&artifact);
        fs::remove_dir_all(&path).unwrap();
        assert!(store.check(&artifact).is_err() && store.verify(&artifact).is_err(), "{files:?}");
        fs::write(&path, "").unwrap();
        assert!(store.check(&artifact).unwrap_err().to_string().ends_with("is not a folder"));
        store.set_aside(&artifact).unwrap();
        assert_eq!(publish(&store, files), artifact);
        assert!(store.check(&artifact).is_ok() && store.verify(&artifact).is_ok());
    }
}

#[test]
fn executables_stay_executable() {
    let (_folder, store) = store();
    let plain = publish(&store, &[("run.sh", "x")]);
    let scratch = store.scratch().unwrap();
    let folder = scratch.path().join("out");
    write(&folder.join("run.sh"), "x");
    fs::set_permissions(folder.join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    let program = store.publish(&folder).unwrap();
    assert_ne!(plain.digest, program.digest);
    let mode = |artifact: &Artifact| fs::metadata(store.path(artifact).join("run.sh")).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&plain), mode(&program)), (0o444, 0o555));
    assert!(store.verify(&plain).is_ok() && store.verify(&program).is_ok());
}

#[test]
fn links_are_refused() {
    let (_folder, store) = store();
    let scratch = store.scratch().unwrap();
    let folder = scratch.path().join("out");
    fs::create_dir(&folder).unwrap();
    symlink("/etc/hostname", folder.join("link")).unwrap();
    let error = store.publish(&folder).unwrap_err();
    assert!(error.to_string().ends_with("only files and folders can be kept, this is a symbolic link"), "{error}");
    symlink("/etc/hostname", scratch.path().join("alone")).unwrap();
    assert!(matches!(store.publish(&scratch.path().join("alone")), Err(CacheError::NotPlain { .. })));
}

/// A stage may hand over a second name of a file of the user's, or of its own input.
#[test]
fn a_hard_link_handed_over_does_not_tie_the_store_to_the_other_name() {
    let (folder, store) = store();
    let theirs = folder.path().join("theirs");
    fs::write(&theirs, "before").unwrap();
    for inside in ["out", "out/deep"] {
        let scratch = store.scratch().unwrap();
        let out = scratch.path().join("out");
        let path = scratch.path().join(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::hard_link(&theirs, &path).unwrap();
        let artifact = store.publish(&out).unwrap();
        assert_eq!(fs::metadata(&theirs).unwrap().permissions().mode() & 0o200, 0o200);
        fs::write(&theirs, "after!").unwrap();
        assert!(store.verify(&artifact).is_ok());
        fs::write(&theirs, "before").unwrap();
    }
}

#[test]
fn a_read_only_folder_is_kept_and_swept_like_any_other() {
    let (_folder, store) = store();
    let scratch = store.scratch().unwrap();
    for name in ["out", "left"] {
        let folder = scratch.path().join(name).join("deep");
        write(&folder.join("f"), "x");
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o500)).unwrap();
    }
    let artifact = store.publish(&scratch.path().join("out")).unwrap();
    assert_eq!(artifact, publish(&store, &[("deep/f", "x")]));
    drop(scratch);
    assert_eq!(store.usage().scratch_bytes, 0);
}

#[test]
fn a_folder_replaces_a_file_and_a_file_a_folder() {
    let (folder, store) = store();
    let (file, tree) = (publish_file(&store, "f"), publish(&store, &[("odd\n\"näme\" -rf *", "t")]));
    let target = folder.path().join("-odd \n näme");
    for artifact in [&file, &tree, &tree, &file, &tree] {
        store.materialise(artifact, &target).unwrap();
        assert_eq!(target.is_dir(), artifact.shape == Shape::Tree);
    }
    assert_eq!(fs::read_to_string(target.join("odd\n\"näme\" -rf *")).unwrap(), "t");
    let beside: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "nothing is left beside the target: {beside:?}");
}

#[test]
fn a_copy_in_the_users_folder_never_touches_the_store() {
    let (folder, store) = store();
    let artifact = publish(&store, &[("a/b", "good")]);
    let target = folder.path().join("work/model");
    store.materialise(&artifact, &target).unwrap();
    fs::write(target.join("a/b"), "scribbled over").unwrap();
    fs::write(target.join("new"), "more").unwrap();
    assert!(store.verify(&artifact).is_ok());
    store.materialise(&artifact, &target).unwrap();
    assert_eq!(fs::read_to_string(target.join("a/b")).unwrap(), "good");
    assert!(!target.join("new").exists());
    let file = publish_file(&store, "f");
    store.materialise(&file, &target).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "f");
}

#[test]
fn what_is_not_in_the_listing_is_not_copied() {
    let (folder, store) = store();
    let artifact = publish(&store, &[("a/b.py", "1"), ("c", "2")]);
    write(&store.path(&artifact).join("a/__pycache__/b.pyc"), "stray");
    let copy = folder.path().join("copy");
    store.materialise(&artifact, &copy).unwrap();
    assert_eq!((fs::read_to_string(copy.join("a/b.py")).unwrap(), copy.join("a/__pycache__").exists()), ("1".into(), false));
    assert_eq!(qapipe_cache::Tree::of_folder(&copy).unwrap().digest(), artifact.digest);
}

fn replaced(store: &Store) -> Vec<String> {
    let kept = fs::read_dir(store.root().join("replaced")).into_iter().flatten().map(|entry| entry.unwrap().path());
    kept.map(|path| fs::read_to_string(path).unwrap_or_else(|_| "a folder".into())).collect()
}

#[test]
fn only_what_the_store_put_there_is_replaced() {
    let (folder, store) = store();
    let (one, two) = (publish_file(&store, "1"), publish_file(&store, "2"));
    let to = folder.path().join("deep/out");
    write(&to, "mine");
    let told = store.place(&one, &to, || Some(two.clone())).unwrap_err();
    assert!(matches!(told, CacheError::Occupied { .. }) && !told.is_environment());
    assert!(told.to_string().ends_with("deep/out is there already and was not put there by qapipe"), "{told}");
    assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
    fs::remove_file(&to).unwrap();
    assert_eq!(store.place(&one, &to, || None).unwrap(), None);
    // What is stored anyway is not kept twice.
    assert_eq!(store.place(&two, &to, || None).unwrap(), None);
    assert!(replaced(&store).is_empty());
    write(&to, "edited");
    let kept = store.place(&one, &to, || None).unwrap().unwrap();
    assert_eq!((fs::read_to_string(&to).unwrap(), fs::read_to_string(&kept).unwrap()), ("1".into(), "edited".into()));
    assert!(kept.starts_with(store.root().canonicalize().unwrap()) && kept.to_string_lossy().ends_with("-out"), "{}", kept.display());
    assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn what_is_known_to_have_been_put_there_is_replaced_too() {
    let (folder, store) = store();
    let (old, new) = (publish(&store, &[("a/f", "1")]), publish_file(&store, "2"));
    let to = folder.path().join("out");
    write(&to.join("a/f"), "1");
    assert!(!store.may_place(&to, || None) && !store.may_place(&to, || Some(new.clone())));
    assert_eq!(store.place(&new, &to, || Some(old)).unwrap(), None);
    assert_eq!(fs::read_to_string(&to).unwrap(), "2");
}

#[test]
fn an_altered_folder_is_kept_whole_and_so_is_a_link() {
    let (folder, store) = store();
    let artifact = publish(&store, &[("f", "1")]);
    let to = folder.path().join("out");
    store.place(&artifact, &to, || None).unwrap();
    write(&to.join("notes"), "mine");
    let kept = store.place(&artifact, &to, || None).unwrap().unwrap();
    assert_eq!((fs::read_to_string(kept.join("notes")).unwrap(), to.join("notes").exists()), ("mine".into(), false));
    fs::rename(&to, folder.path().join("moved")).unwrap();
    symlink("moved", &to).unwrap();
    let kept = store.place(&artifact, &to, || None).unwrap().unwrap();
    assert_eq!(fs::read_link(kept).unwrap(), Path::new("moved"));
    assert!(fs::symlink_metadata(&to).unwrap().is_dir() && folder.path().join("moved/f").exists());
}

#[test]
fn across_file_systems_it_is_kept_beside() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return eprintln!("skipped: no second file system") };
    let (_folder, store) = store();
    let artifact = publish_file(&store, "1");
    let to = elsewhere.path().join("out");
    store.place(&artifact, &to, || None).unwrap();
    for (text, name) in [("mine", "out.replaced-1"), ("mine again", "out.replaced-2")] {
        write(&to, text);
        store.place(&artifact, &to, || None).unwrap().unwrap();
        assert_eq!(fs::read_to_string(elsewhere.path().join(name)).unwrap(), text);
    }
    assert_eq!(fs::read_to_string(&to).unwrap(), "1");
}

#[test]
fn nothing_is_placed_in_the_store_or_around_it() {
    let (folder, store) = store();
    let artifact = publish_file(&store, "1");
    symlink(store.root().join("objects"), folder.path().join("link")).unwrap();
    for path in ["store", "store/x", "link/x"] {
        let told = store.place(&artifact, &folder.path().join(path), || None).unwrap_err();
        assert!(matches!(told, CacheError::InStore { .. }), "{path}: {told}");
    }
    let told = store.place(&artifact, folder.path(), || None).unwrap_err();
    assert!(matches!(told, CacheError::InStore { .. }), "{told}");
    assert!(store.verify(&artifact).is_ok());
}

#[test]
fn damage_is_found_set_aside_and_healed() {
    let (_folder, store) = store();
    let artifact = publish(&store, &[("w", "weights"), ("c", "config")]);
    let weights = store.path(&artifact).join("w");
    fs::set_permissions(&weights, PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&weights, "WEIGHTS").unwrap();
    assert!(store.check(&artifact).is_ok(), "the size is right, so a cheap look sees nothing");
    assert!(store.verify(&artifact).is_err());
    assert_eq!(store.verify_all(|_| ()).len(), 2, "the folder and the file that it links to");
    store.set_aside(&artifact).unwrap();
    assert!(store.check(&artifact).is_err());
    assert_eq!(publish(&store, &[("w", "weights"), ("c", "config")]), artifact);
    assert!(store.verify(&artifact).is_ok());
    fs::write(store.path(&artifact).join("short"), "").unwrap();
    fs::remove_file(store.path(&artifact).join("w")).unwrap();
    assert!(store.check(&artifact).unwrap_err().to_string().contains("is damaged"));
}

/// The size is right and nobody has looked: what is computed again must not lose to it.
#[test]
fn publishing_again_heals_what_was_damaged_unseen() {
    let (_folder, store) = store();
    let files = [("w", "weights"), ("c", "config")];
    let tree = publish(&store, &files);
    let overwrite = |path: &Path, text: &str| {
        fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
        fs::write(path, text).unwrap();
    };
    overwrite(&store.path(&tree).join("w"), "WEIGHTS");
    assert_eq!(publish(&store, &files), tree);
    assert_eq!(store.verify_all(|_| ()), []);
    let file = publish_file(&store, "weights");
    overwrite(&store.path(&file), "WEIGHTS");
    publish_file(&store, "weights");
    assert!(store.verify(&file).is_ok());
}

#[test]
fn something_else_in_the_place_of_a_file_is_damage() {
    let (folder, store) = store();
    let file = publish_file(&store, "weights");
    fs::rename(store.path(&file), folder.path().join("moved")).unwrap();
    symlink(folder.path().join("moved"), store.path(&file)).unwrap();
    assert!(store.check(&file).unwrap_err().to_string().ends_with("is not a file"));
}

#[test]
fn a_record_comes_back_and_a_broken_one_does_not() {
    let (_folder, store) = store();
    let key = Digest::of_bytes(b"key");
    assert_eq!(store.record(&key).unwrap(), None);
    let record = record(key, publish_file(&store, "y"));
    store.put_record(&record).unwrap();
    assert_eq!(store.record(&key).unwrap().as_ref(), Some(&record));
    assert_eq!(store.records().count(), 1);
    let hex = key.to_string();
    let path = store.root().join(format!("records/{}/{hex}.json", &hex[..2]));
    let good = fs::read_to_string(&path).unwrap();
    for broken in
        [&good[..good.len() / 2], "", "null", "[]", &good.replace("\"format\":1", "\"format\":2"), &good.replace(&hex, &"0".repeat(64))]
    {
        fs::write(&path, broken).unwrap();
        assert_eq!(store.record(&key).unwrap(), None, "{broken}");
    }
    assert_eq!(store.unreadable_records().collect::<Vec<_>>(), [path]);
    store.remove_record(&key).unwrap();
    store.remove_record(&key).unwrap();
    assert_eq!(store.unreadable_records().count(), 0);
}

#[test]
fn a_record_cut_anywhere_counts_as_absent() {
    let (_folder, store) = store();
    let key = Digest::of_bytes(b"key");
    store.put_record(&record(key, publish_file(&store, "y"))).unwrap();
    let path = store.root().join(format!("records/{}/{key}.json", &key.to_string()[..2]));
    let good = fs::read(&path).unwrap();
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert_eq!(store.record(&key).unwrap(), None, "{length}");
    }
}

#[test]
fn a_figure_that_is_no_number_does_not_cost_the_record() {
    let (_folder, store) = store();
    let mut record = record(Digest::of_bytes(b"key"), publish_file(&store, "y"));
    record.cost.insert("loss".into(), f64::NAN);
    record.cost.insert("ratio".into(), f64::INFINITY);
    store.put_record(&record).unwrap();
    let read = store.record(&record.fingerprint).unwrap().unwrap();
    assert_eq!(read.cost, BTreeMap::from([("wall_seconds".to_owned(), 1.5)]));
}

/// The bytes of a record and of a listing's digest are what other versions read: they change only with the format's number.
#[test]
fn golden_bytes() {
    let output = Artifact { digest: Digest::of_bytes(b"y"), shape: Shape::Blob, bytes: 1 };
    let text = serde_json::to_string(&record(Digest::of_bytes(b"key"), output)).unwrap();
    let expected = concat!(
        r#"{"format":1,"fingerprint":"ff8e2bab3b26e0c127002127905539b47eb421de85d554e15f55a446459b52b4","kind":"toy","stage":"a","#,
        r#""pipeline":"p","run":"r","outputs":{"y":{"digest":"08112a9e334ce73042b531c25668cf5cb12a1ee040a4326afeac065461079a06","#,
        r#""shape":"blob","bytes":1}},"facets":{"kind":"toy"},"cost":{"wall_seconds":1.5},"provenance":{"host":"h"}}"#,
    );
    assert_eq!(text, expected);
    let (_folder, store) = store();
    let tree = publish(&store, &[("b", "2"), ("a/c", "1")]);
    assert_eq!(tree.digest.to_string(), "ec4e93d4f6651f9c7903f7658e60b3f0e52395f648b428f882cba86edc2f0fd1");
    let listing = fs::read_to_string(store.path(&tree).with_extension("json")).unwrap();
    let expected = format!(
        r#"{{"entries":[{{"path":"a/c","digest":"{}","bytes":1,"executable":false}},{{"path":"b","digest":"{}","bytes":1,"executable":false}}]}}"#,
        Digest::of_bytes(b"1"),
        Digest::of_bytes(b"2"),
    );
    assert_eq!(listing, expected);
}

#[test]
fn a_damaged_listing_is_not_served() {
    let (_folder, store) = store();
    let tree = publish(&store, &[("b", "2"), ("a/c", "1")]);
    let path = store.path(&tree).with_extension("json");
    let good = fs::read_to_string(&path).unwrap();
    let others = [good.replace("\"b\"", "\"d\""), good.replace("false", "true"), "{\"entries\":[]}".into(), "\0\u{1}garbage".into()];
    for broken in (0..good.len()).map(|length| good[..length].to_owned()).chain(others) {
        fs::write(&path, &broken).unwrap();
        assert!(matches!(store.tree(&tree.digest), Err(CacheError::Damage(_))), "{broken}");
        assert!(store.check(&tree).is_err() && store.part(&tree, &["b"]).is_err());
    }
    assert_eq!(publish(&store, &[("b", "2"), ("a/c", "1")]), tree);
    assert!(store.verify(&tree).is_ok(), "publishing it again heals it");
}

#[test]
fn another_layout_is_refused() {
    let (_folder, store) = store();
    fs::write(store.root().join("VERSION"), "7\n").unwrap();
    let error = Store::open(store.root()).unwrap_err();
    assert!(error.to_string().ends_with("store layout 7 is not one that this qapipe reads (it reads 1)"), "{error}");
    assert!(error.is_environment());
}

#[test]
fn an_absent_store_is_not_made_by_looking() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Store::open_existing(&folder.path().join("none")).unwrap().is_none());
    assert!(!folder.path().join("none").exists());
}

#[test]
fn scratch_of_the_dead_is_swept_and_of_the_living_is_not() {
    let (_folder, store) = store();
    let alive = store.scratch().unwrap();
    write(&alive.path().join("mine"), "x");
    let dead = store.root().join("scratch/999999-0");
    write(&dead.join("left"), "x");
    write(&store.root().join("scratch/999999-0.lock"), "");
    store.sweep();
    assert!(!dead.exists() && alive.path().join("mine").exists());
}

#[test]
fn a_lock_is_held_by_one_and_let_go_on_drop() {
    let (_folder, store) = store();
    let key = Digest::of_bytes(b"key");
    let lock = store.lock(&key).unwrap();
    assert!(store.try_lock(&key).unwrap().is_none());
    assert_eq!(store.holder(&key).unwrap().pid, std::process::id());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lock(&key).map(|_lock| std::time::Instant::now()).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(100));
        let released = std::time::Instant::now();
        drop(lock);
        assert!(waiting.join().unwrap() >= released);
    });
    assert!(store.try_lock(&key).unwrap().is_some());
    assert_eq!(fs::read_dir(store.root().join("locks")).unwrap().count(), 0, "no lock files are left behind");
}

/// A tmpfs of 256 KiB in a mount namespace of its own; needs to be root or to have user namespaces.
#[test]
fn a_full_disk_is_the_machines_fault_and_loses_nothing() {
    if std::env::var_os("QAPIPE_TEST_FULL_DISK").is_none() {
        let test = "a_full_disk_is_the_machines_fault_and_loses_nothing";
        let script = format!("mount -t tmpfs -o size=256k tmpfs \"$0\" && exec \"$1\" --exact {test} --nocapture");
        let folder = tempfile::tempdir().unwrap();
        let unshare = |flags: &str| {
            std::process::Command::new("unshare")
                .args([flags, "sh", "-c", &script])
                .arg(folder.path())
                .arg(std::env::current_exe().unwrap())
                .env("QAPIPE_TEST_FULL_DISK", folder.path())
                .output()
        };
        let done = [unshare("-m"), unshare("-rm")].into_iter().flatten().find(|output| !String::from_utf8_lossy(&output.stdout).is_empty());
        match done {
            Some(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            None => eprintln!("skipped: no mount namespace to be had"),
        }
        return;
    }
    let root = std::env::var_os("QAPIPE_TEST_FULL_DISK").unwrap();
    let store = Store::open(&Path::new(&root).join("store")).unwrap();
    let kept = publish_file(&store, "kept");
    let scratch = store.scratch().unwrap();
    let big = scratch.path().join("big");
    assert!(fs::write(&big, vec![7; 1 << 20]).is_err());
    let error = store.put_record(&record(Digest::of_bytes(b"key"), kept.clone())).unwrap_err();
    assert!(error.is_environment(), "{error}");
    assert_eq!(store.record(&Digest::of_bytes(b"key")).unwrap(), None);
    fs::remove_file(&big).unwrap();
    store.put_record(&record(Digest::of_bytes(b"key"), kept)).unwrap();
    assert!(store.verify_all(|_| ()).is_empty());
}

#[test]
fn several_may_put_the_same_in_one_place_at_once() {
    let (root, store) = store();
    let (file, folder) = (publish_file(&store, "content"), publish(&store, &[("f", "content")]));
    for (round, artifact) in (0..40).flat_map(|round| [(round, &file), (round, &folder)]) {
        let to = root.path().join(format!("{:?}-{round}", artifact.shape));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(store.place(artifact, &to, || None).unwrap(), None));
            }
        });
    }
}
