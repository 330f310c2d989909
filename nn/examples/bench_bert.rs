//! Training speed of BERT-base with the lengths of real text; prints one JSON line.
//!
//! usage: bench_bert [LENS.json] [--device auto|cpu|cuda:N] [--tiny]

use std::path::PathBuf;
use std::process::ExitCode;

use qapipe_nn::bench::BertBench;
use qapipe_nn::{NnError, device};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut words: impl Iterator<Item = String>) -> Result<String, NnError> {
    let (mut lengths, mut name, mut tiny) = (None, "auto".to_owned(), false);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--tiny" => tiny = true,
            "--device" => name = words.next().unwrap_or_default(),
            _ => lengths = Some(PathBuf::from(word)),
        }
    }
    let bench = BertBench::base(lengths.as_deref(), device::resolve(&name)?)?;
    let row = if tiny { bench.tiny().run()? } else { bench.run()? };
    Ok(serde_json::to_string(&row)?)
}
