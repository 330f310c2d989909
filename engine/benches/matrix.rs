//! Loading and planning a matrix of ten thousand cells beside the same number of stages written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fmt::Write;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use qapipe_cache::Store;
use qapipe_engine::{Command, Engine, Kinds, Options, Pipeline, StageKind};

const KINDS: &[&dyn StageKind] = &[&Command];

/// Cells.
const CELLS: usize = 10_000;

/// Two families of half the stages each, over a hundred ranks and fifty seeds; one cell in a hundred is left out and as many are added.
fn matrix() -> String {
    let numbers = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let rules = |make: &dyn Fn(usize) -> String| (0..CELLS / 200).map(make).collect::<Vec<_>>().join(", ");
    let exclude = rules(&|rule| format!("{{ rank = {rule}, seed = {rule} }}"));
    let include = rules(&|rule| format!("{{ rank = {}, seed = 50 }}", rule + 200));
    format!(
        "[matrix]\nrank = [{}]\nseed = [{}]\nexclude = [{exclude}]\ninclude = [{include}]\n{}{}",
        numbers(CELLS / 100),
        numbers(50),
        stage("train", "${matrix.rank}", "${matrix.seed}", "in.txt"),
        stage("score", "k", "k", "@train"),
    )
}

/// The same number of stages.
fn by_hand() -> String {
    let mut text = String::new();
    for number in 0..CELLS / 2 {
        text += &stage(&format!("train{number}"), &number.to_string(), "k", "in.txt");
        text += &stage(&format!("score{number}"), "k", "k", &format!("@train{number}"));
    }
    text
}

fn stage(name: &str, first: &str, second: &str, input: &str) -> String {
    let mut text = String::new();
    write!(
        text,
        "[stages.{name}]\nkind = \"command\"\nrun = [\"sh\", \"step\", \"{{in.x}}\", \"{{out.y}}\", \"{first}\", \"seed-{second}\"]\n\
         inputs = {{ x = \"{input}\" }}\noutputs = [\"y\"]\n"
    )
    .unwrap();
    text
}

fn engine(folder: &Path, text: &str) -> Engine {
    let pipeline = Pipeline::parse(text, &folder.join("pipeline.toml"), &Kinds::new(KINDS), &[]).unwrap();
    assert_eq!(pipeline.stages.len(), CELLS);
    Engine::new(Store::open(&folder.join("store")).unwrap(), pipeline, Options::default()).unwrap()
}

fn planning(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.txt"), "x").unwrap();
    let mut group = criterion.benchmark_group("10,000 stages");
    group.sample_size(20);
    for (name, text) in [("of a matrix", matrix()), ("by hand", by_hand())] {
        group.bench_function(format!("{name}: load"), |bencher| bencher.iter(|| engine(folder.path(), &text)));
        group.bench_function(format!("{name}: load and plan"), |bencher| {
            bencher.iter(|| assert_eq!(engine(folder.path(), &text).plan().unwrap().stages.len(), CELLS));
        });
    }
    group.finish();
}

criterion_group!(benches, planning);
criterion_main!(benches);
