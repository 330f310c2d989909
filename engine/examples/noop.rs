//! Runs a pipeline of `command` stages through the engine alone: `noop PIPELINE` (for timing the engine without the command line).

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use qapipe_cache::Store;
use qapipe_engine::{Command, Engine, Kinds, Options, Pipeline, StageKind, StageState};

const KINDS: &[&dyn StageKind] = &[&Command];

fn main() -> ExitCode {
    match run() {
        Ok(ran) => {
            println!("{ran} ran");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize, Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).ok_or("usage: noop PIPELINE")?;
    let pipeline = Pipeline::load(std::path::Path::new(&file), &Kinds::new(KINDS), &[])?;
    pipeline.check_files()?;
    let store = Store::open(&pipeline.folder.join(".qapipe"))?;
    let outcome = Engine::new(store, pipeline, Options::default())?.run(&(), &AtomicBool::new(false))?;
    Ok(outcome.count(|state| *state == StageState::Ran))
}
