//! The hub, played by a small server.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use qapipe_engine::Reporter;
use qapipe_stages::Error;
use qapipe_stages::hub::{Hub, Settings, Sort};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

struct Silent;

impl Reporter for Silent {
    fn progress(&self, _done: u64, _total: u64, _unit: &str, _note: &str) {}
    fn log(&self, _line: &str) {}
    fn measure(&self, _name: &str, _value: f64) {}
}

/// A hub with one repository `a/b`, one that is gated, and nothing else. Gives its address and the requests that it saw.
fn serve() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            let headers: Vec<String> = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let token = headers.iter().find(|line| line.to_lowercase().starts_with("authorization")).cloned().unwrap_or_default();
            log.lock().unwrap().push(format!("{first} {token}"));
            let target = first.split(' ').nth(1).unwrap().to_owned();
            let (status, body) = answer(&target);
            let total = body.len();
            let reply = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {total}\r\nContent-Range: bytes 0-{}/{total}\r\nx-repo-commit: {COMMIT}\r\nETag: \"e{total}\"\r\nConnection: close\r\n\r\n{body}",
                total.saturating_sub(1)
            );
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    (address, seen)
}

fn answer(target: &str) -> (&'static str, String) {
    let info = format!(
        "{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"config.json\"}}, {{\"rfilename\": \"weights.bin\"}}, {{\"rfilename\": \"../evil\"}}]}}"
    );
    match target {
        "/api/models/a/b/revision/main" => ("200 OK", info),
        _ if target.ends_with(&format!("/a/b/resolve/{COMMIT}/config.json")) => ("200 OK", "{\"x\": 1}".to_owned()),
        _ if target.contains("gated") => ("403 Forbidden", String::new()),
        _ if target.contains("private") => ("401 Unauthorized", String::new()),
        _ => ("404 Not Found", String::new()),
    }
}

fn hub(endpoint: &str, cache: &Path, offline: bool) -> Hub {
    Hub::new(Settings { cache: Some(cache.to_owned()), endpoint: Some(endpoint.to_owned()), token: Some("secret".to_owned()), offline })
        .unwrap()
}

#[test]
fn files_come_once_and_then_from_the_cache() {
    let (endpoint, seen) = serve();
    let cache = tempfile::tempdir().unwrap();
    let repository = hub(&endpoint, cache.path(), false).repository(Sort::Model, "hub:a/b").unwrap();
    assert_eq!((repository.commit(), repository.files()), (Some(COMMIT), ["config.json".to_owned(), "weights.bin".to_owned()].as_slice()));
    let path = repository.get("config.json", &Silent).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"x\": 1}");
    let asked = seen.lock().unwrap().len();
    assert!(seen.lock().unwrap()[0].to_lowercase().contains("bearer secret"));
    assert_eq!(repository.get("config.json", &Silent).unwrap(), path);
    assert_eq!(seen.lock().unwrap().len(), asked);
    let offline = hub(&endpoint, cache.path(), true);
    let branch = offline.repository(Sort::Model, "a/b").unwrap();
    assert_eq!((branch.commit(), branch.get("config.json", &Silent).unwrap()), (Some(COMMIT), path.clone()));
    // The second file was never asked for: the cache does not pass for the whole repository.
    assert_eq!(branch.files(), ["config.json".to_owned(), "weights.bin".to_owned()]);
    assert!(branch.get("weights.bin", &Silent).is_err());
    let cached = offline.repository(Sort::Model, &format!("a/b@{COMMIT}")).unwrap();
    assert_eq!(cached.get("config.json", &Silent).unwrap(), path);
    let error = cached.get("other.json", &Silent).unwrap_err();
    assert!(error.to_string().contains("other.json is not in the hub's cache, and the network is off limits"), "{error}");
    assert!(cached.get("../x", &Silent).unwrap_err().to_string().contains("no plain file name"));
}

#[test]
fn refusals_say_what_to_do() {
    let (endpoint, _) = serve();
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&endpoint, cache.path(), false);
    let refused = |text: &str| match hub.repository(Sort::Dataset, text).err().unwrap() {
        Error::Data { message, help } => (false, message, help.unwrap()),
        Error::Environment { message, help } => (true, message, help.unwrap()),
        other => (true, other.to_string(), String::new()),
    };
    let (environment, message, _) = refused("hub:no/where@v1");
    assert!(!environment && message == "hub:no/where@v1: the hub has no such repository, revision or file (404)", "{message}");
    let (environment, message, help) = refused("x/gated");
    assert!(environment && message.ends_with("the hub refuses access (403)") && help.contains("HF_TOKEN"), "{message} {help}");
    let (_, message, help) = refused("x/private");
    assert!(message.contains("(401)") && help.contains("HF_TOKEN"), "{message} {help}");
}

#[test]
fn no_network_is_the_machines_lack() {
    let cache = tempfile::tempdir().unwrap();
    let away = hub("http://127.0.0.1:1", cache.path(), false).repository(Sort::Model, "a/b").err().unwrap();
    assert!(matches!(&away, Error::Environment { help: Some(help), .. } if help.contains("HF_ENDPOINT")), "{away}");
    let offline = hub("http://127.0.0.1:1", cache.path(), true).repository(Sort::Model, "a/b").err().unwrap();
    assert!(offline.to_string().contains("not in the hub's cache"), "{offline}");
    assert!(matches!(offline, Error::Environment { .. }));
}
