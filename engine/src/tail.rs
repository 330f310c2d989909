//! The last lines of a log, for error messages.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Keeps the last lines that it is given.
#[derive(Default)]
pub(crate) struct Tail(Mutex<VecDeque<String>>);

impl Tail {
    const LINES: usize = 10;

    /// Characters of a line that are kept. The log has it whole.
    const WIDTH: usize = 500;

    pub(crate) fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lines.len() == Self::LINES {
            lines.pop_front();
        }
        lines.push_back(cut(line));
    }

    /// The lines, each indented on a line of its own after the first; empty if there were none.
    pub(crate) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.iter().map(|line| format!("\n  | {line}")).collect()
    }
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(Tail::WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
