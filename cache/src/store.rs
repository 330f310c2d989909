//! The content-addressed store: files and folders by digest, action records by fingerprint.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::artifact::{Artifact, Shape};
use crate::brief::Brief;
use crate::digest::Digest;
use crate::error::{CacheError, Damage};
use crate::layout::{LAYOUT, Layout};
use crate::lock::{self, Holder, Lock};
use crate::record::Record;
use crate::scratch::{self, Scratch};
use crate::stale::anew;
use crate::tree::Tree;
use crate::used::{read, touch};
use crate::{atomic, materialise, publish};

/// How long what broke off is kept, to be gone on with: downloads, and the results that a killed run had.
pub(crate) const BROKEN_OFF_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// A store in one folder (`.qapipe`), safe to share between processes and over NFS.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) layout: Layout,
}

impl Store {
    /// Folder of small results that are kept one by one ([`crate::Rows`]).
    #[must_use]
    pub fn rows(&self) -> PathBuf {
        self.layout.rows()
    }

    /// In the folder of a training: nothing goes on from it any more.
    pub const TRAINING_DONE: &'static str = "done";

    /// Folder of what trainings go on from: a state now and then, one folder a training. Losing it costs time, nothing else.
    #[must_use]
    pub fn trainings(&self) -> PathBuf {
        self.layout.trainings()
    }

    /// Folder of what the stages of each pipeline had last.
    #[must_use]
    pub fn last(&self) -> PathBuf {
        self.root().join("last")
    }

    /// Folder of pipeline files as they were parsed. Losing it costs time, nothing else.
    #[must_use]
    pub fn parsed(&self) -> PathBuf {
        self.root().join("parsed")
    }

