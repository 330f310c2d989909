//! `distil`: trains a smaller model to follow a larger one.

use std::path::{Path, PathBuf};

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::models::{Stored, keep_layers};
use qapipe_nn::{Matching, Tuning};
use qapipe_stages::tables::write_table;
use serde::Deserialize;

use crate::checkpoint::{self, Trained};
use crate::error::Error;
use crate::training::{Besides, Session, Words};

/// The parameters, as `qapipe_stages` declares them.
#[derive(Deserialize)]
struct Wanted {
    layers: Option<Vec<usize>>,
    decoder_layers: Option<Vec<usize>>,
    teacher_share: f64,
    temperature: f64,
    hidden: f64,
    attention: f64,
}

/// Where a student begins.
struct Student {
    folder: PathBuf,
    matching: Matching,
}

impl Wanted {
    /// The student: a model that is given, or the teacher with some of its layers.
    fn student(&self, teacher: &Path, cx: &StageCx<'_>) -> Result<Student, Error> {
        let Some(layers) = &self.layers else {
            let folder = cx.input("model")?.to_path_buf();
            if Stored::is_adapter(&folder) {
                let error = StageError::failed("the student is an adapter beside frozen weights");
                return Err(Error::Stage(error.help("merge the two by an export stage first")));
            }
            return Ok(Student { folder, matching: Matching::Even });
        };
        let folder = cx.request.scratch.join("student");
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let kept: Vec<Vec<usize>> = std::iter::once(layers).chain(&self.decoder_layers).cloned().collect();
        let kept = keep_layers(teacher, &kept, &folder)?;
        checkpoint::copy_tokenizer(teacher, &folder)?;
        Ok(Student { folder, matching: Matching::Kept(kept) })
    }
}

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    crate::precision::prepare(cx)?;
    let folder = cx.input("teacher")?;
    let student = wanted.student(folder, cx)?;
    let session = Session::from(cx, &student.folder)?;
    let Wanted { teacher_share: share, temperature, hidden, attention, .. } = wanted;
    let words = Words { share, temperature, hidden, attention, matching: student.matching };
    let teaching = Some(session.teacher(folder, &words)?);
    let outcome = session.run(&Tuning::Whole, Besides { teaching, ..Besides::default() })?;
    let (model, output) = (outcome.model.network(), cx.output("model")?);
    std::fs::create_dir(output).map_err(Error::io(output))?;
    model.save(output).map_err(Error::from)?;
    checkpoint::copy_tokenizer(session.base(), output)?;
    Trained::of(&outcome, model)?.write(output)?;
    write_table(cx.output("log")?, &outcome.summary.log).map_err(Error::from)?;
    Ok(())
}
