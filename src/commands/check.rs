//! `qapipe check`: whether pipelines are sound.

use std::path::{Path, PathBuf};

use qapipe_engine::{Diagnostics, LoadError, Pipeline};
use serde_json::{Value, json};

use super::session::Session;
use crate::args;
use crate::diagnostics;
use crate::failure::{Exit, Failure};
use crate::human::things;
use crate::kinds::kinds;
use crate::printer::{GOOD, Printer, styled};
use crate::project;

pub(super) fn run(args: &args::Check, session: &Session) -> Result<(), Failure> {
    let given = if args.pipelines.is_empty() { vec![PathBuf::from(project::PIPELINE)] } else { args.pipelines.clone() };
    let mut answers = Vec::new();
    let mut sound = true;
    for file in given {
        let file = project::pipeline_file(Some(&file));
        let found = checked(&file, args)?;
        sound &= found.is_ok();
        answers.push(to_json(&file, &found));
        if !session.printer.json {
            tell(&file, &found, &session.printer)?;
        }
    }
    if session.printer.json {
        session.printer.json(&json!({ "ok": sound, "files": answers }))?;
    }
    if sound { Ok(()) } else { Err(Failure::told(Exit::Usage)) }
}

/// The pipeline, or all that is wrong with it. A file that cannot be read at all ends the command.
fn checked(file: &Path, args: &args::Check) -> Result<Result<Pipeline, Diagnostics>, Failure> {
    match Pipeline::load(file, &kinds(), &args.changes.overrides()) {
        Ok(pipeline) => Ok(pipeline.check_files().map(|()| pipeline)),
        Err(LoadError::Invalid(errors)) => Ok(Err(errors)),
        Err(error) => Err(error.into()),
    }
}

fn tell(file: &Path, found: &Result<Pipeline, Diagnostics>, printer: &Printer) -> Result<(), Failure> {
    match found {
        Ok(_) if printer.quiet => Ok(()),
        Ok(pipeline) => {
            let stages = things(pipeline.stages.len(), "stage");
            printer.data(&format!("{}  {}: pipeline {}, {stages}\n", styled(GOOD, "ok"), file.display(), pipeline.name))
        }
        Err(errors) => {
            printer.raw_error(&diagnostics::render(errors, printer));
            Ok(())
        }
    }
}

fn to_json(file: &Path, found: &Result<Pipeline, Diagnostics>) -> Value {
    match found {
        Ok(pipeline) => {
            json!({ "file": project::text(file), "ok": true, "pipeline": pipeline.name, "stages": pipeline.stages.len(), "errors": [] })
        }
        Err(errors) => json!({ "file": project::text(file), "ok": false, "errors": diagnostics::to_json(errors) }),
    }
}
