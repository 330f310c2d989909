//! `qapipe completions`: completions for a shell.

use clap::CommandFactory;

use super::session::Session;
use crate::args::{Cli, Completions};
use crate::failure::Failure;

pub(super) fn run(args: &Completions, session: &Session) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "qapipe", &mut script);
    session.printer.bytes(&script)
}
