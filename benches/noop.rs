//! The whole process when there is nothing to do: a run and a plan over 1,000 stages whose results are there.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use criterion::{Criterion, criterion_group, criterion_main};

/// Stages in a chain.
const DEPTH: usize = 10;

/// Chains of stages that copy one small file.
fn pipeline(folder: &Path, stages: usize) {
    let mut text = String::from("name = \"noop\"\n");
    for stage in 0..stages {
        let (chain, at) = (stage / DEPTH, stage % DEPTH);
        let from = if at == 0 { "in.txt".to_owned() } else { format!("@s{chain}_{}", at - 1) };
        let _ = write!(
            text,
            "[stages.s{chain}_{at}]\nkind = \"command\"\nrun = [\"cp\", \"{{in.x}}\", \"{{out.y}}\"]\ninputs = {{ x = \"{from}\" }}\noutputs = [\"y\"]\n"
        );
    }
    std::fs::write(folder.join("in.txt"), "input\n").unwrap();
    std::fs::write(folder.join("pipeline.toml"), text).unwrap();
}

fn qapipe(folder: &Path, command: &str) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_qapipe"));
    process.args([command, "-q"]).current_dir(folder).stdout(Stdio::null());
    assert!(process.status().unwrap().success());
}

fn noop(criterion: &mut Criterion) {
    // `cargo bench` says so; a mere test run of this file need not be long.
    let is_test = !std::env::args().any(|arg| arg == "--bench");
    let stages = if is_test { 2 * DEPTH } else { 1000 };
    let folder = tempfile::tempdir().unwrap();
    pipeline(folder.path(), stages);
    qapipe(folder.path(), "run");
    let mut group = criterion.benchmark_group(format!("nothing to do in {stages} stages"));
    group.sample_size(20);
    for command in ["run", "plan"] {
        group.bench_function(command, |bencher| bencher.iter(|| qapipe(folder.path(), command)));
    }
    group.finish();
}

criterion_group!(benches, noop);
criterion_main!(benches);
