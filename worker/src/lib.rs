//! The half of qapipe that links libtorch: it runs the torch-backed stages in processes of their own, so that the command starts fast and
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
pub mod warm;

pub use error::Error;

use std::io::{BufReader, Write};
use std::path::Path;
use std::process::ExitCode;

use qapipe_engine::StageError;
use qapipe_nn::bench::{self, BenchRow, BertBench, MambaBench, T5Adapt, T5Generate, T5Train};

/// What the worker can be asked to do.
const USAGE: &str = "\
usage: qapipe-worker [serve [--build ID]]
                                  runs stages: requests on standard input, JSON lines on standard output (what `qapipe` does);
                                  refuses where it is of another build than ID
       qapipe-worker env          prints what libtorch, CUDA and the devices are, as JSON
       qapipe-worker parity DIR   compares the models with the golden tensors in every folder under DIR
       qapipe-worker bench bert|t5|t5-generate|mamba [--lens FILE] [--device DEVICE]
                                  measures BERT-base, T5-base or the smallest Mamba with random weights and prints speed and memory as
                                  JSON; FILE is a JSON list of window lengths
       qapipe-worker --version";

/// The executable `qapipe-worker`. `build` names what it was built from.
pub fn main(build: &str) -> ExitCode {
    qapipe_nn::device::keep_pages();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["serve"] => serve_all(Ok(())),
        ["serve", "--build", wanted] => serve_all(same_build(wanted, build)),
        ["env"] => say(&environment::describe().to_string()),
        ["parity", folder] => parity(Path::new(folder)),
        ["bench", what, options @ ..] => bench_speed(what, options),
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

/// Serves the requests on standard input, unless there is a reason not to.
fn serve_all(ready: Result<(), StageError>) -> ExitCode {
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

/// Measures the speed of a model.
fn bench_speed(what: &str, options: &[&str]) -> ExitCode {
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
    let lines =
        measured(what, lengths, device).and_then(|rows| Ok(rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?));
    match lines {
        Ok(lines) => say(&lines.join("\n")),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The measurements of a name.
fn measured(what: &str, lengths: Option<&Path>, device: &str) -> qapipe_nn::Result<Vec<BenchRow>> {
    let place = qapipe_nn::device::resolve(device)?;
    let lengths = || bench::lengths(lengths);
    match what {
        "bert" => Ok(vec![BertBench::base(lengths()?, place).run()?]),
        "t5" => Ok(vec![T5Train::base(lengths()?, place).run()?]),
        "t5-lora" => Ok(T5Adapt { train: T5Train::base(lengths()?, place) }.run()?),
        "t5-generate" => Ok(vec![T5Generate::base(place).run()?]),
        "mamba" => MambaBench::small(place).run(),
        other => {
            Err(qapipe_nn::NnError::Input(format!("there is no measurement {other:?}; there are bert, t5, t5-lora, t5-generate and mamba")))
        }
    }
}

/// Prints a line; a reader that has gone away is no reason to fail loudly.
fn say(text: &str) -> ExitCode {
    if writeln!(std::io::stdout(), "{text}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
