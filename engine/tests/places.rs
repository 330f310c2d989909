//! Outputs in the user's folder: what is put there, what is put back, and what of the user's stays as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/project.rs"]
mod project;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::AtomicBool;

use project::{Project, Run};
use qapipe_cache::Store;
use qapipe_engine::{Command, Engine, ErrorClass, Kinds, Options, Pipeline, StageKind};

const KINDS: &[&dyn StageKind] = &[&Command];

/// One stage `a` that writes a file, put at `place`.
fn file_at(place: &str) -> Project {
    let text = format!(
        "[vars]\nword = \"1\"\n[stages.a]\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"echo ${{vars.word}} > {{out.y}}\"]\noutputs = {{ y = \"{place}\" }}\n"
    );
    Project::new(Kinds::new(KINDS), &text)
}

/// The same with a folder, which holds a file `f`.
fn folder_at(place: &str) -> Project {
    let project = file_at(place);
    project.edit("echo", "mkdir {out.y}; echo");
    project.edit("> {out.y}\"", "> {out.y}/f\"");
    project
}

fn failure(run: &Run) -> (ErrorClass, String, Option<String>) {
    let (_, error) = run.outcome.failures().next().unwrap_or_else(|| panic!("{:?}", run.events));
    (error.class, error.message.clone(), error.help.clone())
}

fn assert_occupied(run: &Run, place: &str) {
    let (class, message, help) = failure(run);
    assert_eq!(class, ErrorClass::Failed);
    assert!(message.ends_with(&format!("/{place} is there already and was not put there by qapipe")), "{message}");
    assert_eq!(help.as_deref(), Some("move it away, or give the output another path"));
}

