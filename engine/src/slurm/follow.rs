//! The events of a job, as they come.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::event::Event;

/// Reads a growing file of events, a line each. It is opened anew every time: over NFS that is what brings what is new.
#[derive(Debug)]
pub(crate) struct Follow {
    path: PathBuf,
    read: u64,
}

impl Follow {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// What has come since the last time. A line that has no end yet comes the next time.
    pub(crate) fn news(&mut self) -> Vec<Event> {
        let mut bytes = Vec::new();
        let more = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)
        });
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if more.is_err() || whole == 0 {
            return Vec::new();
        }
        self.read += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn half_a_line_waits_for_its_other_half() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0-0.jsonl");
        let mut follow = Follow::new(path.clone());
        assert!(follow.news().is_empty(), "not there yet");
        let line = |stage: &str| serde_json::to_string(&Event::Log { stage: stage.to_owned(), line: "x".to_owned() }).unwrap();
        let (first, second) = (line("a"), line("b"));
        let mut file = File::create(&path).unwrap();
        write!(file, "{first}\n{}", &second[..9]).unwrap();
        assert_eq!(follow.news().len(), 1);
        assert!(follow.news().is_empty());
        writeln!(file, "{}", &second[9..]).unwrap();
        assert_eq!(follow.news(), [Event::Log { stage: "b".to_owned(), line: "x".to_owned() }]);
    }
}
