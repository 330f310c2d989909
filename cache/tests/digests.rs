//! What a file or folder is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use qapipe_cache::{Digest, Entry, Hasher, StatCache, Tree};

fn age(path: &Path, seconds: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[test]
fn a_digest_is_blake3_in_hex() {
    let digest = Digest::of_bytes(b"");
    assert_eq!(digest.to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    assert_eq!(digest.short(), "af1349b9");
    assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    assert!("af13".parse::<Digest>().is_err());
    let json = serde_json::to_string(&digest).unwrap();
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
}

#[test]
fn large_and_small_files_hash_alike() {
    let folder = tempfile::tempdir().unwrap();
    for size in [0, 1, 1 << 16, (1 << 20) - 1, 1 << 20, 3 << 20] {
        let bytes: Vec<u8> = (0..size).map(|index: usize| (index * 31 % 251) as u8).collect();
        fs::write(folder.path().join("f"), &bytes).unwrap();
        assert_eq!(Digest::of_file(&folder.path().join("f")).unwrap(), Digest::of_bytes(&bytes), "{size}");
    }
}

#[test]
fn an_edit_with_size_and_time_put_back_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let cache = StatCache::open(&folder.path().join("cache"));
    fs::write(&path, "one").unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    let before = cache.digest(&path).unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "two").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_ne!(cache.digest(&path).unwrap(), before);
}

#[test]
fn a_young_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let cache = StatCache::open(&folder.path().join("cache"));
    for text in ["one", "two", "six"] {
        fs::write(&path, text).unwrap();
        assert_eq!(cache.digest(&path).unwrap().digest, Digest::of_bytes(text.as_bytes()));
    }
    fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    cache.digest(&path).unwrap();
    cache.save().unwrap();
    assert!(!folder.path().join("cache").exists(), "a time in the future is never trusted");
}

#[test]
fn a_settled_file_is_remembered_and_a_damaged_memory_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("f"), folder.path().join("cache"));
    fs::write(&path, "one").unwrap();
    age(&path, 60);
    std::thread::sleep(Duration::from_millis(2100));
    let cache = StatCache::open(&file);
    let digest = cache.digest(&path).unwrap();
    cache.save().unwrap();
    let bytes = fs::read(&file).unwrap();
    assert_eq!(StatCache::open(&file).digest(&path).unwrap(), digest);
    for broken in [&bytes[..bytes.len() / 2], b"garbage".as_slice(), b""] {
        fs::write(&file, broken).unwrap();
        assert_eq!(StatCache::open(&file).digest(&path).unwrap(), digest);
    }
}

/// A digest read wrongly would stand for a file that it is not of.
#[test]
fn a_memory_with_one_wrong_bit_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("f"), folder.path().join("cache"));
    fs::write(&path, "one").unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    let cache = StatCache::open(&file);
    cache.digest(&path).unwrap();
    cache.save().unwrap();
    let good = fs::read(&file).unwrap();
    for index in 0..good.len() {
        let mut broken = good.clone();
        broken[index] ^= 1;
        fs::write(&file, broken).unwrap();
        assert_eq!(StatCache::open(&file).digest(&path).unwrap().digest, Digest::of_bytes(b"one"), "{index}");
    }
}

#[test]
fn a_memory_keeps_odd_names_and_forgets_files_that_are_gone() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"\xff odd"));
    let gone: Vec<_> = (0..100).map(|index| folder.path().join(format!("gone{index}"))).collect();
    gone.iter().chain([&odd]).for_each(|path| fs::write(path, "x").unwrap());
    std::thread::sleep(Duration::from_millis(2100));
    let cache = StatCache::open(&file);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| gone.iter().chain([&odd]).for_each(|path| assert!(cache.digest(path).is_ok())));
        }
    });
    gone.iter().for_each(|path| fs::remove_file(path).unwrap());
    cache.save().unwrap();
    let before = fs::metadata(&file).unwrap();
    assert!(before.len() < 1000, "only one file is left to remember");
    let again = StatCache::open(&file);
    assert_eq!(again.digest(&odd).unwrap().digest, Digest::of_bytes(b"x"));
    again.save().unwrap();
    let after = fs::metadata(&file).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap(), "nothing was learnt, so nothing is written");
}

