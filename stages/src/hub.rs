//! Files from the Hugging Face hub, through its local cache.
//!
//! HF_HOME and HF_HUB_CACHE say where the cache is, HF_ENDPOINT which hub, HF_TOKEN who asks, HF_HUB_OFFLINE whether the network
//! is off limits.

mod cache;
mod client;
mod download;
mod trouble;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cache::CachedRepository;
pub(crate) use cache::list;
use client::Client;
use download::{About, Download};
use qapipe_engine::Reporter;
use serde::Deserialize;
use url::Url;

use crate::error::Error;

/// The hub where HF_ENDPOINT names no other.
const ENDPOINT: &str = "https://huggingface.co";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

impl Sort {
    /// The word for it in the hub's addresses and in the cache.
    fn word(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// The hub as the environment describes it.
pub struct Hub {
    cache: PathBuf,
    client: Option<Arc<Client>>,
}

/// One repository at one commit.
pub struct Repository {
    /// `hub:REPO@REVISION`, as the user wrote it.
    name: String,
    asked: Asked,
    cached: CachedRepository,
    commit: String,
    client: Option<Arc<Client>>,
    files: Vec<String>,
}

/// Which repository and revision are meant.
struct Asked {
    sort: Sort,
    id: String,
    revision: String,
}

/// What of the environment matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Folder of the cache; none where it is not said and there is no home folder.
    pub cache: Option<PathBuf>,
    /// Address of the hub.
    pub endpoint: Option<String>,
    /// Who asks.
    pub token: Option<String>,
    /// Whether the network is off limits.
    pub offline: bool,
    /// How long to bear with a hub that is busy or fails.
    pub patience: Patience,
}

/// How long to bear with a hub that is busy or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often something is tried again that does not come further.
    pub retries: u32,
    /// How long to wait before the first of these; before each further one, twice as long.
    pub wait: Duration,
    /// Longest wait; a hub that asks for a longer one is not waited for.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { retries: 5, wait: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }
}

impl Settings {
    /// Reads HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE; without HF_TOKEN, the token that Hugging Face's own
    /// command left.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The same with variables from elsewhere.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let personal = || set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")));
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| Some(personal()?.join("huggingface")));
        let cache = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join("hub")));
        let left = || std::fs::read_to_string(set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join("token")))?).ok();
        let token = set("HF_TOKEN").or_else(left).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let offline = set("HF_HUB_OFFLINE").is_some_and(|value| !matches!(value.to_lowercase().as_str(), "0" | "false" | "no" | "off"));
        Self { cache, endpoint: set("HF_ENDPOINT"), token, offline, patience: Patience::default() }
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
        let none = || Error::environment("there is no folder for the hub's cache").help("set HF_HOME");
        let cache = settings.cache.ok_or_else(none)?;
        if settings.offline {
            return Ok(Self { cache, client: None });
        }
        let address = settings.endpoint.as_deref().unwrap_or(ENDPOINT);
        let endpoint = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let wrong =
            || Error::environment(format!("HF_ENDPOINT is {address:?}, which is no address")).help(format!("write it like {ENDPOINT}"));
        Ok(Self { cache, client: Some(Arc::new(Client::new(endpoint.ok_or_else(wrong)?, settings.token, settings.patience))) })
    }

    /// Looks a repository up. `text` is `REPO` or `REPO@REVISION`, with or without `hub:` before it.
    ///
    /// # Errors
    /// Where there is no such repository or revision, access is refused, or the network is away and the cache lacks it.
    pub fn repository(&self, sort: Sort, text: &str) -> Result<Repository, Error> {
        let text = text.strip_prefix("hub:").unwrap_or(text);
        let name = format!("hub:{text}");
        let asked = Asked::parse(sort, text, &name)?;
        let cached = CachedRepository::new(&self.cache, sort.word(), &asked.id);
        match &self.client {
            Some(client) => online(Arc::clone(client), name, asked, cached),
            None => self.offline(name, asked, cached),
        }
    }

    /// A repository as the cache has it.
    fn offline(&self, name: String, asked: Asked, cached: CachedRepository) -> Result<Repository, Error> {
        let commit = cached.commit(&asked.revision).unwrap_or_else(|| asked.revision.clone());
        let mut files = Vec::new();
        if !cache::is_plain(&commit) || list(&cached.snapshot(&commit), "", &mut files).is_err() {
            let message = format!("{name}: not in the hub's cache at {}, and the network is off limits", self.cache.display());
            return Err(
                Error::environment(message).help("run once without --offline and HF_HUB_OFFLINE, or point HF_HOME to a cache that has it")
            );
        }
        let mut files = cached.listing(&commit).unwrap_or(files);
        files.sort();
        Ok(Repository { name, asked, cached, commit, client: None, files })
    }
}

