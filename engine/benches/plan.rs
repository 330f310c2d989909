//! What it costs to find out that 1,000 stages are done.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use criterion::{Criterion, criterion_group, criterion_main};
use qapipe_cache::{Digest, Store};
use qapipe_engine::{Command, Engine, Kinds, Options, Pipeline, StageKind, facets, fingerprint};

const KINDS: &[&dyn StageKind] = &[&Command];

/// Chains of ten stages, each a small shell script.
fn pipeline(chains: usize) -> String {
    let mut text = String::new();
    for chain in 0..chains {
        for depth in 0..10 {
            let input = if depth == 0 { "in.txt".to_owned() } else { format!("@s{chain}_{}", depth - 1) };
            let run = format!("run = [\"sh\", \"-c\", \"cat {{in.x}} > {{out.y}}; echo {chain} >> {{out.y}}\"]");
            writeln!(text, "[stages.s{chain}_{depth}]\nkind = \"command\"\n{run}\ninputs = {{ x = \"{input}\" }}\noutputs = [\"y\"]")
                .unwrap();
        }
    }
    text
}

fn engine(folder: &Path, text: &str) -> Engine {
    let file = folder.join("pipeline.toml");
    let pipeline = Pipeline::parse(text, &file, &Kinds::new(KINDS), &[]).unwrap();
    Engine::new(Store::open(&folder.join("store")).unwrap(), pipeline, Options::default()).unwrap()
}

fn planning(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let text = pipeline(100);
    std::fs::write(folder.path().join("pipeline.toml"), &text).unwrap();
    std::fs::write(folder.path().join("in.txt"), "x").unwrap();
    engine(folder.path(), &text).run(&(), &AtomicBool::new(false)).unwrap();
    let mut group = criterion.benchmark_group("1,000 stages that are done");
    group.sample_size(20);
    group.bench_function("load", |bencher| bencher.iter(|| engine(folder.path(), &text)));
    let ready = engine(folder.path(), &text);
    group.bench_function("plan", |bencher| bencher.iter(|| assert!(ready.plan().unwrap().is_done())));
    group.bench_function("run", |bencher| bencher.iter(|| ready.run(&(), &AtomicBool::new(false)).unwrap()));
    group.finish();
}

fn fingerprinting(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), &pipeline(1));
    let stage = &engine.pipeline().stages[3];
    let inputs = [("inputs.x".to_owned(), Digest::of_bytes(b"x"))];
    criterion.bench_function("fingerprint of a stage", |bencher| bencher.iter(|| fingerprint(&facets(stage, &inputs, None))));
}

criterion_group!(benches, planning, fingerprinting);
criterion_main!(benches);
