//! The Hugging Face hub, played on the loopback device: its addresses, headers, redirects and ranges, and what goes wrong there.
//!
//! A hub is two servers, as in life: the hub itself, which describes repositories and sends small files, and a store elsewhere, to which it
//! redirects for large ones. The store, like the real one, knows signed GETs only and refuses a request that carries a token.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use sha2::{Digest, Sha256};

/// The commit of a repository that has only one.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The answer is this status with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection closes after so many bytes of the body.
    Cut(usize),
    /// The connection closes before any answer.
    Hangup,
    /// A range is passed over: the whole file is sent.
    WholeFile,
    /// Another range is sent than was asked for.
    OtherRange,
    /// The answer speaks of so many bytes less than the file has, and sends these.
    Short(usize),
    /// A bit of the body is another.
    Flipped,
    /// The answer does not say how long the body is, which ends after so many bytes.
    Unsized(usize),
    /// The answer has this header in another form, or another one.
    Header(&'static str, String),
}

#[derive(Clone)]
struct Stored {
    content: Vec<u8>,
    large: bool,
}

#[derive(Default)]
struct State {
    /// Files by repository and commit: `models/OWNER/NAME@COMMIT`.
    files: BTreeMap<String, BTreeMap<String, Stored>>,
    /// Commits by repository and revision.
    revisions: BTreeMap<String, String>,
    /// Where a repository went.
    moved: BTreeMap<String, String>,
    /// Contents of large files by SHA-256.
    blobs: BTreeMap<String, Vec<u8>>,
    /// What goes wrong next with requests whose line holds a text: how often.
    faults: Vec<(String, Fault, usize)>,
    seen: Vec<Seen>,
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET /path`.
    pub line: String,
    /// Whether the store elsewhere was asked.
    pub elsewhere: bool,
    pub token: Option<String>,
    pub range: Option<String>,
}

/// The hub.
#[derive(Clone)]
pub struct FakeHub {
    pub endpoint: String,
    store: String,
    state: Arc<Mutex<State>>,
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FakeHub {
    /// A hub with nothing in it. It stops with the process.
    pub fn start() -> Self {
        let (here, elsewhere) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let hub = Self { endpoint: address(&here), store: address(&elsewhere), state: Arc::default() };
        for (listener, is_store) in [(here, false), (elsewhere, true)] {
            let hub = hub.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let hub = hub.clone();
                    std::thread::spawn(move || hub.serve(stream.unwrap(), is_store));
                }
            });
        }
        hub
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a file into the only commit of a repository (`models/a/b`); a large one lies elsewhere.
    pub fn put(&self, repository: &str, file: &str, content: &[u8], large: bool) {
        self.put_at(repository, "main", COMMIT, file, content, large);
    }

    /// Puts a file into a commit, and names it.
    pub fn put_at(&self, repository: &str, revision: &str, commit: &str, file: &str, content: &[u8], large: bool) {
        let mut state = self.state();
        state.revisions.insert(format!("{repository}@{revision}"), commit.to_owned());
        state.blobs.insert(sha256(content), content.to_vec());
        let files = state.files.entry(format!("{repository}@{commit}")).or_default();
        files.insert(file.to_owned(), Stored { content: content.to_vec(), large });
    }

    /// Has a repository moved: its old addresses redirect.
    pub fn moved(&self, from: &str, to: &str) {
        self.state().moved.insert(from.to_owned(), to.to_owned());
    }

    /// Has something go wrong `times` times with requests whose line (`GET /path`) holds a text.
    pub fn fail(&self, holds: &str, fault: Fault, times: usize) {
        self.state().faults.push((holds.to_owned(), fault, times));
    }

    /// What was asked for so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// The lines of what was asked for, that hold a text.
    pub fn lines(&self, holds: &str) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).filter(|line| line.contains(holds)).collect()
    }

    fn serve(&self, mut stream: TcpStream, elsewhere: bool) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let header = |name: &str| {
            let found = headers.iter().filter_map(|line| line.split_once(':')).find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned())
        };
        let line = first.strip_suffix(" HTTP/1.1").unwrap().to_owned();
        let seen = Seen { line: line.clone(), elsewhere, token: header("authorization"), range: header("range") };
        let fault = self.fault(&line);
        self.state().seen.push(seen.clone());
        if matches!(fault, Some(Fault::Hangup)) {
            return;
        }
        let reply = match &fault {
            Some(Fault::Status(code, headers)) => Reply { headers: headers.clone(), ..Reply::empty(*code) },
            _ if elsewhere => self.store(&seen, fault.as_ref()),
            _ => self.hub(&seen, fault.as_ref()),
        };
        reply.send(&mut stream, line.starts_with("HEAD"), fault.as_ref());
    }

    /// What goes wrong with a request.
    fn fault(&self, line: &str) -> Option<Fault> {
        let mut state = self.state();
        let (_, fault, times) = state.faults.iter_mut().find(|(holds, _, times)| *times > 0 && line.contains(holds.as_str()))?;
        *times -= 1;
        Some(fault.clone())
    }

    fn store(&self, seen: &Seen, fault: Option<&Fault>) -> Reply {
        let Some(sha) = seen.line.strip_prefix("GET /large/").and_then(|rest| rest.strip_suffix("?signed=yes")) else {
            return Reply::empty(403);
        };
        if seen.token.is_some() {
            return Reply::empty(400);
        }
        let content = self.state().blobs.get(sha).cloned();
        content.map_or_else(|| Reply::empty(404), |content| Reply::ranged(content, seen, "\"of-the-store\"".to_owned(), fault))
    }

    fn hub(&self, seen: &Seen, fault: Option<&Fault>) -> Reply {
        let path = seen.line.split(' ').nth(1).unwrap();
        let state = self.state();
        for (from, to) in &state.moved {
            let short = |name: &str| format!("/{}/", name.trim_start_matches("models/"));
            let gone = [(format!("/api/{from}/"), format!("/api/{to}/")), (short(from), short(to))];
            if let Some((from, to)) = gone.iter().find(|(from, _)| path.starts_with(from)) {
                return Reply { headers: vec![("Location", path.replacen(from, to, 1))], ..Reply::empty(307) };
            }
        }
        if let Some(api) = path.strip_prefix("/api/") {
            return describe(&state, api);
        }
        let named = if path.starts_with("/datasets/") { path[1..].to_owned() } else { format!("models{path}") };
        let Some((repository, rest)) = named.split_once("/resolve/") else { return Reply::empty(404) };
        let (revision, file) = rest.split_once('/').unwrap();
        let commit = state.revisions.get(&format!("{repository}@{revision}")).cloned().unwrap_or_else(|| revision.to_owned());
        let stored = state.files.get(&format!("{repository}@{commit}")).and_then(|files| files.get(&file.replace("%20", " "))).cloned();
        let Some(stored) = stored else { return Reply::empty(404) };
        let sha = sha256(&stored.content);
        let about = |reply: Reply, more: Vec<(&'static str, String)>| Reply {
            headers: [reply.headers, vec![("X-Repo-Commit", commit.clone())], more].concat(),
            ..reply
        };
        if stored.large {
            let linked = vec![
                ("X-Linked-Etag", format!("\"{sha}\"")),
                ("X-Linked-Size", stored.content.len().to_string()),
                ("ETag", format!("\"{}\"", &sha[..32])),
                ("Location", format!("{}/large/{sha}?signed=yes", self.store)),
            ];
            return about(Reply::empty(302), linked);
        }
        about(Reply::ranged(stored.content, seen, format!("\"{}\"", &sha[..40]), fault), vec![])
    }
}

/// The answer to `SORT/ID/revision/REVISION`.
fn describe(state: &State, api: &str) -> Reply {
    let Some((repository, revision)) = api.split_once("/revision/") else { return Reply::empty(404) };
    let revision = revision.replace("%2F", "/");
    let files = |commit: &str| state.files.get(&format!("{repository}@{commit}"));
    let commit = state.revisions.get(&format!("{repository}@{revision}")).cloned().or_else(|| files(&revision).map(|_| revision.clone()));
    let Some((commit, files)) = commit.and_then(|commit| Some((commit.clone(), files(&commit)?))) else { return Reply::empty(404) };
    let siblings: Vec<String> = files.keys().map(|name| format!("{{\"rfilename\": {name:?}}}")).collect();
    let body = format!("{{\"id\": \"x\", \"sha\": \"{commit}\", \"siblings\": [{}]}}", siblings.join(", "));
    Reply { body: body.into_bytes(), ..Reply::empty(200) }
}

struct Reply {
    code: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn empty(code: u16) -> Self {
        Self { code, headers: vec![], body: vec![] }
    }

    /// Content from where it was asked for.
    fn ranged(content: Vec<u8>, seen: &Seen, etag: String, fault: Option<&Fault>) -> Self {
        let total = content.len();
        let mut headers = vec![("ETag", etag), ("Accept-Ranges", "bytes".to_owned())];
        let start = seen.range.as_ref().map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap());
        match start {
            Some(start) if start >= total => Self { headers, ..Self::empty(416) },
            Some(start) if !matches!(fault, Some(Fault::WholeFile)) => {
                let start: usize = if matches!(fault, Some(Fault::OtherRange)) { start - 1 } else { start };
                headers.push(("Content-Range", format!("bytes {start}-{}/{total}", total - 1)));
                Self { code: 206, headers, body: content[start..].to_vec() }
            }
            _ => Self { code: 200, headers, body: content },
        }
    }

    fn send(mut self, stream: &mut TcpStream, head: bool, fault: Option<&Fault>) {
        let (mut length, mut sent) = (Some(self.body.len()), self.body.len());
        match fault {
            Some(Fault::Cut(after)) => sent = *after,
            Some(Fault::Short(by)) => {
                sent -= by;
                length = Some(sent);
            }
            Some(Fault::Unsized(after)) => (length, sent) = (None, *after),
            Some(Fault::Flipped) => {
                let at = self.body.len() / 2;
                self.body[at] ^= 1;
            }
            Some(Fault::Header(name, value)) => {
                self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                self.headers.push((name, value.clone()));
            }
            _ => {}
        }
        let mut text = format!("HTTP/1.1 {} Told\r\nConnection: close\r\n", self.code);
        for (name, value) in self.headers.into_iter().chain(length.map(|length| ("Content-Length", length.to_string()))) {
            text += &format!("{name}: {value}\r\n");
        }
        // Whoever asks may have gone.
        let _ = stream.write_all((text + "\r\n").as_bytes());
        if !head {
            let _ = stream.write_all(&self.body[..sent.min(self.body.len())]);
        }
    }
}
