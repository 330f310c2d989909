//! How fast questions become windows: the sample, and dev-v2.0 with a real tokenizer where `QAPIPE_SHARED` has them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qapipe_stages::examples::{Examples, Part, write};
use qapipe_stages::tokenizer::{Reader, learn};
use qapipe_stages::windows::{Shape, cut};
use qapipe_stages::{sample, squad_json};

const SHAPE: Shape = Shape { max_length: 384, stride: 128, max_query_length: None };

fn bench(criterion: &mut Criterion, name: &str, reader: &Reader, examples: &Examples) {
    let mut group = criterion.benchmark_group("tokenize");
    group.throughput(Throughput::Elements(examples.len() as u64)).sample_size(10);
    group.bench_function(name, |bencher| bencher.iter(|| cut(reader, examples, SHAPE, &|_, _| Ok(())).unwrap()));
    group.finish();
}

fn tokenize(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.arrow");
    write(&path, &sample::questions(Part::Train).rows).unwrap();
    let examples = Examples::open(&path).unwrap();
    let reader = Reader::new(learn(&examples, 2000).unwrap()).unwrap();
    bench(criterion, "sample", &reader, &examples);
    let shared = std::env::var_os("QAPIPE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    let (dev, model) = (shared.join("data/squad/dev-v2.0.json.gz"), shared.join("models/minilm-l6"));
    if dev.exists() && model.exists() {
        let path = folder.path().join("dev.arrow");
        write(&path, &squad_json::read(&dev).unwrap().rows).unwrap();
        bench(criterion, "dev-v2.0", &Reader::open(&model).unwrap(), &Examples::open(&path).unwrap());
    }
}

criterion_group!(benches, tokenize);
criterion_main!(benches);