/// What is kept in the store's folder `replaced`.
fn kept(project: &Project) -> Vec<std::path::PathBuf> {
    fs::read_dir(project.path(".qapipe/replaced")).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_file_of_the_users_is_not_replaced() {
    let project = file_at("data.csv");
    project.write("data.csv", "mine\n");
    let run = project.run();
    assert_eq!(run.ran(), ["a"]);
    assert_occupied(&run, "data.csv");
    assert_eq!((project.read("data.csv").as_str(), project.store().usage().records), ("mine\n", 1));
    let again = project.run();
    assert_eq!(again.ran(), [""; 0], "the result is there");
    assert_occupied(&again, "data.csv");
    fs::rename(project.path("data.csv"), project.path("old.csv")).unwrap();
    assert_eq!(project.run().events, ["cached a", "restored a: data.csv"]);
    assert_eq!((project.read("data.csv"), project.read("old.csv")), ("1\n".into(), "mine\n".into()));
}

#[test]
fn a_folder_of_the_users_is_found_before_the_stage_runs() {
    let project = folder_at("data");
    project.write("data/thesis.txt", "ten years\n");
    let run = project.run();
    assert_eq!(run.ran(), [""; 0]);
    assert_occupied(&run, "data");
    assert_eq!(project.read("data/thesis.txt"), "ten years\n");
    let linked = file_at("data");
    linked.write("elsewhere", "mine\n");
    symlink("elsewhere", linked.path("data")).unwrap();
    let run = linked.run();
    assert_eq!(run.ran(), [""; 0]);
    assert_occupied(&run, "data");
    assert_eq!(linked.read("elsewhere"), "mine\n");
}

#[test]
fn a_folder_that_comes_while_the_stage_runs_is_not_replaced_either() {
    let project = folder_at("data");
    project.edit("mkdir", "mkdir data; echo mine > data/g; mkdir");
    let run = project.run();
    assert_occupied(&run, "data");
    assert_eq!((run.ran(), project.read("data/g")), (vec!["a"], "mine\n".into()));
}

#[test]
fn what_equals_the_result_is_left_alone() {
    let project = file_at("out/y");
    project.write("out/y", "1\n");
    assert_eq!(project.run().events, ["started a: new stage", "finished a"]);
    assert!(!project.path(".qapipe/placed").exists());
    // It is what the stage gave last, so that what it gives now may take its place.
    project.edit("word = \"1\"", "word = \"2\"");
    assert!(project.run().outcome.failures().next().is_none());
    assert_eq!((project.read("out/y").as_str(), kept(&project).len()), ("2\n", 0));
}

#[test]
fn what_was_put_there_is_put_back_and_what_was_made_of_it_is_kept() {
    for project in [file_at("out/y"), folder_at("out/y")] {
        project.run();
        let file = if project.path("out/y").is_dir() { "out/y/f" } else { "out/y" };
        project.edit("word = \"1\"", "word = \"2\"");
        let run = project.run();
        assert!(run.outcome.failures().next().is_none() && kept(&project).is_empty(), "a result replaces a result: {:?}", run.events);
        project.write(file, "edited for hours\n");
        assert_eq!(project.run().events, ["cached a", "restored a: out/y", "kept a: out/y"]);
        assert_eq!(project.read(file), "2\n");
        let kept = kept(&project);
        let text = fs::read_to_string(if kept[0].is_dir() { kept[0].join("f") } else { kept[0].clone() });
        assert_eq!((kept.len(), text.unwrap().as_str()), (1, "edited for hours\n"));
        // When the stage runs, it is said too.
        project.write(file, "again\n");
        project.edit("word = \"2\"", "word = \"3\"");
        let run = project.run();
        assert!(run.has("kept a: out/y") && !run.has("restored a: out/y"), "{:?}", run.events);
    }
}

#[test]
fn a_file_where_a_folder_was_put_is_kept() {
    let project = folder_at("out/y");
    project.run();
    fs::remove_dir_all(project.path("out/y")).unwrap();
    project.write("out/y", "mine\n");
    assert!(project.run().has("kept a: out/y"));
    assert_eq!(fs::read_to_string(&kept(&project)[0]).unwrap(), "mine\n");
}

#[test]
fn a_place_is_known_by_any_name_of_its_folder() {
    let project = file_at("out/y");
    project.run();
    let link = tempfile::tempdir().unwrap();
    symlink(project.folder.path(), link.path().join("p")).unwrap();
    project.write("out/y", "edited\n");
    let pipeline = Pipeline::load(&link.path().join("p/pipeline.toml"), &project.kinds, &[]).unwrap();
    let engine = Engine::new(Store::open(&link.path().join("p/.qapipe")).unwrap(), pipeline, Options::default()).unwrap();
    assert!(engine.run(&(), &AtomicBool::new(false)).unwrap().failures().next().is_none());
    assert_eq!((project.read("out/y").as_str(), kept(&project).len()), ("1\n", 1));
}

/// Whether the pipeline can be planned over a store.
fn planned(project: &Project, store: &str) -> Result<(), String> {
    let pipeline = Pipeline::load(&project.path("pipeline.toml"), &project.kinds, &[]).unwrap();
    let engine = Engine::new(Store::open(&project.path(store)).unwrap(), pipeline, Options::default()).unwrap();
    engine.plan().map(drop).map_err(|error| error.to_string())
}

/// What keeps an engine from being made over a store.
fn refusal(project: &Project, store: &str) -> Option<String> {
    let pipeline = Pipeline::load(&project.path("pipeline.toml"), &project.kinds, &[]).unwrap();
    let engine = Engine::new(Store::open(&project.path(store)).unwrap(), pipeline, Options::default());
    engine.err().map(|error| error.to_string())
}

#[test]
fn a_place_in_the_store_or_around_it_is_refused_before_anything_runs() {
    for (place, store) in [("results", "results"), ("results", "results/store"), ("results/objects/x", "results"), ("x/y", "x/y/z")] {
        let told = refusal(&file_at(place), store).unwrap_or_else(|| panic!("{place}, {store}"));
        assert!(told.starts_with(&format!("a: the output `{place}` meets the store /")), "{told}");
    }
    assert_eq!(refusal(&file_at("results.csv"), "results"), None);
    let linked = file_at("link/deep/y");
    fs::create_dir_all(linked.path("elsewhere/store")).unwrap();
    symlink("elsewhere/store/objects", linked.path("link")).unwrap();
    assert!(refusal(&linked, "elsewhere/store").is_some(), "through a link into the store");
    assert_eq!(refusal(&linked, "elsewhere/other"), None);
    // The store may go through a link as well.
    let project = file_at("data");
    fs::create_dir(project.path("disk")).unwrap();
    symlink("disk", project.path("data")).unwrap();
    assert!(refusal(&project, "data/store").is_some());
}

#[test]
fn an_input_that_holds_the_store_is_refused() {
    let project = file_at("out/y");
    project.edit("outputs = { y = \"out/y\" }", "inputs = { x = \".\" }\noutputs = [\"y\"]");
    let told = planned(&project, ".qapipe").unwrap_err();
    assert!(
        told.starts_with("a: ")
            && told.ends_with("/.qapipe is the store, which changes with every run: a folder that holds it cannot be an input"),
        "{told}"
    );
    let run = project.run();
    assert_eq!(run.ran(), [""; 0]);
    assert_eq!(failure(&run).2.as_deref(), Some("name what the stage reads in that folder, or put the store elsewhere with --store"));
    fs::rename(project.path(".qapipe"), project.path("renamed")).unwrap();
    assert!(planned(&project, "renamed").is_err());
    let elsewhere = tempfile::tempdir().unwrap();
    planned(&project, elsewhere.path().join("store").to_str().unwrap()).unwrap();
    fs::create_dir(project.path("sub")).unwrap();
    project.edit("x = \".\"", "x = \"sub\"");
    planned(&project, "renamed").unwrap();
    symlink("../renamed", project.path("sub/link")).unwrap();
    assert!(planned(&project, "renamed").is_err(), "through a link");
}
