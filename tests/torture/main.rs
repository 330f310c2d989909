//! Runs that are killed at any moment, and runs on a file system that fails: nothing that was finished is lost, nothing partial is served.
//!
//! `make torture` does it hundreds of times; without it, `QAPIPE_KILLS` and `QAPIPE_FAULTS` say how often, and `QAPIPE_SEED` which moments.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, dead_code)]

#[path = "../cli/support.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::Project;

/// Programs side by side and after one another, a folder of files, and a training with its evaluation; each round is new by its number. Results
/// repeat bit for bit. Programs fail where a write of theirs does (`-e`): what one that hides it says it has done is not the engine's to doubt.
const PIPELINE: &str = r#"name = "torture"
numerics = "strict"
seed = 7

[vars]
round = 0

[stages.sample]
kind = "dataset"
source = "sample"
limit_train = 32
limit_dev = 8

[stages.tiny]
kind = "checkpoint"
vocabulary = "@sample"
vocab_size = 1000
config = { hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 64, max_position_embeddings = 160 }
hints = { threads = 1 }

[stages.features]
kind = "tokenize"
dataset = "@sample"
model = "@tiny"
max_length = 160
stride = 32

[stages.tuned]
kind = "fine-tune"
model = "@tiny"
data = "@features"
seed = "${vars.round}"
train = { epochs = 20, lr = 1e-3, batch = 8 }
hints = { checkpoint_seconds = 1, threads = 1 }

[stages.scores]
kind = "evaluate"
model = "@tuned"
data = "@features"
latency = 0
hints = { threads = 1, batch_tokens = 400 }

[stages.a]
kind = "command"
run = ["sh", "-c", "sleep 0.05; echo a ${vars.round} > {out.y}"]
outputs = ["y"]

[stages.b]
kind = "command"
run = ["sh", "-ec", "mkdir {out.y}; for n in 1 2 3 4 5 6 7 8 9; do echo $n ${vars.round} > {out.y}/$n; sleep 0.01; done"]
outputs = ["y"]

[stages.c]
kind = "command"
run = ["sh", "-ec", "cat {in.a} {in.b}/* > {out.y}; sleep 0.03"]
inputs = { a = "@a", b = "@b" }
outputs = { y = "out/c.txt" }

[stages.d]
kind = "command"
run = ["sh", "-c", "wc -l < {in.c} > {out.y}"]
inputs = { c = "@c" }
outputs = ["y"]
"#;

/// Numbers that look random.
struct Draw(u64);

impl Draw {
    fn new() -> Self {
        let seed = from_environment("QAPIPE_SEED", u64::from(std::process::id()));
        eprintln!("QAPIPE_SEED={seed}");
        Self(seed)
    }

    /// A number below another.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A store under torture.
struct Torture {
    project: Project,
    draw: Draw,
    round: u64,
    /// What was finished, by its key: the digests of what it gave.
    finished: BTreeMap<String, String>,
    /// The same by stage and round, for what repeats bit for bit.
    outputs: BTreeMap<(u64, String), String>,
}

impl Torture {
    fn new() -> Self {
        let project = Project::of(PIPELINE);
        Self { project, draw: Draw::new(), round: 0, finished: BTreeMap::new(), outputs: BTreeMap::new() }
    }

