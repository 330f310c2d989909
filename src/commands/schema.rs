//! `qapipe schema`: the JSON schema of a pipeline file.

use super::session::Session;
use crate::failure::Failure;
use crate::kinds::kinds;

/// The schema is JSON in any case and has its own way to say which version it is.
pub(super) fn run(session: &Session) -> Result<(), Failure> {
    let schema = qapipe_engine::schema(&kinds());
    session.printer.data(&format!("{schema:#}\n"))
}
