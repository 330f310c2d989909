//! Several processes on one store, some of which are killed, and one that may not write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qapipe_cache::{Artifact, Digest, Record, Store};

/// The store that a test works on when it is run again as a process of its own.
const CHILD: &str = "QAPIPE_TEST_CHILD";

fn child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Runs a test of this file again, as another process on the store.
fn again(test: &str, root: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program).args(["--exact", test]).env(CHILD, root).stdout(Stdio::null()).spawn().unwrap()
}

fn wait_for(what: impl Fn() -> bool) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn publish(store: &Store, texts: &[String]) -> Artifact {
    let scratch = store.scratch().unwrap();
    let folder = scratch.path().join("out");
    fs::create_dir_all(folder.join("deep")).unwrap();
    for (index, text) in texts.iter().enumerate() {
        fs::write(folder.join(format!("deep/{index}")), text).unwrap();
    }
    store.publish(&folder).unwrap()
}

fn record(name: &str, output: Artifact) -> Record {
    Record { stage: name.into(), ..common::record(Digest::of_bytes(name.as_bytes()), [("y", output)]) }
}

/// Every file and folder of the store outside of scratch.
fn kept(folder: &Path) -> Vec<PathBuf> {
    let inner = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("scratch"));
    inner.flat_map(|path| if path.is_dir() { kept(&path) } else { vec![path] }).collect()
}

#[test]
fn a_killed_process_leaves_scratch_only() {
    if let Some(root) = child() {
        let store = Store::open(&root).unwrap();
        for round in 0.. {
            let texts: Vec<String> = (0..4).map(|index| format!("{}-{round}-{index}", std::process::id())).collect();
            store.put_record(&record(&texts[0], publish(&store, &texts))).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    for round in 0..12 {
        let before = store.usage().records;
        let mut process = again("a_killed_process_leaves_scratch_only", store.root());
        wait_for(|| store.usage().records > before);
        std::thread::sleep(Duration::from_micros(1700 * round));
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert_eq!(store.verify_all(|_| ()), []);
    assert_eq!(store.unreadable_records().count(), 0);
    let half_written: Vec<_> = kept(store.root()).into_iter().filter(|path| path.to_string_lossy().ends_with(".tmp")).collect();
    assert_eq!(half_written, Vec::<PathBuf>::new());
    store.sweep();
    assert_eq!(fs::read_dir(store.root().join("scratch")).unwrap().count(), 0);
}

#[test]
fn the_second_process_waits_until_the_first_is_done_or_dead() {
    let key = Digest::of_bytes(b"key");
    if let Some(root) = child() {
        let _lock = Store::open(&root).unwrap().lock(&key).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let mut process = again("the_second_process_waits_until_the_first_is_done_or_dead", store.root());
    wait_for(|| store.holder(&key).is_some());
    assert_eq!(store.holder(&key).unwrap().pid, process.id());
    assert!(store.try_lock(&key).unwrap().is_none());
    process.kill().unwrap();
    let _lock = store.lock(&key).unwrap();
    process.wait().unwrap();
    assert_eq!(store.holder(&key).unwrap().pid, std::process::id());
}

/// Stages with different fingerprints may give equal folders at the same time, and read them at once.
#[test]
fn a_folder_that_several_publish_is_never_missing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    for round in 0..40 {
        let texts = [format!("a{round}"), format!("b{round}"), "same".into(), "same".into()];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let artifact = publish(&store, &texts);
                    for _ in 0..20 {
                        assert_eq!(fs::read_to_string(store.path(&artifact).join("deep/1")).unwrap(), texts[1]);
                    }
                });
            }
        });
    }
    assert_eq!(store.verify_all(|_| ()), []);
    let (scratch, used) = (store.root().join("scratch"), store.usage().scratch_bytes);
    drop(store);
    assert_eq!((used, fs::read_dir(scratch).unwrap().count()), (0, 0));
}

/// Tried as nobody where the test is root, who may write anywhere.
#[test]
fn a_store_without_permission_says_so_and_a_readable_one_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let test = "a_store_without_permission_says_so_and_a_readable_one_is_read";
    if let Some(root) = child() {
        let store = Store::open(&root.join("store")).unwrap();
        let kept = store.records().next().expect("reading needs no permission to write");
        assert!(kept.outputs.values().all(|artifact| store.verify(artifact).is_ok()));
        let errors = [
            Store::open(&root.join("new")).unwrap_err(),
            store.put_record(&kept).unwrap_err(),
            store.scratch().unwrap_err(),
            store.lock(&kept.fingerprint).unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_environment() && error.to_string().ends_with("Permission denied (os error 13)"), "{error}");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    store.put_record(&record("a", publish(&store, &["x".into()]))).unwrap();
    for path in [folder.path(), store.root(), &store.root().join("scratch"), &store.root().join("locks")] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o555)).unwrap();
    }
    // The test itself may lie where nobody may look.
    let program = folder.path().join("test");
    let is_root = fs::copy(std::env::current_exe().unwrap(), &program).is_ok();
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command
    } else {
        Command::new(std::env::current_exe().unwrap())
    };
    match command.args(["--exact", test]).env(CHILD, folder.path()).output() {
        Ok(done) if is_root && done.stdout.is_empty() => eprintln!("skipped: {}", String::from_utf8_lossy(&done.stderr)),
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout)),
        Err(error) => eprintln!("skipped: setpriv: {error}"),
    }
    for path in [folder.path(), store.root(), &store.root().join("scratch"), &store.root().join("locks")] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
}
