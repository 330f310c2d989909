//! Where the questions of a dataset stage come from.

use std::io::Read;
use std::path::PathBuf;

use qapipe_engine::{StageCx, StageError};

use super::Wanted;
use crate::error::Error;
use crate::examples::Part;
use crate::hub::{self, Hub, Sort};
use crate::squad_json::Questions;
use crate::{sample, squad_json, squad_parquet};

/// The questions of one file, and what it is called in messages.
pub(super) struct Loaded {
    pub(super) name: String,
    pub(super) questions: Questions,
}

/// Reads a part; nothing where the stage has none.
pub(super) fn part(cx: &StageCx<'_>, wanted: &Wanted, part: Part) -> Result<Option<Vec<Loaded>>, StageError> {
    let own = if part == Part::Train { wanted.train.as_deref() } else { wanted.dev.as_deref() };
    match (wanted.source.as_deref(), own) {
        (Some("sample"), _) => Ok(Some(vec![Loaded { name: "sample".to_owned(), questions: sample::questions(part) }])),
        (Some(source), _) => files(cx, "source", source, part)?.map(|files| read_all(cx, files)).transpose(),
        (None, Some(own)) => {
            let none = || {
                StageError::failed(format!("{own}: no {} files", part.name()))
                    .help(format!("files of this part are called {}", names(part)))
            };
            let files = files(cx, part.name(), own, part)?.ok_or_else(none)?;
            read_all(cx, files).map(Some)
        }
        (None, None) => Ok(None),
    }
}

/// The files of a part behind a value: the file itself, those of a folder, or those of a hub repository. Nothing where a folder or a
/// repository has none for this part.
fn files(cx: &StageCx<'_>, param: &str, value: &str, part: Part) -> Result<Option<Vec<(String, PathBuf)>>, StageError> {
    if value.starts_with("hub:") {
        let repository = Hub::from_env(cx.request.offline)?.repository(Sort::Dataset, value)?;
        let chosen = choose(repository.files(), part, value)?;
        let get = |file: &String| -> Result<(String, PathBuf), StageError> {
            cx.checkpoint()?;
            Ok((format!("{value}: {file}"), repository.get(file, cx.reporter)?))
        };
        let files = chosen.iter().map(get).collect::<Result<Vec<_>, _>>()?;
        return Ok((!files.is_empty()).then_some(files));
    }
    let path = cx.input(param)?;
    if !path.is_dir() && param == "source" {
        let error = StageError::failed(format!("{value}: one file cannot be all parts of a data set"));
        return Err(error.help("give it as `train` or as `dev`; `source` is a folder, `hub:REPO` or `sample`"));
    }
    if !path.is_dir() {
        return Ok(Some(vec![(value.to_owned(), path.to_owned())]));
    }
    let mut listed = Vec::new();
    hub::list(path, "", &mut listed).map_err(|e| StageError::io(path, &e))?;
    let chosen = choose(&listed, part, value)?;
    let files: Vec<_> = chosen.into_iter().map(|file| (format!("{value}/{file}"), path.join(&file))).collect();
    Ok((!files.is_empty()).then_some(files))
}

fn names(part: Part) -> &'static str {
    match part {
        Part::Train => "train*.parquet or train*.json[.gz]",
        Part::Dev => "validation* or dev*, .parquet or .json[.gz]",
    }
}

/// The files of a part among those of a folder: by the beginnings of their names, Parquet before JSON.
fn choose(files: &[String], part: Part, value: &str) -> Result<Vec<String>, Error> {
    let starts: &[&str] = if part == Part::Train { &["train"] } else { &["validation", "dev"] };
    let base = |file: &str| file.rsplit('/').next().unwrap_or(file).to_owned();
    let of = |ends: &[&str]| -> Vec<String> {
        let fits = |file: &&String| starts.iter().any(|start| base(file).starts_with(start)) && ends.iter().any(|end| file.ends_with(end));
        let mut found: Vec<String> = files.iter().filter(fits).cloned().collect();
        found.sort();
        found
    };
    let parquet = of(&[".parquet"]);
    let chosen = if parquet.is_empty() { of(&[".json", ".json.gz"]) } else { parquet };
    let folder = |file: &str| file.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    if let Some(other) = chosen.iter().find(|file| folder(file) != folder(&chosen[0])) {
        let message = format!("{value}: {} files in two folders: {} and {other}", part.name(), chosen[0]);
        return Err(Error::data(message).help("give the file or the folder that is meant as `train` and `dev`"));
    }
    Ok(chosen)
}

fn read_all(cx: &StageCx<'_>, files: Vec<(String, PathBuf)>) -> Result<Vec<Loaded>, StageError> {
    let mut loaded = Vec::new();
    for (name, path) in files {
        cx.checkpoint()?;
        let mut magic = Vec::new();
        let file = std::fs::File::open(&path).map_err(|e| StageError::io(&path, &e))?;
        file.take(4).read_to_end(&mut magic).map_err(|e| StageError::io(&path, &e))?;
        let questions = match magic.as_slice() {
            b"PAR1" => squad_parquet::read(&path)?,
            _ => squad_json::parse(&squad_json::read_text(&path)?, &name)?,
        };
        loaded.push(Loaded { name, questions });
    }
    Ok(loaded)
}
