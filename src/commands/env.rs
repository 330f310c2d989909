//! `qapipe env`: what torch, CUDA and the machine are.

use serde_json::{Map, Value, json};

use super::session::Session;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::human::{bytes, plain};
use crate::printer::{NAME, PLAIN};
use crate::project;
use crate::torch;

pub(super) fn run(session: &Session) -> Result<(), Failure> {
    let all = json!({ "qapipe": program(), "machine": machine(), "worker": worker() });
    if session.printer.json {
        return session.printer.json(&all);
    }
    let mut grid = Grid::new(&["", ""]);
    if let Value::Object(sections) = &all {
        sections.iter().for_each(|(name, value)| lines(&mut grid, name, value));
    }
    session.printer.data(&grid.to_text(""))
}

/// One line for each figure, named by its path.
fn lines(grid: &mut Grid, name: &str, value: &Value) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(field, value)| lines(grid, &format!("{name}.{field}"), value)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(at, item)| lines(grid, &format!("{name}.{at}"), item));
        }
        value => grid.row([(name.to_owned(), NAME), (text(name, value), PLAIN)]),
    }
}

fn text(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if name.ends_with("bytes") => number.as_f64().map_or_else(|| number.to_string(), bytes),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(|| number.to_string(), plain),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(|item| text("", item)).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn program() -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "executable": std::env::current_exe().ok(),
        "features": if cfg!(feature = "report") { vec!["report"] } else { Vec::new() },
    })
}

/// What Linux says about the machine; elsewhere most of it is unknown.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let field = |text: Option<String>, name: &str| {
        let text = text?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = field(read("/proc/meminfo"), "MemTotal").and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    json!({
        "system": std::env::consts::OS,
        "kernel": read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        "processor": field(read("/proc/cpuinfo"), "model name"),
        "architecture": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().ok().map(usize::from),
        "memory_bytes": memory.map(|kibibytes| kibibytes * 1024),
        "nvidia_driver": read("/proc/driver/nvidia/version").and_then(|text| text.lines().next().map(str::to_owned)),
    })
}

/// What the worker says of libtorch and CUDA, or why it says nothing.
fn worker() -> Value {
    let Some(path) = project::worker() else {
        return json!({ "found": false, "problem": "there is no qapipe-worker beside qapipe; QAPIPE_WORKER may name one" });
    };
    let mut fields = Map::new();
    fields.insert("found".to_owned(), json!(true));
    fields.insert("executable".to_owned(), json!(project::text(&path)));
    match torch::ask(&path) {
        Ok(Value::Object(said)) => fields.extend(said),
        Ok(other) => drop(fields.insert("said".to_owned(), other)),
        Err(problem) => drop(fields.insert("problem".to_owned(), json!(problem))),
    }
    Value::Object(fields)
}
