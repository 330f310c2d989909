//! The commands, a file each.

mod cache;
mod check;
mod completions;
mod env;
mod gc;
mod get;
mod graph;
mod init;
mod jobs;
mod kinds;
mod log;
mod logs;
mod plan;
mod results;
mod run;
mod schema;
mod session;
mod show;
mod transfer;
mod verify;
mod why;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::printer::Printer;
use session::Session;

/// Does what the command line says.
pub(crate) fn run(cli: Cli, printer: &Printer) -> Result<(), Failure> {
    let session = Session::new(*printer, cli.global.store);
    match cli.command {
        Command::Run(args) => run::run(args, &session),
        Command::Plan(args) => plan::run(args, &session),
        Command::Why(args) => why::run(args, &session),
        Command::Check(args) => check::run(&args, &session),
        Command::Kinds(args) => kinds::run(&args, &session),
        Command::Schema => schema::run(&session),
        Command::Results(args) => results::run(&args, &session),
        Command::Graph(args) => graph::run(&args, &session),
        Command::Log(args) => log::run(&args, &session),
        Command::Show(args) => show::run(&args, &session),
        Command::Logs(args) => logs::run(&args, &session),
        Command::Get(args) => get::run(args, &session),
        Command::Env => env::run(&session),
        Command::Cache(args) => cache::run(&args, &session),
        Command::Init(args) => init::run(&args, &session),
        Command::Completions(args) => completions::run(&args, &session),
    }
}
