//! One file of the hub, brought into the cache: continued where it broke off, and put in place only when it is whole.
//!
//! The library `hf-hub` 0.5 would not do: it does not look whether the hub continues where it was asked to, appends from the start when
//! a second process resumes, compares neither size nor digest, and does not retry the questions that come before.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use qapipe_engine::Reporter;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use ureq::http::{HeaderMap, Method, Response, StatusCode};
use url::Url;

use super::cache::CachedRepository;
use super::client::Client;
use super::trouble::Trouble;

/// What the hub says about a file before it sends it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct About {
    /// What its content is called.
    etag: String,
    /// Its bytes, where the hub tells.
    size: Option<u64>,
    /// Its SHA-256, in hexadecimal digits: the hub knows it of large files.
    sha256: Option<String>,
}

impl About {
    /// Asks the hub.
    pub(super) fn ask(client: &Client, url: &Url) -> Result<Self, Trouble> {
        client.patiently(
            || 0,
            || {
                // A large file is a link to elsewhere, and only the hub's own response says what it is.
                let response = client.follow(&Method::HEAD, url, 0, |response| text(response.headers(), "x-linked-etag").is_some())?;
                Self::read(response.headers(), response.status().is_redirection())
            },
        )
    }

    fn read(headers: &HeaderMap, elsewhere: bool) -> Result<Self, Trouble> {
        let linked = text(headers, "x-linked-etag").map(bare);
        let etag = linked.or_else(|| text(headers, ETAG.as_str()).map(bare));
        let etag = etag.ok_or_else(|| Trouble::Answer("has no etag".to_owned()))?;
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if etag.is_empty() || etag.starts_with('.') || !etag.chars().all(safe) {
            return Err(Trouble::Answer(format!("has a strange etag, {etag:?}")));
        }
        let own = if elsewhere { None } else { number(headers, CONTENT_LENGTH.as_str()) };
        let size = number(headers, "x-linked-size").or(own);
        let sha256 = linked.filter(|etag| etag.len() == 64 && etag.chars().all(|c| c.is_ascii_hexdigit())).map(str::to_lowercase);
        Ok(Self { etag: etag.to_owned(), size, sha256 })
    }
}

/// An etag without its quotes, and without the mark of a weak one.
fn bare(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// A file on its way into the cache.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) url: Url,
    pub(super) about: About,
    pub(super) repository: &'a CachedRepository,
    pub(super) commit: &'a str,
    /// Its name in the repository.
    pub(super) file: &'a str,
    pub(super) reporter: &'a dyn Reporter,
}

