//! The command `qapipe`.

mod args;
mod commands;
mod crash;
mod diagnostics;
mod display;
mod failure;
mod families;
mod grid;
mod human;
mod interrupt;
mod kinds;
mod printer;
mod project;
mod quantity;
mod settings;
mod torch;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use printer::Printer;

/// A pipeline is many small pieces: with the system's allocator, finding out that nothing is to be done is for the most part making and
/// freeing them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    crash::guard(run)
}

/// Reads the command line, does what it says, tells what went wrong.
fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let printer = Printer::new(&cli.global);
    match commands::run(cli, &printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(&printer),
    }
}

/// Prints help, the version, or what is wrong with the command line. A reader that has gone away does not matter.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}
