//! Files from the Hugging Face hub, through its local cache.
//!
//! HF_HOME and HF_HUB_CACHE say where the cache is, HF_ENDPOINT which hub, HF_TOKEN who asks, HF_HUB_OFFLINE whether the network
//! is off limits.

use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use qapipe_engine::Reporter;

use crate::error::Error;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

/// The hub as the environment describes it.
pub struct Hub {
    cache: Cache,
    api: Option<Api>,
}

/// One repository at one commit.
pub struct Repository {
    name: String,
    cache: Cache,
    repo: Repo,
    /// The same at the revision that was asked for.
    asked: Repo,
    /// The commit, where it is known.
    commit: Option<String>,
    online: Option<ApiRepo>,
    files: Vec<String>,
}

/// What of the environment matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Folder of the cache.
    pub cache: Option<PathBuf>,
    /// Address of the hub.
    pub endpoint: Option<String>,
    /// Who asks.
    pub token: Option<String>,
    /// Whether the network is off limits.
    pub offline: bool,
}

impl Settings {
    /// Reads HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = set("HF_HOME").map(|home| PathBuf::from(home).join("hub"));
        let offline = set("HF_HUB_OFFLINE").is_some_and(|value| !matches!(value.to_lowercase().as_str(), "0" | "false" | "no" | "off"));
        Self { cache: set("HF_HUB_CACHE").map(PathBuf::from).or(home), endpoint: set("HF_ENDPOINT"), token: set("HF_TOKEN"), offline }
    }
}

impl Hub {
    /// The hub of the environment; `offline` forbids the network whatever the environment says.
    ///
    /// # Errors
    /// Where the client cannot be set up.
    pub fn from_env(offline: bool) -> Result<Self, Error> {
        let settings = Settings::from_env();
        let offline = offline || settings.offline;
        Self::new(Settings { offline, ..settings })
    }

    /// The hub of these settings.
    ///
    /// # Errors
    /// Where the client cannot be set up.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let cache = settings.cache.map_or_else(Cache::default, Cache::new);
        if settings.offline {
            return Ok(Self { cache, api: None });
        }
        let mut builder = ApiBuilder::from_cache(cache.clone()).with_progress(false).with_retries(3);
        if let Some(endpoint) = settings.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        if settings.token.is_some() {
            builder = builder.with_token(settings.token);
        }
        let api = builder.build().map_err(|e| Error::environment(format!("the hub's client: {e}")))?;
        Ok(Self { cache, api: Some(api) })
    }

    /// Looks a repository up. `text` is `REPO` or `REPO@REVISION`, with or without `hub:` before it.
    ///
    /// # Errors
    /// Where there is no such repository or revision, access is refused, or the network is away and the cache lacks it.
    pub fn repository(&self, sort: Sort, text: &str) -> Result<Repository, Error> {
        let text = text.strip_prefix("hub:").unwrap_or(text);
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let kind = if sort == Sort::Model { RepoType::Model } else { RepoType::Dataset };
        let repo = Repo::with_revision(id.to_owned(), kind, revision.to_owned());
        let name = format!("hub:{text}");
        let Some(api) = &self.api else {
            return self.cached(name, repo);
        };
        let info = api.repo(repo.clone()).info().map_err(|e| explain(&name, None, &e))?;
        let files: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).filter(|file| is_plain(file)).collect();
        // From here on the commit stands for the revision: a branch may move while its files are being read.
        let pinned = Repo::with_revision(id.to_owned(), kind, info.sha.clone());
        Ok(Repository {
            name,
            cache: self.cache.clone(),
            repo: pinned.clone(),
            asked: repo,
            commit: Some(info.sha),
            online: Some(api.repo(pinned)),
            files,
        })
    }

    /// A repository as the cache has it.
    fn cached(&self, name: String, repo: Repo) -> Result<Repository, Error> {
        let folder = self.cache.path().join(repo.folder_name());
        let stated = std::fs::read_to_string(folder.join("refs").join(repo.revision())).map(|commit| commit.trim().to_owned());
        let commit = stated.unwrap_or_else(|_| repo.revision().to_owned());
        let snapshot = folder.join("snapshots").join(&commit);
        let mut files = Vec::new();
        if !is_plain(&commit) || list(&snapshot, "", &mut files).is_err() {
            let message = format!("{name}: not in the hub's cache at {}, and the network is off limits", self.cache.path().display());
            return Err(
                Error::environment(message).help("run once without --offline and HF_HUB_OFFLINE, or point HF_HOME to a cache that has it")
            );
        }
        if let Ok(noted) = std::fs::read(listing(&self.cache, &repo, &commit)) {
            files = serde_json::from_slice(&noted).unwrap_or(files);
        }
        files.sort();
        Ok(Repository { name, cache: self.cache.clone(), asked: repo.clone(), repo, commit: Some(commit), online: None, files })
    }
}