impl Download<'_> {
    /// Brings the content in, unless it is there, and gives the file's path in its commit.
    pub(super) fn run(&self) -> Result<PathBuf, Trouble> {
        let etag = &self.about.etag;
        let blob = self.repository.blob(etag);
        let _lock = self.repository.lock(etag).map_err(Trouble::file(&blob))?;
        if !self.is_whole(&blob) {
            std::fs::create_dir_all(blob.parent().unwrap_or(&blob)).map_err(Trouble::file(&blob))?;
            // The name that Hugging Face's own library gives to it, which continues it as well.
            let partial = blob.with_file_name(format!("{etag}.incomplete"));
            self.client.patiently(|| length(&partial), || self.attempt(&partial))?;
            std::fs::rename(&partial, &blob).map_err(Trouble::file(&blob))?;
        }
        self.repository.link(self.commit, self.file, etag).map_err(Trouble::file(&blob))
    }

    /// Whether a blob of that name is there and as long as it should be.
    fn is_whole(&self, blob: &Path) -> bool {
        blob.is_file() && self.about.size.is_none_or(|size| size == length(blob))
    }

    /// Fetches what is missing of a file, and checks the whole.
    fn attempt(&self, partial: &Path) -> Result<(), Trouble> {
        let mut have = length(partial);
        if self.about.size.is_some_and(|size| have > size) {
            remove(partial)?;
            have = 0;
        }
        if have == 0 || self.about.size != Some(have) {
            self.fetch(partial, have)?;
        }
        let Some(wanted) = &self.about.sha256 else { return Ok(()) };
        if sha256(partial).map_err(Trouble::file(partial))? == *wanted {
            return Ok(());
        }
        remove(partial)?;
        Err(Trouble::Digest { resumed: have > 0 })
    }

    /// Fetches the bytes of a file from `have` on.
    fn fetch(&self, partial: &Path, have: u64) -> Result<(), Trouble> {
        let response = match self.client.follow(&Method::GET, &self.url, have, |_| false) {
            Err(Trouble::Status { code: 416, .. }) if have > 0 => {
                remove(partial)?;
                return Err(Trouble::Range);
            }
            answered => answered?,
        };
        // Not every server continues: one that sends everything is taken at its word.
        let start = if response.status() == StatusCode::PARTIAL_CONTENT { have } else { 0 };
        if start > 0 && !begins_at(response.headers(), start) {
            remove(partial)?;
            return Err(Trouble::Range);
        }
        let sent = number(response.headers(), CONTENT_LENGTH.as_str()).map(|rest| start.saturating_add(rest));
        let size = self.about.size.or(sent);
        if let (Some(stated), Some(found)) = (size, sent)
            && stated != found
        {
            remove(partial)?;
            return Err(Trouble::Size { stated, found });
        }
        self.copy(response, partial, start, size)
    }

    /// Copies a response's body to its place in a file, which then has `size` bytes.
    fn copy(&self, response: Response<Body>, partial: &Path, start: u64, size: Option<u64>) -> Result<(), Trouble> {
        let mut file = OpenOptions::new().create(true).truncate(false).append(true).open(partial).map_err(Trouble::file(partial))?;
        file.set_len(start).map_err(Trouble::file(partial))?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 17];
        let mut have = start;
        let ended = loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => count,
                Err(error) => break Err(error),
            };
            file.write_all(&buffer[..count]).map_err(Trouble::file(partial))?;
            have += count as u64;
            if let Some(stated) = size.filter(|&size| have > size) {
                remove(partial)?;
                return Err(Trouble::Size { stated, found: have });
            }
            self.reporter.progress(have, size.unwrap_or(0), "bytes", self.file);
        };
        file.sync_all().map_err(Trouble::file(partial))?;
        match (ended, size) {
            (_, Some(size)) if have < size => Err(Trouble::Cut { have, size }),
            (Err(error), None) => Err(Trouble::Transport(error.into())),
            _ => Ok(()),
        }
    }
}

/// Whether a partial response begins where it was asked to.
fn begins_at(headers: &HeaderMap, start: u64) -> bool {
    let range = text(headers, CONTENT_RANGE.as_str()).and_then(|range| range.trim().strip_prefix("bytes "));
    range.and_then(|range| range.split('-').next()?.trim().parse().ok()) == Some(start)
}

/// Bytes of a file; none where there is no file.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn remove(path: &Path) -> Result<(), Trouble> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Trouble::File(path.to_owned(), error)),
        _ => Ok(()),
    }
}

/// The SHA-256 of a file, in hexadecimal digits.
fn sha256(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 17]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)], elsewhere: bool) -> Result<About, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(ureq::http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        About::read(&map, elsewhere).map_err(|trouble| trouble.explain("x").to_string())
    }

    #[test]
    fn etags_come_in_several_forms() {
        for etag in ["abc", "\"abc\"", "W/\"abc\"", " W/\"abc\" "] {
            assert_eq!(read(&[("etag", etag)], false).unwrap().etag, "abc", "{etag}");
        }
        for etag in ["", "\"\"", "../abc", "a/b", "\"..\"", ".incomplete"] {
            assert!(read(&[("etag", etag)], false).unwrap_err().contains("strange etag"), "{etag}");
        }
        assert!(read(&[], false).unwrap_err().contains("has no etag"));
    }

    #[test]
    fn a_large_files_link_says_what_it_is() {
        let sha = "AB".repeat(32);
        let linked = [("etag", "\"x\""), ("x-linked-etag", &format!("\"{sha}\"")), ("x-linked-size", "9"), ("content-length", "3")];
        let about = read(&linked, true).unwrap();
        assert_eq!(about, About { etag: sha.clone(), size: Some(9), sha256: Some(sha.to_lowercase()) });
        let plain = read(&[("etag", &sha), ("content-length", "3")], false).unwrap();
        assert_eq!((plain.size, plain.sha256), (Some(3), None));
        // The length of a redirect is not the file's.
        assert_eq!(read(&[("etag", "x"), ("content-length", "3")], true).unwrap().size, None);
    }
}