    fn run(&self) -> Command {
        let round = format!("vars.round={}", self.round);
        let mut command = self.project.command(&["run", "-q", "--device", "cpu", "--jobs", "4", "--offline", "--set", &round]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Checks the store: it is sound, and what was finished is still there, as it was.
    fn check(&mut self) {
        let verified = self.project.qapipe(&["cache", "verify"]);
        assert_eq!(verified.code, Some(0), "{}\n{}", verified.out, verified.err);
        let listed = self.project.qapipe(&["cache", "ls", "--json"]).code(0).json();
        let now: BTreeMap<String, String> = listed["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| (result["key"].as_str().unwrap().to_owned(), result["outputs"].to_string()))
            .collect();
        for (key, outputs) in &self.finished {
            assert_eq!(now.get(key), Some(outputs), "{key} was finished and is lost");
        }
        self.finished = now;
    }

    /// Brings the round to its end, undisturbed, and remembers what it gave.
    fn complete(&mut self) {
        let output = self.run().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.check();
        let round = format!("vars.round={}", self.round);
        let plan = self.project.qapipe(&["plan", "--json", "--device", "cpu", "--set", &round]).code(0).json();
        assert_eq!(plan["done"], true, "{plan}");
        for stage in plan["stages"].as_array().unwrap() {
            let name = stage["stage"].as_str().unwrap();
            let outputs: serde_json::Value = serde_json::from_str(&self.finished[stage["key"].as_str().unwrap()]).unwrap();
            // A log and a table of figures hold seconds.
            let steady = ["model", "y", "predictions"].iter().find_map(|output| outputs.get(output));
            self.outputs.extend(steady.map(|output| ((self.round, name.to_owned()), output["digest"].to_string())));
        }
        self.round += 1;
    }

    /// Has some rounds run anew in a store of their own, undisturbed: they must give what they gave here.
    fn compare(&self, rounds: u64) {
        let mut calm =
            Torture { project: Project::of(PIPELINE), draw: Draw(1), round: 0, finished: BTreeMap::new(), outputs: BTreeMap::new() };
        for round in 0..rounds.min(self.round) {
            calm.round = round;
            calm.complete();
        }
        for (name, digest) in &calm.outputs {
            assert_eq!(self.outputs.get(name), Some(digest), "{name:?} differs from an undisturbed run's");
        }
    }
}

/// Kills a process of a run: the run itself, as a rule, or one of those that it has started.
fn kill(child: &mut Child, draw: &mut Draw) {
    let own = child.id();
    let below: Vec<u32> = if draw.below(4) == 0 { descendants(own).into_iter().collect() } else { Vec::new() };
    match below.get(usize::try_from(draw.below(below.len() as u64)).unwrap()) {
        Some(process) => drop(Command::new("kill").args(["-9", &process.to_string()]).stderr(Stdio::null()).status()),
        None => child.kill().unwrap(),
    }
}

/// The processes that a process has started, and those that these have.
fn descendants(of: u32) -> BTreeSet<u32> {
    let parent = |process: u32| -> Option<u32> {
        let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all: Vec<u32> =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let mut found = BTreeSet::new();
    let mut grown = true;
    while grown {
        let next: Vec<u32> = all
            .iter()
            .copied()
            .filter(|&process| !found.contains(&process) && parent(process).is_some_and(|parent| parent == of || found.contains(&parent)))
            .collect();
        grown = !next.is_empty();
        found.extend(next);
    }
    found
}

/// Waits for a run, with what it said.
fn ended(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.status.code() != Some(70) && output.status.signal().is_none_or(|signal| signal == 9), "{:?}\n{said}", output.status);
    output
}

#[test]
fn a_run_that_is_killed_at_any_moment_loses_nothing() {
    let mut torture = Torture::new();
    let started = Instant::now();
    torture.complete();
    let whole = u64::try_from(started.elapsed().as_millis()).unwrap();
    let kills = from_environment("QAPIPE_KILLS", 12);
    for done in 0..kills {
        let mut child = torture.run().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(torture.draw.below(whole)));
        kill(&mut child, &mut torture.draw);
        ended(child);
        torture.check();
        // A round that is never finished would have little left to lose.
        if torture.draw.below(4) == 0 {
            torture.complete();
        }
        if done % 50 == 49 {
            eprintln!("{} kills, {} rounds, {} results", done + 1, torture.round, torture.finished.len());
        }
    }
    torture.complete();
    torture.compare(3 + kills / 20);
    eprintln!("{kills} kills, {} rounds, {} results, nothing lost", torture.round, torture.finished.len());
}

/// The library that makes calls fail.
fn faults(folder: &Path) -> PathBuf {
    let library = folder.join("faults.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture/faults.c");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(&library).args([source, "-ldl"]).status().unwrap();
    assert!(status.success());
    library
}

#[test]
fn a_run_on_a_file_system_that_fails_loses_nothing() {
    let mut torture = Torture::new();
    let library = faults(&torture.project.path(""));
    let many = from_environment("QAPIPE_FAULTS", 12);
    torture.complete();
    let mut failed = 0;
    for done in 0..many {
        let rate = 1 << (4 + torture.draw.below(7));
        let mut command = torture.run();
        command.env("LD_PRELOAD", &library).env("FAULTS_UNDER", torture.project.path(".qapipe"));
        command.env("FAULTS_RATE", rate.to_string()).env("FAULTS_SEED", torture.draw.below(1 << 30).to_string());
        if torture.draw.below(3) == 0 {
            command.env("FAULTS_CLOCK", "7200");
        }
        let output = ended(command.spawn().unwrap());
        failed += u64::from(!output.status.success());
        torture.check();
        if output.status.success() || torture.draw.below(3) == 0 {
            torture.complete();
        }
        if done % 50 == 49 {
            eprintln!("{} runs with faults, {failed} of them failed, {} rounds", done + 1, torture.round);
        }
    }
    torture.complete();
    torture.compare(3 + many / 20);
    eprintln!("{many} runs with faults, {failed} of them failed, {} rounds, nothing lost", torture.round);
}
