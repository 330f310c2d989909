//! `qapipe init`: a new project.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde_json::json;

use super::session::Session;
use crate::args::Init;
use crate::failure::Failure;
use crate::project::{PIPELINE, text};

/// The files of a new project.
const FILES: [(&str, &str); 2] =
    [(PIPELINE, include_str!("init/pipeline.toml")), (".gitignore", "# What qapipe can compute again.\n.qapipe/\n")];

/// The line of the pipeline that gets the name.
const UNNAMED: &str = "name = \"first\"";

pub(super) fn run(args: &Init, session: &Session) -> Result<(), Failure> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder).map_err(|error| Failure::io(folder, &error))?;
    let mut made = Vec::new();
    for (name, text) in FILES {
        let path = folder.join(name);
        match write_new(&path, &text.replace(UNNAMED, &format!("name = \"{}\"", name_of(folder)))) {
            Ok(()) => made.push(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && name != PIPELINE => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Failure::usage(format!("{} is there already", path.display()))
                    .help("`qapipe init DIR` starts a project in another folder"));
            }
            Err(error) => return Err(Failure::io(&path, &error)),
        }
    }
    if session.printer.json {
        return session.printer.json(&json!({ "made": made.iter().map(|path| text(path)).collect::<Vec<_>>() }));
    }
    session.printer.data(&made.iter().map(|path| format!("{}\n", path.display())).collect::<String>())?;
    let enter = if folder == Path::new(".") { String::new() } else { format!("cd {} && ", folder.display()) };
    session.printer.note(&format!("now: {enter}qapipe run"));
    Ok(())
}

/// A pipeline's name after its folder, so that projects with one store stay apart.
fn name_of(folder: &Path) -> String {
    let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let safe: String = name.chars().filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')).take(40).collect();
    let safe = safe.trim_start_matches('-');
    if safe.is_empty() { "first".to_owned() } else { safe.to_owned() }
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}
