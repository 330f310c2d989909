//! The hub's cache on disk, laid out as Hugging Face's own libraries lay it out: `blobs` by etag, `snapshots` of links to them by
//! commit, `refs` from branches and tags to commits.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

/// One repository in the cache.
#[derive(Clone, Debug)]
pub(super) struct CachedRepository {
    cache: PathBuf,
    /// Name of its folder: `models--OWNER--NAME`.
    name: String,
}

impl CachedRepository {
    /// A repository of a sort (`models`, `datasets`) by its id; nothing needs to be there.
    pub(super) fn new(cache: &Path, sort: &str, id: &str) -> Self {
        Self { cache: cache.to_owned(), name: format!("{sort}--{}", id.replace('/', "--")) }
    }

    fn folder(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    /// Where the content with an etag lies.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    /// Where the files of a commit lie, as links.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// The commit that a branch or tag was when it was last looked up.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.folder().join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Notes which commit a branch or tag is.
    pub(super) fn note_commit(&self, revision: &str, commit: &str) -> io::Result<()> {
        write(&self.folder().join("refs").join(revision), commit.as_bytes())
    }

    /// The names of all files of a commit, as they were noted.
    pub(super) fn listing(&self, commit: &str) -> Option<Vec<String>> {
        serde_json::from_slice(&std::fs::read(self.listing_file(commit)).ok()?).ok()
    }

    /// Notes the names of all files of a commit: a cache that holds only some of them is not the repository.
    pub(super) fn note_listing(&self, commit: &str, files: &[String]) -> io::Result<()> {
        write(&self.listing_file(commit), &serde_json::to_vec(files)?)
    }

    fn listing_file(&self, commit: &str) -> PathBuf {
        self.folder().join("qapipe").join(format!("{commit}.json"))
    }

    /// Takes the lock of a blob, which keeps other processes from downloading it at the same time; it is free again when the file is
    /// dropped.
    pub(super) fn lock(&self, etag: &str) -> io::Result<File> {
        let path = self.cache.join(".locks").join(&self.name).join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    }

    /// Makes a file of a commit a link to its blob.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> io::Result<PathBuf> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        let up: PathBuf = Path::new(file).components().map(|_| Component::ParentDir).chain([Component::ParentDir]).collect();
        let target = up.join("blobs").join(etag);
        if std::fs::read_link(&path).is_ok_and(|linked| linked == target) {
            return Ok(path);
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::os::unix::fs::symlink(target, &path)?,
        }
        Ok(path)
    }
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

/// Writes a small file whole or not at all.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    create_parent(path)?;
    // Threads of one process may write the same file at the same time: each needs a name of its own.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}.{:?}", std::process::id(), std::thread::current().id()));
    std::fs::write(&fresh, content)?;
    std::fs::rename(&fresh, path)
}

/// Whether a name stays within its folder.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Names of all files under a folder, with `/` between.
pub(crate) fn list(folder: &Path, prefix: &str, found: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{name}");
        if entry.path().is_dir() {
            list(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.push(name);
        }
    }
    Ok(())
}