    /// Opens the store in a folder, which is created if need be.
    ///
    /// # Errors
    /// When the folder cannot be made or written, or another version laid it out.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        let layout = Layout::of(root);
        let version = layout.version();
        match fs::read_to_string(&version) {
            Ok(found) if found.trim() == LAYOUT => {}
            Ok(found) => {
                return Err(CacheError::Layout { path: layout.root, found: found.trim().to_owned(), expected: LAYOUT });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                layout.folders().iter().try_for_each(|folder| fs::create_dir_all(folder).map_err(CacheError::io(folder)))?;
                atomic::write_atomically(&version, LAYOUT.as_bytes())?;
            }
            Err(error) => return Err(CacheError::io(&version)(error)),
        }
        Ok(Self { layout })
    }

    /// The store in a folder, if there is one.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_existing(root: &Path) -> Result<Option<Self>, CacheError> {
        if root.join("VERSION").exists() { Self::open(root).map(Some) } else { Ok(None) }
    }

    /// The store's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.layout.root
    }

    /// Where to read an artifact: a file, or a folder with its real names. Never to be written.
    #[must_use]
    pub fn path(&self, artifact: &Artifact) -> PathBuf {
        match artifact.shape {
            Shape::Blob => self.layout.object(&artifact.digest),
            Shape::Tree => self.layout.tree(&artifact.digest),
        }
    }

    /// Looks whether an artifact is there with the right sizes; reads no content.
    ///
    /// # Errors
    /// What is missing or has another size.
    pub fn check(&self, artifact: &Artifact) -> Result<(), Damage> {
        let damage = |what: String| Damage { artifact: artifact.clone(), what };
        match artifact.shape {
            Shape::Blob => check_size(&self.layout.object(&artifact.digest), artifact.bytes).map_err(damage),
            Shape::Tree => {
                let tree = self.tree(&artifact.digest).map_err(|error| damage(error.to_string()))?;
                let folder = self.layout.tree(&artifact.digest);
                // An empty one has no entry that would be missed.
                check_folder(&folder).map_err(damage)?;
                tree.entries.iter().try_for_each(|entry| check_size(&folder.join(&entry.path), entry.bytes)).map_err(damage)
            }
        }
    }

    /// Reads an artifact whole and compares its digest.
    ///
    /// # Errors
    /// What is missing or differs.
    pub fn verify(&self, artifact: &Artifact) -> Result<(), Damage> {
        self.check(artifact)?;
        let damage = |what: String| Damage { artifact: artifact.clone(), what };
        let path = self.path(artifact);
        let found = match artifact.shape {
            Shape::Blob => Digest::of_file(&path).map_err(|error| damage(error.to_string()))?,
            Shape::Tree => Tree::of_folder(&path).map_err(|error| damage(error.to_string()))?.digest(),
        };
        if found == artifact.digest { Ok(()) } else { Err(damage(format!("its content has digest {}", found.short()))) }
    }

    /// Moves a damaged artifact out of the way, files of a folder that are themselves damaged included.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn set_aside(&self, artifact: &Artifact) -> Result<(), CacheError> {
        if artifact.shape == Shape::Tree {
            if let Ok(tree) = self.tree(&artifact.digest) {
                let blobs = tree.entries.into_iter().map(|entry| Artifact { digest: entry.digest, shape: Shape::Blob, bytes: entry.bytes });
                blobs.filter(|blob| self.verify(blob).is_err()).try_for_each(|blob| self.set_aside(&blob))?;
            }
            publish::set_aside(&self.layout, &self.layout.listing(&artifact.digest))?;
        }
        publish::set_aside(&self.layout, &self.path(artifact))
    }

    /// The listing of a stored folder.
    ///
    /// # Errors
    /// When it is missing or does not have the digest that names it.
    pub fn tree(&self, digest: &Digest) -> Result<Tree, CacheError> {
        let path = self.layout.listing(digest);
        let bytes = fs::read(&path).map_err(CacheError::io(&path))?;
        let tree: Option<Tree> = serde_json::from_slice(&bytes).ok();
        match tree {
            Some(tree) if tree.digest() == *digest => Ok(tree),
            _ => {
                Err(Damage { artifact: Artifact { digest: *digest, shape: Shape::Tree, bytes: 0 }, what: "its listing is damaged".into() }
                    .into())
            }
        }
    }

    /// The digest of the named part of an artifact: of a folder, the files under these top-level names; of a file, all of it.
    ///
    /// # Errors
    /// As `tree`.
    pub fn part(&self, artifact: &Artifact, names: &[&str]) -> Result<Digest, CacheError> {
        match artifact.shape {
            Shape::Tree if !names.is_empty() => Ok(self.tree(&artifact.digest)?.part(names)),
            _ => Ok(artifact.digest),
        }
    }

    /// An empty folder to write a result in.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<Scratch, CacheError> {
        self.layout.scratch_folder()
    }

    /// Removes what writers that have died left behind: their scratch, and half-written files in the store's own folders. And what only saves time,
    /// once it is old.
    pub fn sweep(&self) {
        scratch::sweep(&self.layout.scratch(), Duration::ZERO);
        scratch::sweep(&self.layout.leases(), BROKEN_OFF_KEPT);
        [self.root(), &self.last()].into_iter().for_each(atomic::sweep);
        atomic::sweep_older(&self.parsed(), BROKEN_OFF_KEPT, |_| true);
        atomic::sweep_older(&self.layout.partials(), BROKEN_OFF_KEPT, |_| true);
    }

    /// Keeps what a stage wrote at a path in a scratch folder: synced, hashed, moved into place, read-only. Beside garbage collection, it stays
    /// only as long as a [`Store::hold`] from before is there, until a record or a lease cites it.
    ///
    /// # Errors
    /// When the file system refuses, or there is something else than files and folders.
    pub fn publish(&self, path: &Path) -> Result<Artifact, CacheError> {
        publish::publish(&self.layout, path)
    }

    /// Puts a writable copy of an artifact at a path, at once or not at all.
    ///
    /// # Errors
    /// When the file system refuses, or the artifact is damaged.
    pub fn materialise(&self, artifact: &Artifact, to: &Path) -> Result<(), CacheError> {
        materialise::materialise(self, artifact, to)
    }

    /// Waits for the lock on a fingerprint.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn lock(&self, fingerprint: &Digest) -> Result<Lock, CacheError> {
        Lock::acquire(&self.layout.lock(fingerprint))
    }

    /// Takes the lock on a fingerprint if nobody holds it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn try_lock(&self, fingerprint: &Digest) -> Result<Option<Lock>, CacheError> {
        Lock::try_acquire(&self.layout.lock(fingerprint))
    }

    /// Who holds the lock on a fingerprint.
    #[must_use]
    pub fn holder(&self, fingerprint: &Digest) -> Option<Holder> {
        lock::holder(&self.layout.lock(fingerprint))
    }

    /// The record of a fingerprint. A damaged one, or one of another format, counts as absent: its stage runs again.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn record(&self, fingerprint: &Digest) -> Result<Option<Record>, CacheError> {
        Ok(self.read_record(fingerprint)?.and_then(|(bytes, _)| Record::parse(&bytes, fingerprint)))
    }

    /// The same for who goes on to use it: notes that, for garbage collection by age. Where the store may not be written, it is not noted.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn use_record(&self, fingerprint: &Digest) -> Result<Option<Brief>, CacheError> {
        Ok(self.read_brief(fingerprint)?.map(|(brief, _)| brief))
    }

    /// The same, and what was known of the record's file when it was opened, if that still holds.
    pub(crate) fn read_brief(&self, fingerprint: &Digest) -> Result<Option<(Brief, Option<fs::Metadata>)>, CacheError> {
        let Some((bytes, metadata)) = self.read_record(fingerprint)? else { return Ok(None) };
        let Some(record) = Record::parse(&bytes, fingerprint) else { return Ok(None) };
        let is_touched = touch(&self.layout.record(fingerprint), &metadata);
        Ok(Some((record.into(), Some(metadata).filter(|_| !is_touched))))
    }

    fn read_record(&self, fingerprint: &Digest) -> Result<Option<(Vec<u8>, fs::Metadata)>, CacheError> {
        let path = self.layout.record(fingerprint);
        match anew(|| read(&path)) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CacheError::io(&path)(error)),
        }
    }

    /// Keeps a record, at once or not at all.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn put_record(&self, record: &Record) -> Result<(), CacheError> {
        let path = self.layout.record(&record.fingerprint);
        let bytes = serde_json::to_vec(record).map_err(|error| CacheError::io(&path)(error.into()))?;
        atomic::write_by_scratch(&self.layout, &path, &bytes)
    }

    /// Forgets a record.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_record(&self, fingerprint: &Digest) -> Result<(), CacheError> {
        let path = self.layout.record(fingerprint);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CacheError::io(&path)(error)),
            _ => Ok(()),
        }
    }
}

fn check_folder(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(format!("{} is not a folder", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn check_size(path: &Path, bytes: u64) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(format!("{} is not a file", path.display())),
        Ok(metadata) if metadata.len() == bytes => Ok(()),
        Ok(metadata) => Err(format!("{} has {} bytes instead of {bytes}", path.display(), metadata.len())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
