//! The crate graph: who may know whom, who alone uses a heavy library, and how much there is to build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// More packages than this are not brought in without a thought.
const MOST_PACKAGES: usize = 570;

/// The crates that each crate of the house may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("qapipe-cache", &[]),
    ("qapipe-engine", &["qapipe-cache"]),
    ("qapipe-fuzz", &[]),
    ("qapipe-nn", &[]),
    ("qapipe-remote", &["qapipe-cache"]),
    ("qapipe-report", &[]),
    ("qapipe-stages", &["qapipe-cache", "qapipe-engine"]),
    ("qapipe-worker", &["qapipe-cache", "qapipe-engine", "qapipe-nn", "qapipe-stages"]),
    // nn only for what its build script says: where libtorch is.
    ("qapipe", &["qapipe-cache", "qapipe-engine", "qapipe-nn", "qapipe-remote", "qapipe-report", "qapipe-stages", "qapipe-worker"]),
];

/// Libraries, and the only crates of the house that may use them.
const ONLY_USERS: &[(&str, &[&str])] = &[
    ("polars", &["qapipe-report"]),
    ("tch", &["qapipe-nn", "qapipe-worker"]),
    ("petgraph", &["qapipe-engine"]),
    ("object_store", &["qapipe-remote"]),
    ("tokio", &["qapipe-remote"]),
    // The engine for pipelines, the command for qapipe.toml.
    ("toml", &["qapipe-engine", "qapipe"]),
    ("blake3", &["qapipe-cache"]),
    ("parquet", &["qapipe-stages"]),
    ("ureq", &["qapipe-stages"]),
    ("clap", &["qapipe"]),
    ("miette", &["qapipe"]),
    ("indicatif", &["qapipe"]),
];

/// What `cargo metadata` says. A library that reads it would turn features of others on, and everything would be built a second time
/// for the tests.
#[derive(Deserialize)]
struct House {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

fn house() -> House {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut cargo = std::process::Command::new(env!("CARGO"));
    let said = cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest]).output().unwrap();
    serde_json::from_slice(&said.stdout).unwrap()
}

/// What each crate of the house uses, tests aside.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let uses = |package: &Package| {
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        (package.name.clone(), normal.map(|dependency| dependency.name.clone()).collect())
    };
    house().packages.iter().map(uses).collect()
}

#[test]
fn nothing_points_back() {
    let uses = uses();
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    assert_eq!(uses.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "a crate of the house has no rule");
    for (name, allowed) in MAY_USE {
        let used = uses[*name].iter().filter(|used| known.contains(used.as_str()));
        let unexpected: Vec<&String> = used.filter(|used| !allowed.contains(&used.as_str())).collect();
        assert!(unexpected.is_empty(), "{name} may not use {unexpected:?}");
    }
}

#[test]
fn heavy_libraries_stay_where_they_belong() {
    for (library, allowed) in ONLY_USERS {
        let users: Vec<String> = uses().into_iter().filter(|(_, used)| used.contains(*library)).map(|(name, _)| name).collect();
        assert!(users.iter().all(|user| allowed.contains(&user.as_str())), "{library} is used by {users:?}");
    }
}

#[test]
fn versions_and_lints_are_in_one_place() {
    for package in &house().packages {
        let text = std::fs::read_to_string(&package.manifest_path).unwrap();
        let table = |name: &str| text.contains(&format!("[{name}]\nworkspace = true"));
        assert!(table("lints"), "{} does not take the lints of the workspace", package.name);
        for line in text.lines().skip_while(|line| *line != "[dependencies]").skip(1).take_while(|line| !line.starts_with('[')) {
            assert!(line.is_empty() || line.starts_with('#') || line.contains("workspace = true"), "{}: {line}", package.name);
        }
    }
}

#[test]
fn there_is_a_bound_to_what_is_built() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let packages = lock.matches("[[package]]").count();
    assert!(packages <= MOST_PACKAGES, "{packages} packages in Cargo.lock, at most {MOST_PACKAGES} were meant to be");
}

/// The command must start in milliseconds, and libtorch alone takes 300 of them.
#[cfg(target_os = "linux")]
#[test]
fn the_command_does_not_load_libtorch() {
    let Ok(listed) = std::process::Command::new("ldd").arg(env!("CARGO_BIN_EXE_qapipe")).output() else { return };
    let libraries = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!libraries.contains("torch") && !libraries.contains("cuda"), "{libraries}");
}

/// `make test` after `make demo` builds no library again: the tests turn on no feature of what the command is built from.
#[test]
fn tests_build_no_library_anew() {
    let tree = |args: &[&str]| -> BTreeSet<String> {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo
            .args(["tree", "--locked", "--offline", "--prefix", "none", "-f", "{p}|{f}"])
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let said = cargo.output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    };
    let package = |line: &str| line.split('|').next().unwrap().to_owned();
    let with_tests = tree(&["--workspace", "-e", "normal,build,dev"]);
    let command = tree(&["-p", "qapipe", "-e", "normal,build"]);
    let other: Vec<String> = command.iter().filter(|line| !with_tests.contains(*line)).map(|line| package(line)).collect();
    assert!(other.is_empty(), "the tests change the features of {other:?}");
}
