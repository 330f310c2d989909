//! Lines of a stream that comes piece by piece.

/// A line longer than this is cut in pieces.
const LONGEST: usize = 1 << 20;

/// What has come of a line that has not ended.
#[derive(Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// The last line ended with a carriage return.
    returned: bool,
}

impl Lines {
    /// Calls `line` with each line that ends in a piece. A carriage return ends a line too: so a progress bar is seen while it moves. Bytes that
    /// are no UTF-8 are replaced.
    pub(crate) fn push(&mut self, mut piece: &[u8], mut line: impl FnMut(&str)) {
        while !piece.is_empty() {
            let end = piece.iter().take(LONGEST - self.bytes.len()).position(|byte| matches!(byte, b'\n' | b'\r'));
            let length = end.unwrap_or_else(|| piece.len().min(LONGEST - self.bytes.len()));
            self.bytes.extend_from_slice(&piece[..length]);
            let ended_by = end.map(|end| piece[end]);
            piece = &piece[length + usize::from(end.is_some())..];
            let second_half = self.returned && ended_by == Some(b'\n') && self.bytes.is_empty();
            if (end.is_some() && !second_half) || self.bytes.len() >= LONGEST {
                line(&String::from_utf8_lossy(&self.bytes));
                self.bytes.clear();
            }
            self.returned = ended_by == Some(b'\r');
        }
    }

    /// The stream has ended: calls `line` with what has no end.
    pub(crate) fn end(&mut self, line: impl FnOnce(&str)) {
        if !self.bytes.is_empty() {
            line(&String::from_utf8_lossy(&self.bytes));
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Lines};

    fn lines(bytes: &[u8], pieces: usize) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        bytes.chunks(pieces).for_each(|piece| lines.push(piece, |line| found.push(line.to_owned())));
        lines.end(|line| found.push(line.to_owned()));
        found
    }

    #[test]
    fn every_sort_of_line_end() {
        for pieces in [1, 2, 3, 100] {
            assert_eq!(lines(b"a\n\nb\r\nc\r 10%\r 20%\nlast", pieces), ["a", "", "b", "c", " 10%", " 20%", "last"]);
            assert_eq!(lines(b"", pieces), [""; 0]);
            assert_eq!(lines(b"\xff\n", pieces), ["\u{fffd}"]);
        }
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let long = vec![b'x'; 3 * LONGEST + 7];
        let found = lines(&long, 10_000);
        assert!(found.iter().all(|line| line.len() <= LONGEST));
        assert_eq!(found.concat().len(), long.len());
    }
}
