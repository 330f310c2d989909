//! Runs of pipelines with a matrix: what runs, what is found again, and what a failure of one cell costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;
#[path = "common/toy.rs"]
mod toy;
#[path = "common/toys.rs"]
mod toys;

use std::collections::BTreeSet;

use project::Project;
use proptest::prelude::*;
use qapipe_cache::Digest;
use qapipe_engine::{Decision, Kinds, Options, Pipeline, StageKind, StageSpec, facets, fingerprint};
use toy::Toy;

static TOY: Toy = Toy::new();
const KINDS: &[&dyn StageKind] = &[&TOY];

/// One root, a family, and what is made of each of its cells.
const FAMILY: &str = r#"
[matrix]
word = ["a", "b", "c"]

[stages.root]
kind = "toy"
text = "root"

[stages.say]
kind = "toy"
text = "${matrix.word}"
of = ["@root"]

[stages.after]
kind = "toy"
of = ["@say"]
"#;

fn project(pipeline: &str) -> Project {
    Project::new(Kinds::new(KINDS), pipeline)
}

fn one_thread() -> Options {
    Options { jobs: 1, ..Options::default() }
}

#[test]
fn every_cell_runs_once_and_the_root_is_shared() {
    let project = project(FAMILY);
    let run = project.run_with(one_thread());
    let cells = |family: &str| ["a", "b", "c"].map(|word| format!("{family}[word={word}]"));
    assert_eq!(run.ran(), [&cells("after")[..], &["root".to_owned()], &cells("say")].concat());
    assert!(project.run().ran().is_empty());
    project.edit("\"c\"]", "\"c\", \"d\"]");
    assert_eq!(project.run().ran(), ["after[word=d]", "say[word=d]"]);
}

#[test]
fn a_cell_finds_the_result_of_the_same_stage_written_by_hand() {
    let by_hand = "[stages.r]\nkind = \"toy\"\ntext = \"root\"\n[stages.x]\nkind = \"toy\"\ntext = \"b\"\nof = [\"@r\"]\n[stages.y]\nkind = \"toy\"\nof = [\"@x\"]\n";
    let project = project(by_hand);
    project.run();
    project.write("pipeline.toml", FAMILY);
    assert_eq!(project.run().ran(), ["after[word=a]", "after[word=c]", "say[word=a]", "say[word=c]"]);
    project.write("pipeline.toml", by_hand);
    assert!(project.run().ran().is_empty());
}

#[test]
fn one_cell_that_fails_does_not_stop_the_others() {
    let text = FAMILY.replace("text = \"${matrix.word}\"", "text = \"${matrix.word}\"\nfails = \"${matrix.fails}\"");
    let text = text.replace("[matrix]\nword = [\"a\", \"b\", \"c\"]", "[matrix]\nfails = [\"failed\"]\nword = [\"a\"]\n")
        + "[stages.apart]\nkind = \"toy\"\ntext = \"apart\"\n";
    let run = project(&text).run_with(one_thread());
    assert!(run.has("failed say[fails=failed,word=a]: the loss is NaN at step 3"), "{:?}", run.events);
    assert!(run.has("blocked after[fails=failed,word=a] by say[fails=failed,word=a]"));
    assert!(run.has("finished apart"), "{:?}", run.events);
    let plain = "[stages.a]\nkind = \"toy\"\nfails = \"failed\"\n[stages.b]\nkind = \"toy\"\n";
    assert!(project(plain).run_with(one_thread()).has("blocked b by "), "without a matrix the first failure stops the run");
    let full = text.replace("[\"failed\"]", "[\"full-disk\"]").replace("apart", "ever");
    let run = project(&full).run_with(one_thread());
    assert!(run.has("blocked ever by "), "a machine that lacks something fails every cell: {:?}", run.events);
}

#[test]
fn the_last_run_may_be_taken_up_where_it_failed() {
    let text = FAMILY.replace("of = [\"@root\"]", "of = [\"@root\", \"${matrix.word}.txt\"]");
    let project = project(&text);
    project.write("a.txt", "a");
    project.write("c.txt", "c");
    let left = || Options { left_over: true, ..one_thread() };
    assert!(project.engine(left()).selected().is_empty(), "nothing has run yet");
    let run = project.run_with(one_thread());
    assert_eq!(run.ran(), ["after[word=a]", "after[word=c]", "root", "say[word=a]", "say[word=c]"]);
    project.write("b.txt", "b");
    project.edit("kind = \"toy\"\nof = [\"@say\"]", "kind = \"toy\"\ntext = \"new\"\nof = [\"@say\"]");
    let again = project.run_with(left());
    assert_eq!(again.ran(), ["after[word=b]", "say[word=b]"], "what did not fail waits, although it has changed");
    assert!(again.has("cached root"));
    assert!(project.engine(left()).selected().is_empty());
    assert_eq!(project.run().ran(), ["after[word=a]", "after[word=c]"]);
}