impl Asked {
    /// Reads `REPO` or `REPO@REVISION`.
    fn parse(sort: Sort, text: &str, name: &str) -> Result<Self, Error> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let word = |part: &str| {
            !part.starts_with('.') && !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        if !id.split('/').all(word) || id.split('/').count() > 2 {
            return Err(Error::data(format!("{name}: {id:?} is no repository")).help("write `hub:OWNER/NAME` or `hub:OWNER/NAME@REVISION`"));
        }
        if !cache::is_plain(revision) {
            return Err(Error::data(format!("{name}: {revision:?} is no revision")).help("write a branch, a tag or a commit after `@`"));
        }
        Ok(Self { sort, id: id.to_owned(), revision: revision.to_owned() })
    }
}

/// What the hub says about a repository at a revision.
#[derive(Deserialize)]
struct Described {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A repository as the hub has it.
fn online(client: Arc<Client>, name: String, asked: Asked, cached: CachedRepository) -> Result<Repository, Error> {
    let parts = ["api", asked.sort.word()].into_iter().chain(asked.id.split('/')).chain(["revision", &asked.revision]);
    let described: Described = client.json(&client.url(parts)).map_err(|trouble| trouble.explain(&name))?;
    if !described.sha.chars().all(|c| c.is_ascii_alphanumeric()) || described.sha.is_empty() {
        return Err(Error::environment(format!("{name}: the hub names a strange commit, {:?}", described.sha)).help("check HF_ENDPOINT"));
    }
    let files = described.siblings.into_iter().map(|file| file.rfilename).filter(|file| cache::is_plain(file)).collect();
    // From here on the commit stands for the revision: a branch may move while its files are being read.
    Ok(Repository { name, asked, cached, commit: described.sha, client: Some(client), files })
}

impl Repository {
    /// What it is called: `hub:REPO@REVISION`, as the user wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The commit.
    pub fn commit(&self) -> Option<&str> {
        Some(&self.commit)
    }

    /// Names of its files.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Whether it has a file.
    pub fn has(&self, file: &str) -> bool {
        self.files.iter().any(|name| name == file)
    }

    /// Brings a file into the cache, unless it is there, and says where it lies. It is there when all of it is: a download that broke
    /// off is continued, and what is not as long as the hub says, or of another SHA-256, is not kept.
    ///
    /// # Errors
    /// Where there is no such file, access is refused, or the network fails.
    pub fn get(&self, file: &str, reporter: &dyn Reporter) -> Result<PathBuf, Error> {
        if !cache::is_plain(file) {
            return Err(Error::data(format!("{}: `{file}` is no plain file name", self.name)));
        }
        let path = self.cached.snapshot(&self.commit).join(file);
        let there = path.exists();
        let Some(client) = &self.client else {
            if there {
                return Ok(path);
            }
            let message = format!("{}: {file} is not in the hub's cache, and the network is off limits", self.name);
            return Err(Error::environment(message).help("run once without --offline and HF_HUB_OFFLINE"));
        };
        let path = if there { path } else { self.download(client, file, reporter)? };
        self.note()?;
        Ok(path)
    }

    fn download(&self, client: &Client, file: &str, reporter: &dyn Reporter) -> Result<PathBuf, Error> {
        let explain = |trouble: trouble::Trouble| trouble.explain(&format!("{}: {file}", self.name));
        // Models stand at the top of the hub's addresses.
        let sort = (self.asked.sort == Sort::Dataset).then_some("datasets");
        let parts = sort.into_iter().chain(self.asked.id.split('/')).chain(["resolve", &self.commit]).chain(file.split('/'));
        let url = client.url(parts);
        let about = About::ask(client, &url).map_err(explain)?;
        let (repository, commit) = (&self.cached, self.commit.as_str());
        Download { client, url, about, repository, commit, file, reporter }.run().map_err(explain)
    }

    /// Notes in the cache which commit the revision was and which files there are, for lookups without a network.
    fn note(&self) -> Result<(), Error> {
        let (cached, revision, commit) = (&self.cached, &self.asked.revision, &self.commit);
        let note = || {
            if revision != commit && cached.commit(revision).as_ref() != Some(commit) {
                cached.note_commit(revision, commit)?;
            }
            if cached.listing(commit).as_ref() != Some(&self.files) {
                cached.note_listing(commit, &self.files)?;
            }
            Ok(())
        };
        note().map_err(Error::io(Path::new(&self.name)))
    }
}
