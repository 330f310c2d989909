//! Compares the models with the golden tensors in every folder under a folder; exit 1 on a mismatch, or where nothing was compared.
//!
//! usage: parity DIR

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("usage: parity DIR");
        return ExitCode::from(2);
    };
    match qapipe_nn::parity::check_all(&folder) {
        Ok(report) => {
            print!("{report}");
            if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
