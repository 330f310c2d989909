//! The last lines of a log, for error messages.

use std::collections::VecDeque;

/// Keeps the last lines that it is given.
#[derive(Default)]
pub(crate) struct Tail(VecDeque<String>);

impl Tail {
    const LINES: usize = 10;

    /// Characters of a line that are kept. The log has it whole.
    const WIDTH: usize = 500;

    pub(crate) fn push(&mut self, line: &str) {
        if self.0.len() == Self::LINES {
            self.0.pop_front();
        }
        self.0.push_back(cut(line));
    }

    /// The lines, each indented on a line of its own after the first; empty if there were none.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|line| format!("\n  | {line}")).collect()
    }
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(Tail::WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
