//! Hashing at the speed of memory, and what a look-up costs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qapipe_cache::{Digest, RECORD_FORMAT, Record, StatCache, Store};

const LARGE: usize = 256 << 20;

fn hashing(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    let bytes = vec![7_u8; LARGE];
    std::fs::write(&path, &bytes).unwrap();
    let mut group = criterion.benchmark_group("hash 256 MiB");
    group.throughput(Throughput::Bytes(LARGE as u64)).sample_size(10);
    group.bench_function("file, all threads", |bencher| bencher.iter(|| Digest::of_file(&path).unwrap()));
    group.bench_function("memory, one thread", |bencher| bencher.iter(|| Digest::of_bytes(&bytes)));
    group.bench_function("copying it, for comparison", |bencher| bencher.iter(|| black_box(bytes.clone())));
    group.finish();
}

fn look_ups(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let keys: Vec<Digest> = (0..1000).map(|index: u32| keep(&store, index)).collect();
    let mut group = criterion.benchmark_group("1,000 stages");
    group.sample_size(10);
    group.bench_function("read and check records", |bencher| {
        bencher.iter(|| keys.iter().filter(|key| is_there(&store, key)).count());
    });
    let files: Vec<_> = (0..1000).map(|index| folder.path().join(format!("f{index}"))).collect();
    files.iter().for_each(|file| std::fs::write(file, "x").unwrap());
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let cache = StatCache::open(&folder.path().join("cache"));
    files.iter().for_each(|file| drop(cache.digest(file)));
    group.bench_function("look up digests of files", |bencher| {
        bencher.iter(|| files.iter().filter(|file| cache.digest(file).is_ok()).count());
    });
    group.finish();
    let mut next = 1_000_000;
    criterion.bench_function("publish a small result", |bencher| {
        bencher.iter(|| {
            next += 1;
            keep(&store, next)
        });
    });
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

criterion_group!(benches, hashing, look_ups);
criterion_main!(benches);
