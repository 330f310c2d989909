//! Every pipeline that comes with qapipe: sound, named like its file, and opening with what it does and how to run it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use qapipe_engine::{Kinds, Pipeline};
use qapipe_stages::KINDS;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

#[test]
fn each_is_sound_and_says_what_it_is() {
    let files = files();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let pipeline = Pipeline::load(&file, &Kinds::new(KINDS), &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Some(pipeline.name.as_str()), file.file_stem().unwrap().to_str());
        let text = std::fs::read_to_string(&file).unwrap();
        let head = text.lines().take_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let command = format!("qapipe run pipelines/{}.toml", pipeline.name);
        assert!(head.contains(&command), "{}: no `{command}` at its head", file.display());
        assert!(head.contains("eeds "), "{}: its head does not say what it needs", file.display());
    }
}
