//! Small results that are worth keeping one by one: the answer to one question, whatever becomes of the stage that asked.
//!
//! A folder of files that only grow. Every process writes one of its own, so that none waits for another; a line that was cut off by a crash
//! is passed over. Losing the folder costs time, nothing else.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::digest::Digest;
use crate::error::CacheError;
use crate::stale::anew;
use crate::used::{read, touch};

/// Rows under one folder, by their keys.
#[derive(Debug)]
pub struct Rows {
    folder: PathBuf,
    known: HashMap<Digest, String>,
    file: Option<File>,
}

/// Digits of the check that every line carries.
const CHECK: usize = 16;

impl Rows {
    /// Reads all rows of a folder; none where it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(folder: &Path) -> Result<Self, CacheError> {
        let mut known = HashMap::new();
        let listed = match fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            other => Some(other.map_err(CacheError::io(folder))?),
        };
        for entry in listed.into_iter().flatten() {
            let path = entry.map_err(CacheError::io(folder))?.path();
            let (bytes, metadata) = anew(|| read(&path)).map_err(CacheError::io(&path))?;
            touch(&path, &metadata);
            known.extend(bytes.split(|&byte| byte == b'\n').filter_map(parse));
        }
        Ok(Self { folder: folder.to_path_buf(), known, file: None })
    }

    /// The row of a key.
    #[must_use]
    pub fn get(&self, key: &Digest) -> Option<&str> {
        self.known.get(key).map(String::as_str)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Keeps rows: they outlive this process when this returns, and the machine after [`Rows::sync`]. A value is one line.
    ///
    /// # Errors
    /// What the file system says.
    pub fn put(&mut self, rows: &[(Digest, String)]) -> Result<(), CacheError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for (key, value) in rows {
            text.extend([key.to_string().as_str(), " ", &check(key, value), " ", value, "\n"]);
        }
        let folder = self.folder.clone();
        let file = self.file()?;
        file.write_all(text.as_bytes()).map_err(CacheError::io(&folder))?;
        self.known.extend(rows.iter().cloned());
        Ok(())
    }

    /// Makes sure that the rows that were kept are on the disk.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> Result<(), CacheError> {
        self.file.as_ref().map_or(Ok(()), File::sync_data).map_err(CacheError::io(&self.folder))
    }

    /// This process's own file.
    fn file(&mut self) -> Result<&mut File, CacheError> {
        if self.file.is_none() {
            fs::create_dir_all(&self.folder).map_err(CacheError::io(&self.folder))?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
            let path = self.folder.join(format!("{now:x}-{:x}.txt", std::process::id()));
            self.file = Some(File::create_new(&path).map_err(CacheError::io(&path))?);
        }
        let none = || CacheError::io(&self.folder)(std::io::Error::from(std::io::ErrorKind::NotFound));
        self.file.as_mut().ok_or_else(none)
    }
}

/// A line's row, if it is whole.
fn parse(line: &[u8]) -> Option<(Digest, String)> {
    let mut parts = std::str::from_utf8(line).ok()?.splitn(3, ' ');
    let key: Digest = parts.next()?.parse().ok()?;
    let (stated, value) = (parts.next()?, parts.next()?);
    (stated == check(&key, value)).then(|| (key, value.to_owned()))
}

/// Beginning of the digest of a key and its value.
fn check(key: &Digest, value: &str) -> String {
    Digest::of_bytes(format!("{key} {value}").as_bytes()).to_string()[..CHECK].to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(text: &str) -> Digest {
        Digest::of_bytes(text.as_bytes())
    }

    #[test]
    fn rows_of_several_processes_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("model");
        let (mut one, mut two) = (Rows::open(&place).unwrap(), Rows::open(&place).unwrap());
        assert!(one.is_empty());
        one.put(&[(key("a"), "1".into()), (key("b"), "two words".into())]).unwrap();
        two.put(&[(key("c"), String::new())]).unwrap();
        one.put(&[(key("d"), "4".into())]).unwrap();
        let all = Rows::open(&place).unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!((all.get(&key("b")), all.get(&key("c")), all.get(&key("x"))), (Some("two words"), Some(""), None));
        assert_eq!(one.get(&key("d")), Some("4"));
    }

    #[test]
    fn a_line_cut_off_anywhere_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut rows = Rows::open(folder.path()).unwrap();
        rows.put(&[(key("a"), "first".into()), (key("b"), "second".into())]).unwrap();
        let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for cut in first..whole.len() - 1 {
            fs::write(&path, &whole[..cut]).unwrap();
            let left = Rows::open(folder.path()).unwrap();
            assert_eq!((left.len(), left.get(&key("a"))), (1, Some("first")), "{cut}");
        }
        fs::write(&path, [b"garbage\n\xff\xfe\n", whole.as_slice()].concat()).unwrap();
        assert_eq!(Rows::open(folder.path()).unwrap().len(), 2);
    }
}
