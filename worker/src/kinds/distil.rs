//! `distil`: trains a smaller model to follow a larger one.

use std::path::{Path, PathBuf};

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::models::keep_layers;
use qapipe_nn::{Matching, Tuning};
use serde::Deserialize;
use tch::Kind;

use crate::checkpoint;
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
            return Ok(Student { folder: cx.input("model")?.to_path_buf(), matching: Matching::Even });
        };
        let folder = cx.scratch()?.join("student");
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
    let (session, folder) = (Session::new(cx)?, cx.input("teacher")?);
    let student = wanted.student(folder, cx)?;
    let Wanted { teacher_share: share, temperature, hidden, attention, .. } = wanted;
    let words = Words { share, temperature, hidden, attention, matching: student.matching };
    let teaching = Some(session.teacher(folder, &words)?);
    let outcome = session.run(&student.folder, &Tuning::Whole, Besides { teaching, ..Besides::default() })?;
    Ok(outcome.write(&student.folder, Kind::Float, Vec::new(), cx)?)
}
