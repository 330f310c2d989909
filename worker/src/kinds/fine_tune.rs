//! `fine-tune`: trains all of a model.

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::Tuning;
use tch::Kind;

use crate::training::{Besides, Session};

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>) -> Result<(), StageError> {
    let (session, base) = (Session::new(cx)?, cx.input("model")?);
    let outcome = session.run(base, &Tuning::Whole, Besides::default())?;
    Ok(outcome.write(base, Kind::Float, Vec::new(), cx)?)
}
