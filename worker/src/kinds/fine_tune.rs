//! `fine-tune`: trains all of a model.

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::{Tuning, models::Stored};
use qapipe_stages::tables::write_table;

use crate::checkpoint::{self, Trained};
use crate::error::Error;
use crate::training::{Besides, Session};

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>) -> Result<(), StageError> {
    let session = Session::new(cx)?;
    if Stored::is_adapter(session.base()) {
        return Err(StageError::failed("the model is an adapter beside frozen weights").help("merge the two by an export stage first"));
    }
    let outcome = session.run(&Tuning::Whole, Besides::default())?;
    let (model, output) = (outcome.model.network(), cx.output("model")?);
    std::fs::create_dir(output).map_err(Error::io(output))?;
    model.save(output).map_err(Error::from)?;
    checkpoint::copy_tokenizer(session.base(), output)?;
    Trained::of(&outcome, model)?.write(output)?;
    write_table(cx.output("log")?, &outcome.summary.log).map_err(Error::from)?;
    Ok(())
}