/// Where the names of all files of a commit are noted, in the cache's folder of the repository.
fn listing(cache: &Cache, repo: &Repo, commit: &str) -> PathBuf {
    cache.path().join(repo.folder_name()).join("qapipe").join(format!("{commit}.json"))
}

/// Whether a file's name stays within its folder.
fn is_plain(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Names of all files under a folder, with `/` between.
fn list(folder: &Path, prefix: &str, found: &mut Vec<String>) -> std::io::Result<()> {
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

impl Repository {
    /// What it is called: `hub:REPO@REVISION`, as the user wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The commit.
    pub fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }

    /// Names of its files.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Whether it has a file.
    pub fn has(&self, file: &str) -> bool {
        self.files.iter().any(|name| name == file)
    }

    /// Brings a file into the cache, unless it is there, and says where it lies.
    ///
    /// # Errors
    /// Where there is no such file, access is refused, or the network fails.
    pub fn get(&self, file: &str, reporter: &dyn Reporter) -> Result<PathBuf, Error> {
        if !is_plain(file) {
            return Err(Error::data(format!("{}: `{file}` is no plain file name", self.name)));
        }
        if let Some(commit) = &self.commit {
            let path = self.cache.repo(self.repo.clone()).pointer_path(commit).join(file);
            if path.exists() {
                return Ok(path);
            }
        }
        let Some(online) = &self.online else {
            let message = format!("{}: {file} is not in the hub's cache, and the network is off limits", self.name);
            return Err(Error::environment(message).help("run once without --offline and HF_HUB_OFFLINE"));
        };
        let meter = Meter { reporter, file: file.to_owned(), done: 0, total: 0 };
        let path = online.download_with_progress(file, meter).map_err(|e| explain(&self.name, Some(file), &e))?;
        self.note_commit()?;
        Ok(path)
    }

    /// Notes in the cache which commit the revision was and which files there are, for lookups without a network: a cache that holds
    /// only some of them is not the repository.
    fn note_commit(&self) -> Result<(), Error> {
        let Some(commit) = &self.commit else { return Ok(()) };
        let note = || {
            self.cache.repo(self.asked.clone()).create_ref(commit)?;
            let listing = listing(&self.cache, &self.repo, commit);
            std::fs::create_dir_all(listing.parent().unwrap_or(Path::new(".")))?;
            std::fs::write(listing, serde_json::to_vec(&self.files)?)
        };
        note().map_err(Error::io(self.cache.path()))
    }
}

/// Tells how far a download is.
struct Meter<'a> {
    reporter: &'a dyn Reporter,
    file: String,
    done: u64,
    total: u64,
}

impl Progress for Meter<'_> {
    fn init(&mut self, size: usize, _file: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.reporter.progress(self.done, self.total, "bytes", &self.file);
    }

    fn finish(&mut self) {}
}

/// The HTTP status behind an error, if the hub answered at all.
fn status(error: &ApiError) -> Option<u16> {
    let ApiError::RequestError(inner) = error else { return None };
    inner.to_string().strip_prefix("http status: ")?.parse().ok()
}

/// What an error of the hub means for the user.
fn explain(name: &str, file: Option<&str>, error: &ApiError) -> Error {
    let what = file.map_or_else(|| name.to_owned(), |file| format!("{name}: {file}"));
    let token = "for a gated or private repository accept its terms on the hub, and set HF_TOKEN";
    match status(error) {
        Some(401) => Error::environment(format!("{what}: the hub knows no such repository, or it is private (401)"))
            .help(format!("check the name; {token}")),
        Some(403) => Error::environment(format!("{what}: the hub refuses access (403)")).help(token),
        Some(404) => Error::data(format!("{what}: the hub has no such repository, revision or file (404)"))
            .help("check the name after `hub:`, and the revision after `@`"),
        Some(429) => Error::environment(format!("{what}: the hub is asked too often (429)")).help("wait a little, or set HF_TOKEN"),
        Some(code) => Error::environment(format!("{what}: the hub answers with status {code}")).help("try again later"),
        None => {
            let message = format!("{what}: {error}");
            Error::environment(message)
                .help("check the network and HF_ENDPOINT; with the files in the cache, --offline works without a network")
        }
    }
}
