//! Loading and checking a pipeline of a thousand stages: chains of ten commands, each reading one file and writing one.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use qapipe_engine::{Graph, Pipeline};

#[path = "../tests/common/mod.rs"]
mod common;

fn text(stages: usize) -> String {
    const DEPTH: usize = 10;
    let mut text = "name = \"bench\"\n\n[vars]\n".to_owned();
    for chain in 0..stages / DEPTH {
        let _ = writeln!(text, "c{chain} = \"v1\"");
    }
    for (chain, step) in (0..stages / DEPTH).flat_map(|chain| (0..DEPTH).map(move |step| (chain, step))) {
        let input = if step == 0 { format!("in/{chain}.txt") } else { format!("@s{chain}_{}.y", step - 1) };
        let last = if step == 0 { format!("${{vars.c{chain}}}") } else { "k".to_owned() };
        let _ = write!(
            text,
            "\n[stages.s{chain}_{step}]\nkind = \"command\"\nrun = [\"sh\", \"{{in.code}}\", \"{{in.x}}\", \"{{out.y}}\", \"{last}\"]\n\
             inputs = {{ code = \"step.sh\", x = \"{input}\" }}\noutputs = {{ y = \"out/{chain}_{step}.txt\" }}\n"
        );
    }
    text
}

fn load(criterion: &mut Criterion) {
    let text = text(1000);
    let kinds = common::toys::kinds();
    let parse = || Pipeline::parse(black_box(&text), "pipeline.toml".as_ref(), &kinds, &[]).expect("a pipeline");
    criterion.bench_function("load 1000 stages", |bencher| bencher.iter(parse));
    let pipeline = parse();
    criterion.bench_function("graph of 1000 stages", |bencher| bencher.iter(|| Graph::of(black_box(&pipeline))));
}

criterion_group!(benches, load);
criterion_main!(benches);