#[test]
fn conditions_and_partial_names_choose_cells() {
    let text = FAMILY
        .replace("word = [\"a\", \"b\", \"c\"]", "word = [\"a\", \"b\"]\nseed = [1, 2]")
        .replace("text = \"${m", "seed = \"${matrix.seed}\"\ntext = \"${m");
    let project = project(&text);
    let of = |targets: &[&str], cells: &[&str]| -> Vec<String> {
        let targets = targets.iter().map(|&target| target.to_owned()).collect();
        let cells = cells.iter().map(|cell| cell.parse().unwrap()).collect();
        let engine = project.engine(Options { targets, cells, ..Options::default() });
        engine.plan().unwrap().stages.into_iter().map(|planned| planned.stage).collect()
    };
    assert_eq!(of(&["say"], &[]).len(), 5);
    assert_eq!(of(&["say[seed=2]"], &[]), ["root", "say[word=a,seed=2]", "say[word=b,seed=2]"]);
    assert_eq!(of(&["say"], &["word=b", "seed=1"]), ["root", "say[word=b,seed=1]"]);
    assert_eq!(of(&[], &["word=a,b", "seed=1"]).len(), 5);
    let wrong = |cells: &str| {
        let pipeline = Pipeline::load(&project.path("pipeline.toml"), &project.kinds, &[]).unwrap();
        let options = Options { cells: vec![cells.parse().unwrap()], ..Options::default() };
        options.selected(&qapipe_engine::Graph::of(&pipeline)).unwrap_err().to_string()
    };
    assert_eq!(wrong("sed=1"), "no axis `sed` (did you mean `seed`?)");
    assert_eq!(wrong("seed=3"), "no stage with `seed=3` (`seed` is one of 1, 2)");
}

#[test]
fn a_forced_family_runs_again() {
    let project = project(FAMILY);
    project.run();
    let force = |name: &str, cells: &[&str]| {
        let cells = cells.iter().map(|cell| cell.parse().unwrap()).collect();
        project.run_with(Options { force: vec![name.to_owned()], cells, ..Options::default() }).ran().len()
    };
    assert_eq!(force("root", &["word=a"]), 1, "a stage without axes is meant by its name");
    assert_eq!((force("say", &[]), force("say[word=b]", &[]), force("say", &["word=a,c"])), (3, 1, 2));
}

#[test]
fn a_plan_names_cells() {
    let plan = project(FAMILY).engine(Options::default()).plan().unwrap();
    let after = plan.stages.iter().find(|planned| planned.stage == "after[word=b]").unwrap();
    assert_eq!(after.decision, Decision::Maybe { after: vec!["say[word=b]".to_owned()] });
}

const BEFORE: &str = "[stages.d]\nkind = \"dataset\"\n[stages.m]\nkind = \"checkpoint\"\nsource = \"w\"\n[stages.f]\nkind = \"tokenize\"\ndataset = \"@d\"\nmodel = \"@m\"\n";

fn train(rank: &str, lr: &str, seed: &str) -> String {
    format!(
        "[stages.x]\nkind = \"train\"\nmodel = \"@m\"\ndata = \"@f\"\nrank = {rank}\ntrain = {{ lr = {lr} }}\nseed = {seed}\n[stages.y]\nkind = \"command\"\nrun = [\"x\"]\ninputs = {{ x = \"@x\", f = \"@f\" }}\noutputs = [\"y\"]\n"
    )
}

/// The fingerprint of a stage, had its inputs such digests.
fn key(stage: &StageSpec) -> Digest {
    let inputs: Vec<_> = stage.inputs.iter().map(|input| (input.param.clone(), Digest::of_bytes(input.param.as_bytes()))).collect();
    fingerprint(&facets(stage, &inputs, None))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the axes: each cell is the stage that would be written by hand, and a second look finds the same.
    #[test]
    fn a_cell_is_the_stage_written_by_hand(
        ranks in proptest::collection::btree_set(1..1024i64, 1..5),
        lrs in proptest::collection::btree_set(1..1000u32, 1..4),
        seeds in proptest::collection::btree_set(0..1000i64, 1..4),
    ) {
        let lrs: Vec<String> = lrs.into_iter().map(|lr| format!("{:?}", f64::from(lr) / 1e5)).collect();
        let list = |items: &BTreeSet<i64>| format!("{:?}", items.iter().collect::<Vec<_>>());
        let matrix = format!("[matrix]\nrank = {}\nlr = [{}]\nseed = {}\n", list(&ranks), lrs.join(", "), list(&seeds));
        let text = format!("{matrix}{BEFORE}{}", train("\"${matrix.rank}\"", "\"${matrix.lr}\"", "\"${matrix.seed}\""));
        let (pipeline, again) = (toys::good(&text, &[]), toys::good(&text, &[]));
        prop_assert_eq!(pipeline.stages.len(), 3 + 2 * ranks.len() * lrs.len() * seeds.len());
        prop_assert!(pipeline.stages.iter().zip(&again.stages).all(|(a, b)| a.name == b.name && key(a) == key(b) && a.inputs == b.inputs));
        let first = seeds.first().unwrap();
        for (rank, lr, seed) in ranks.iter().flat_map(|rank| lrs.iter().map(move |lr| (rank, lr, first))) {
            let by_hand = toys::good(&format!("{BEFORE}{}", train(&rank.to_string(), lr, &seed.to_string())), &[]);
            for name in ["x", "y"] {
                let cell = pipeline.stage(&format!("{name}[rank={rank},lr={lr},seed={seed}]")).unwrap();
                let plain = by_hand.stage(name).unwrap();
                prop_assert_eq!(key(cell), key(plain));
                prop_assert_eq!((&cell.explicit, cell.seed), (&plain.explicit, plain.seed));
            }
        }
    }
}
