//! Hashing at the speed of memory, what a run without work reads, and what keeping a result costs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, HashSet};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use qapipe_cache::{Artifact, Digest, Policy, RECORD_FORMAT, Record, StatCache, Store};

const LARGE: usize = 256 << 20;

fn hashing(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    let bytes = vec![7_u8; LARGE];
    std::fs::write(&path, &bytes).unwrap();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut group = criterion.benchmark_group("256 MiB");
    group.throughput(Throughput::Bytes(LARGE as u64)).sample_size(10);
    group.bench_function("hash a file, all threads", |bencher| bencher.iter(|| Digest::of_file(&path).unwrap()));
    group.bench_function("hash a file, one thread", |bencher| bencher.iter(|| one.install(|| Digest::of_file(&path).unwrap())));
    group.bench_function("read memory, one thread", |bencher| bencher.iter(|| sum(black_box(&bytes))));
    group.bench_function("read the file, one thread", |bencher| bencher.iter(|| read(&path)));
    group.finish();
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0, |sum, chunk| sum ^ u64::from_ne_bytes(chunk.try_into().unwrap()))
}

fn read(path: &Path) -> u64 {
    std::io::copy(&mut std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(path).unwrap()), &mut std::io::sink()).unwrap()
}

/// What a run of 1,000 stages reads that has nothing to do: their records, their results' sizes, three inputs each.
fn nothing_to_do(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let keys: Vec<Digest> = (0..1000).map(|index: u32| keep(&store, index)).collect();
    let files: Vec<PathBuf> = (0..3000).map(|index| folder.path().join(format!("f{index}"))).collect();
    files.iter().for_each(|file| std::fs::write(file, "x").unwrap());
    std::thread::sleep(Duration::from_millis(2100));
    let saved = folder.path().join("stat.cache");
    let cache = StatCache::open(&saved);
    assert!(files.iter().all(|file| cache.digest(file).is_ok()));
    cache.save().unwrap();
    let mut group = criterion.benchmark_group("nothing to do");
    group.sample_size(20);
    group
        .bench_function("read and check 1,000 records", |bencher| bencher.iter(|| keys.iter().filter(|key| is_there(&store, key)).count()));
    group.bench_function("open a stat cache of 3,000 files", |bencher| bencher.iter(|| StatCache::open(&saved)));
    group.bench_function("look up 3,000 files", |bencher| bencher.iter(|| files.iter().filter(|file| cache.digest(file).is_ok()).count()));
    group.finish();
}

fn keeping(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    // A store that has been in use: its folders are there.
    let mut next = 2000;
    for index in 0..next {
        keep(&store, index);
    }
    let mut group = criterion.benchmark_group("keep");
    group.sample_size(20);
    group.bench_function("a small result and its record", |bencher| {
        bencher.iter(|| {
            next += 1;
            keep(&store, next)
        });
    });
    group.bench_function("a folder of 20 new files", |bencher| {
        bencher.iter(|| {
            next += 1;
            publish_folder(&store, next)
        });
    });
    group.bench_function("a folder of 20 files that is there", |bencher| bencher.iter(|| publish_folder(&store, next)));
    group.finish();
}

/// 10,000 results, every second of which nothing cites.
fn collecting(criterion: &mut Criterion) {
    let full = || {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let keys: Vec<Digest> = (0..10_000).map(|index| keep(&store, index)).collect();
        (folder, store, keys.into_iter().step_by(2).collect::<HashSet<Digest>>())
    };
    let (_folder, store, roots) = full();
    let mut group = criterion.benchmark_group("garbage of 10,000 results");
    group.sample_size(10);
    group.bench_function("find it", |bencher| bencher.iter(|| store.garbage(&Policy::default(), &roots).unwrap()));
    group.bench_function("delete it", |bencher| {
        let collect = |(folder, store, roots): (tempfile::TempDir, Store, HashSet<Digest>)| {
            store.try_alone().unwrap().unwrap().collect(&Policy::default(), &roots).unwrap();
            folder
        };
        bencher.iter_batched(full, collect, BatchSize::PerIteration);
    });
    group.finish();
}

fn publish_folder(store: &Store, index: u32) -> Artifact {
    let scratch = store.scratch().unwrap();
    let path = scratch.path().join("y");
    std::fs::create_dir(&path).unwrap();
    (0..20).for_each(|file| std::fs::write(path.join(file.to_string()), format!("{file} of {index}")).unwrap());
    store.publish(&path).unwrap()
}

fn keep(store: &Store, index: u32) -> Digest {
    let scratch = store.scratch().unwrap();
    let path = scratch.path().join("y");
    std::fs::write(&path, index.to_string()).unwrap();
    let output = store.publish(&path).unwrap();
    let fingerprint = Digest::of_bytes(&index.to_le_bytes());
    let facets = (0..8).map(|facet| (format!("params.p{facet}"), facet.to_string())).collect();
    let record = Record {
        format: RECORD_FORMAT,
        fingerprint,
        kind: "command".into(),
        stage: format!("s{index}"),
        pipeline: "bench".into(),
        run: "r".into(),
        outputs: BTreeMap::from([("y".to_owned(), output)]),
        facets,
        cost: BTreeMap::new(),
        provenance: BTreeMap::new(),
    };
    store.put_record(&record).unwrap();
    fingerprint
}

fn is_there(store: &Store, key: &Digest) -> bool {
    store.record(key).unwrap().is_some_and(|record| record.outputs.values().all(|artifact| store.check(artifact).is_ok()))
}

criterion_group!(benches, hashing, nothing_to_do, keeping, collecting);
criterion_main!(benches);