#[test]
fn a_link_around_its_own_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    for name in ["up", "again"] {
        std::os::unix::fs::symlink("../..", deep.join(name)).unwrap();
    }
    let cache = StatCache::open(&folder.path().join("cache"));
    let error = cache.digest(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("this is a link to a folder that it lies in"), "{error}");
    fs::remove_file(deep.join("up")).unwrap();
    fs::remove_file(deep.join("again")).unwrap();
    std::os::unix::fs::symlink("nowhere", deep.join("broken")).unwrap();
    let error = cache.digest(folder.path()).unwrap_err().to_string();
    assert!(error.contains("a/b/broken: No such file"), "{error}");
}

#[test]
fn folders_of_the_users_may_hold_links() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(folder.path().join("blob"), "weights").unwrap();
    std::os::unix::fs::symlink("../blob", model.join("w")).unwrap();
    let cache = StatCache::open(&folder.path().join("cache"));
    let linked = cache.digest(&model).unwrap();
    fs::remove_file(model.join("w")).unwrap();
    fs::write(model.join("w"), "weights").unwrap();
    assert_eq!(cache.digest(&model).unwrap(), linked);
    assert_eq!(cache.part(&model, &["w"]).unwrap(), Tree::of_folder(&model).unwrap().part(&["w"]));
    assert!(cache.digest(Path::new("/dev/null")).is_err());
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = ("[a-z]{1,3}(/[a-z]{1,3})?", any::<[u8; 4]>(), any::<u32>(), any::<bool>());
    proptest::collection::btree_map("[a-z]{1,3}(/[a-z]{1,3})?", entry, 0..8).prop_map(|files| {
        let entry = |(path, (_, bytes, size, executable)): (String, (String, [u8; 4], u32, bool))| Entry {
            path,
            digest: Digest::of_bytes(&bytes),
            bytes: u64::from(size),
            executable,
        };
        files.into_iter().map(entry).collect()
    })
}

proptest! {
    #[test]
    fn a_listing_does_not_depend_on_order(entries in entries(), seed in any::<u64>()) {
        let mut shuffled = entries.clone();
        shuffled.sort_by_key(|entry| Digest::of_bytes(format!("{seed}{}", entry.path).as_bytes()));
        prop_assert_eq!(Tree::new(entries).digest(), Tree::new(shuffled).digest());
    }

    #[test]
    fn a_part_hangs_on_its_own_files_only(entries in entries(), other in any::<[u8; 4]>()) {
        let changed = entries.iter().cloned().map(|mut entry| {
            if !entry.path.starts_with('a') {
                entry.digest = Digest::of_bytes(&other);
            }
            entry
        });
        let names: Vec<String> = entries.iter().filter_map(|entry| entry.path.split('/').next()).filter(|name| name.starts_with('a')).map(str::to_owned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        prop_assert_eq!(Tree::new(changed.collect()).part(&names), Tree::new(entries).part(&names));
    }

    #[test]
    fn fields_do_not_run_together(a in ".{0,6}", b in ".{0,6}", c in ".{0,6}", d in ".{0,6}") {
        let digest = |first: (&str, &str), second: (&str, &str)| {
            let mut hasher = Hasher::new("test");
            hasher.field(first.0, first.1.as_bytes());
            hasher.field(second.0, second.1.as_bytes());
            hasher.finish()
        };
        let joined = format!("{a}{b}");
        prop_assume!((a.as_str(), b.as_str()) != (joined.as_str(), ""));
        prop_assert_ne!(digest((&a, &b), (&c, &d)), digest((&joined, ""), (&c, &d)));
    }
}
