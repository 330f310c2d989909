//! A remote in a folder: a disk that several machines see.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Depot, RemoteError, Watch};
use crate::atomic::{by_sibling, rename_into, write_atomically};
use crate::error::CacheError;

/// A folder that keeps what a bucket would. Its own folder has to be there; it itself is made when something is first kept.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    url: String,
}

impl Folder {
    /// The remote in a folder.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), url: root.display().to_string() }
    }

    /// A disk that is not mounted must not be filled somewhere else.
    fn mounted(&self) -> Result<(), RemoteError> {
        let above = self.root.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if self.root.is_dir() || above.is_dir() {
            return Ok(());
        }
        Err(RemoteError::Missing { remote: self.url.clone(), what: format!("there is no folder {}", above.display()) })
    }

    fn io(&self, error: &io::Error) -> RemoteError {
        let (remote, what) = (self.url.clone(), error.to_string());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => RemoteError::Denied { remote, what },
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkDown | ErrorKind::StaleNetworkFileHandle => {
                RemoteError::Unreachable { remote, what }
            }
            _ => RemoteError::Failed { remote, what },
        }
    }

    fn cache(&self, error: CacheError) -> RemoteError {
        match error {
            CacheError::Io { source, .. } => self.io(&source),
            other => other.into(),
        }
    }

    /// Copies a file beside its place and moves it there.
    fn copy(&self, from: &Path, to: &Path) -> Result<(), CacheError> {
        by_sibling(to, |copy| {
            fs::copy(from, copy)
                .and_then(|_| fs::set_permissions(copy, Permissions::from_mode(0o644)))
                .and_then(|()| File::open(copy)?.sync_all())
                .map_err(CacheError::io(copy))
                .and_then(|()| rename_into(copy, to))
        })
    }
}

/// Nothing, where something is not there.
fn maybe<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

impl Depot for Folder {
    fn url(&self) -> &str {
        &self.url
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let found = maybe(fs::read(self.root.join(key))).map_err(|error| self.io(&error))?;
        if found.is_none() {
            self.mounted()?;
        }
        Ok(found)
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, RemoteError> {
        let read = || {
            let mut file = File::open(self.root.join(key))?;
            file.seek(SeekFrom::Start(range.start))?;
            let mut part = Vec::new();
            file.take(range.end - range.start).read_to_end(&mut part)?;
            Ok(part)
        };
        let lost = || RemoteError::Lost { remote: self.url.clone(), key: key.to_owned() };
        maybe(read()).map_err(|error| self.io(&error))?.ok_or_else(lost)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        let found = maybe(fs::metadata(self.root.join(key))).map_err(|error| self.io(&error))?;
        Ok(found.map(|found| found.len()))
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        self.mounted()?;
        write_atomically(&self.root.join(key), bytes).map_err(|error| self.cache(error))
    }

    fn upload(&self, key: &str, file: &Path, _: &Path, watch: &dyn Watch) -> Result<(), RemoteError> {
        self.mounted()?;
        self.copy(file, &self.root.join(key)).map_err(|error| self.cache(error))?;
        watch.moved(fs::metadata(file).map_or(0, |there| there.len()));
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, RemoteError> {
        let mut found = Vec::new();
        let walked = maybe(walk(&self.root.join(folder), folder, &mut found));
        walked.map_err(|error| self.io(&error))?;
        Ok(found)
    }
}

/// Names and sizes of files below a folder; what is still being written has a name that begins with a dot.
fn walk(folder: &Path, prefix: &str, found: &mut Vec<(String, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let key = format!("{prefix}/{name}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &key, found)?;
        } else {
            found.push((key, entry.metadata()?.len()));
        }
    }
    Ok(())
}
