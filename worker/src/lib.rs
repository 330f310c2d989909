//! The half of qapipe that links libtorch: it runs the torch-backed stages in a process of its own, so that the command starts fast and
//! an abort in libtorch fails one stage, not the run.

pub mod checkpoint;
mod environment;
mod error;
pub mod figures;
pub mod inference;
pub mod kinds;
pub mod precision;
pub mod serve;
pub mod training;

pub use error::Error;

use std::io::{BufReader, Write};
use std::path::Path;
use std::process::ExitCode;

use qapipe_engine::StageError;

/// What the worker can be asked to do.
const USAGE: &str = "\
usage: qapipe-worker [serve [--build ID]]
                                  runs one stage: a request on standard input, JSON lines on standard output (what `qapipe` does);
                                  refuses where it is of another build than ID
       qapipe-worker env          prints what libtorch, CUDA and the devices are, as JSON
       qapipe-worker parity DIR   compares the models with the golden tensors in every folder under DIR
       qapipe-worker bench bert [--lens FILE] [--device DEVICE]
                                  trains BERT-base with random weights for some steps and prints its speed and memory as JSON;
                                  FILE is a JSON list of window lengths
       qapipe-worker bench mamba [--device DEVICE]
                                  reads, trains and writes with a Mamba of 130 million random weights, and prints each as JSON
       qapipe-worker --version";

/// The executable `qapipe-worker`. `build` names what it was built from.
pub fn main(build: &str) -> ExitCode {
    qapipe_nn::device::keep_pages();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["serve"] => serve_once(Ok(())),
        ["serve", "--build", wanted] => serve_once(same_build(wanted, build)),
        ["env"] => say(&environment::describe().to_string()),
        ["parity", folder] => parity(Path::new(folder)),
        ["bench", "bert", options @ ..] => bench_bert(options),
        ["bench", "mamba"] => bench_mamba("auto"),
        ["bench", "mamba", "--device", device] => bench_mamba(device),
        ["--version" | "-V"] => say(concat!("qapipe-worker ", env!("CARGO_PKG_VERSION"))),
        ["--help" | "-h"] => say(USAGE),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Whether the command was built from the same sources.
fn same_build(wanted: &str, own: &str) -> Result<(), StageError> {
    if wanted == own {
        return Ok(());
    }
    let message = "qapipe-worker was built from other sources than qapipe";
    Err(StageError::environment(message).help("build both: cargo build --bins, or cargo install --path ."))
}

/// Serves the request on standard input, unless there is a reason not to.
fn serve_once(ready: Result<(), StageError>) -> ExitCode {
    let finished = serve::serve(BufReader::new(std::io::stdin()), std::io::stdout(), ready);
    if finished { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Compares every model under a folder with its golden tensors; exit 1 on a mismatch.
fn parity(folder: &Path) -> ExitCode {
    match qapipe_nn::parity::check_all(folder) {
        Ok(report) => {
            let shown = say(report.to_string().trim_end());
            if report.passed() { shown } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the training speed of BERT-base.
fn bench_bert(options: &[&str]) -> ExitCode {
    let (mut lengths, mut device) = (None, "auto");
    for pair in options.chunks(2) {
        match pair {
            ["--lens", file] => lengths = Some(Path::new(*file)),
            ["--device", name] => device = name,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let row = qapipe_nn::device::resolve(device).and_then(|device| qapipe_nn::bench::BertBench::base(lengths, device)?.run());
    say_rows(row.map(|row| vec![row]))
}

/// Measures the speed of Mamba.
fn bench_mamba(device: &str) -> ExitCode {
    say_rows(qapipe_nn::device::resolve(device).and_then(|device| qapipe_nn::bench::MambaBench::small(device).run()))
}

/// Prints rows as JSON lines, or the error.
fn say_rows<Row: serde::Serialize>(rows: qapipe_nn::Result<Vec<Row>>) -> ExitCode {
    let lines = rows.map_err(|error| error.to_string()).and_then(|rows| {
        let lines: Result<Vec<String>, _> = rows.iter().map(serde_json::to_string).collect();
        lines.map(|lines| lines.join("\n")).map_err(|error| error.to_string())
    });
    match lines {
        Ok(lines) => say(&lines),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line; a reader that has gone away is no reason to fail loudly.
fn say(text: &str) -> ExitCode {
    if writeln!(std::io::stdout(), "{text}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
