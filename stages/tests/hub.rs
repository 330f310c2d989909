//! Files from the hub, which a server on the loopback device plays.
#![allow(clippy::unwrap_used, clippy::panic)]

mod fake_hub;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fake_hub::{COMMIT, FakeHub, Fault, sha256};
use qapipe_engine::Reporter;
use qapipe_stages::Error;
use qapipe_stages::hub::{Hub, Patience, Repository, Settings, Sort};

const MODEL: &str = "models/a/b";

struct Silent;

impl Reporter for Silent {
    fn progress(&self, _done: u64, _total: u64, _unit: &str, _note: &str) {}
    fn log(&self, _line: &str) {}
    fn measure(&self, _name: &str, _value: f64) {}
}

/// A hub, and a cache that is empty.
struct Place {
    hub: FakeHub,
    cache: tempfile::TempDir,
}

impl Place {
    /// With a small and a large file in `a/b`.
    fn new() -> Self {
        let place = Self { hub: FakeHub::start(), cache: tempfile::tempdir().unwrap() };
        place.hub.put(MODEL, "config.json", b"{\"x\": 1}", false);
        place.hub.put(MODEL, "model.safetensors", &large(), true);
        place
    }

    fn settings(&self, offline: bool) -> Settings {
        Settings {
            cache: Some(self.cache.path().to_owned()),
            endpoint: Some(self.hub.endpoint.clone()),
            token: Some("secret".to_owned()),
            offline,
            patience: Patience { retries: 2, wait: Duration::from_millis(1), longest: Duration::from_millis(1500) },
        }
    }

    fn repository(&self, text: &str) -> Result<Repository, Error> {
        Hub::new(self.settings(false)).unwrap().repository(Sort::Model, text)
    }

    fn offline(&self, text: &str) -> Result<Repository, Error> {
        Hub::new(self.settings(true)).unwrap().repository(Sort::Model, text)
    }

    fn get(&self, file: &str) -> Result<PathBuf, Error> {
        self.repository("hub:a/b").unwrap().get(file, &Silent)
    }

    /// Names of what the cache holds of contents.
    fn blobs(&self) -> Vec<String> {
        let folder = self.cache.path().join("models--a--b/blobs");
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn partial(&self) -> PathBuf {
        self.cache.path().join(format!("models--a--b/blobs/{}.incomplete", sha256(&large())))
    }

    /// The large file did not come, and nothing passes for it.
    fn refused(&self) -> (String, String) {
        let (_, message, help) = told(self.get("model.safetensors").unwrap_err());
        assert!(!self.cache.path().join(format!("models--a--b/snapshots/{COMMIT}/model.safetensors")).exists());
        assert!(!self.cache.path().join("models--a--b/blobs").join(sha256(&large())).exists());
        (message, help)
    }
}

/// Bytes that are not a repetition of a few.
fn large() -> Vec<u8> {
    (0..300_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

/// Whether an error is the machine's or the network's fault, its text, and what to do.
fn told(error: Error) -> (bool, String, String) {
    match error {
        Error::Data { message, help } => (false, message, help.unwrap()),
        Error::Environment { message, help } => (true, message, help.unwrap()),
        other => panic!("{other}"),
    }
}

#[test]
fn files_come_once_and_then_from_the_cache() {
    let place = Place::new();
    let repository = place.repository("hub:a/b").unwrap();
    let files = ["config.json".to_owned(), "model.safetensors".to_owned()];
    assert_eq!((repository.commit(), repository.files()), (Some(COMMIT), files.as_slice()));
    let path = repository.get("config.json", &Silent).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"x\": 1}");
    let asked = place.hub.seen().len();
    assert_eq!(repository.get("config.json", &Silent).unwrap(), path);
    assert_eq!(place.hub.seen().len(), asked);
    let branch = place.offline("a/b").unwrap();
    assert_eq!((branch.commit(), branch.get("config.json", &Silent).unwrap()), (Some(COMMIT), path.clone()));
    // The second file was never asked for: the cache does not pass for the whole repository.
    assert_eq!(branch.files(), files);
    let error = branch.get("model.safetensors", &Silent).unwrap_err();
    assert!(error.to_string().contains("model.safetensors is not in the hub's cache, and the network is off limits"), "{error}");
    assert_eq!(place.offline(&format!("a/b@{COMMIT}")).unwrap().get("config.json", &Silent).unwrap(), path);
    assert!(branch.get("../x", &Silent).unwrap_err().to_string().contains("no plain file name"));
}

#[test]
fn the_cache_is_laid_out_as_hugging_face_does() {
    let place = Place::new();
    place.hub.put(MODEL, "1_Pooling/sub folder/config.json", b"deep", false);
    let repository = place.repository("hub:a/b").unwrap();
    for file in repository.files().to_vec() {
        repository.get(&file, &Silent).unwrap();
    }
    let folder = place.cache.path().join("models--a--b");
    let link = |file: &str| std::fs::read_link(folder.join("snapshots").join(COMMIT).join(file)).unwrap();
    assert_eq!(link("model.safetensors"), Path::new("../../blobs").join(sha256(&large())));
    assert_eq!(link("1_Pooling/sub folder/config.json"), Path::new("../../../../blobs").join(&sha256(b"deep")[..40]));
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    let mut expected = vec![sha256(b"{\"x\": 1}")[..40].to_owned(), sha256(&large()), sha256(b"deep")[..40].to_owned()];
    expected.sort();
    assert_eq!(place.blobs(), expected);
}

#[test]
fn large_files_come_from_elsewhere_and_the_token_does_not_go_there() {
    let place = Place::new();
    let path = place.get("model.safetensors").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), large());
    let (elsewhere, here): (Vec<_>, Vec<_>) = place.hub.seen().into_iter().partition(|seen| seen.elsewhere);
    assert!(elsewhere.len() == 1 && elsewhere[0].token.is_none(), "{elsewhere:?}");
    assert!(here.iter().all(|seen| seen.token.as_deref() == Some("Bearer secret")), "{here:?}");
    let resolve = format!("/a/b/resolve/{COMMIT}/model.safetensors");
    assert_eq!(place.hub.lines("resolve"), [format!("HEAD {resolve}"), format!("GET {resolve}")]);
}

#[test]
fn a_repository_that_moved_is_found_at_its_new_place() {
    let place = Place::new();
    place.hub.moved("models/old/name", MODEL);
    let repository = place.repository("old/name").unwrap();
    for file in ["config.json", "model.safetensors"] {
        let path = repository.get(file, &Silent).unwrap();
        assert!(path.starts_with(place.cache.path().join("models--old--name")));
    }
    assert!(place.hub.seen().iter().all(|seen| seen.token.is_some() != seen.elsewhere));
    place.hub.fail("/config.json", Fault::Status(302, vec![("Location", format!("/a/b/resolve/{COMMIT}/config.json"))]), 99);
    let (_, message, _) = told(place.get("config.json").unwrap_err());
    assert!(message.ends_with("config.json: the answer of the hub redirects more than 10 times"), "{message}");
}

#[test]
fn etags_are_taken_in_every_form_and_never_as_paths() {
    for (etag, blob) in [("\"quoted\"", "quoted"), ("bare", "bare"), ("W/\"weak\"", "weak")] {
        let place = Place::new();
        place.hub.fail("/config.json", Fault::Header("ETag", etag.to_owned()), 2);
        place.get("config.json").unwrap();
        assert_eq!(place.blobs(), [blob]);
    }
    let place = Place::new();
    place.hub.fail("/config.json", Fault::Header("ETag", "\"../../evil\"".to_owned()), 2);
    assert!(place.get("config.json").unwrap_err().to_string().contains("strange etag"));
}

#[test]
fn a_cut_download_is_continued_where_it_broke_off() {
    let place = Place::new();
    place.hub.fail("GET /large/", Fault::Cut(100_000), 1);
    let path = place.get("model.safetensors").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), large());
    let ranges: Vec<_> = place.hub.seen().into_iter().filter(|seen| seen.elsewhere).map(|seen| seen.range).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-".to_owned())]);
}

#[test]
fn a_later_run_continues_what_an_earlier_one_left() {
    let place = Place::new();
    place.hub.fail("GET /large/", Fault::Cut(100_000), 1);
    place.hub.fail("GET /large/", Fault::Hangup, 99);
    let (message, help) = place.refused();
    assert!(message.starts_with("hub:a/b: model.safetensors: ") && !help.is_empty(), "{message}");
    assert_eq!(std::fs::read(place.partial()).unwrap(), &large()[..100_000]);
    let next = Place { hub: Place::new().hub, ..place };
    // Also where the first question of the new run fails: what is there is not written twice.
    next.hub.fail("GET /large/", Fault::Status(503, vec![]), 1);
    assert_eq!(std::fs::read(next.get("model.safetensors").unwrap()).unwrap(), large());
    let ranges: Vec<_> = next.hub.seen().into_iter().filter(|seen| seen.elsewhere).map(|seen| seen.range.unwrap()).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=100000-"]);
    assert!(!next.partial().exists());
}

#[test]
fn a_download_that_comes_on_step_by_step_is_not_given_up() {
    let place = Place::new();
    place.hub.fail("GET /large/", Fault::Cut(50_000), 5);
    assert_eq!(std::fs::read(place.get("model.safetensors").unwrap()).unwrap(), large());
    let stuck = Place::new();
    stuck.hub.fail("GET /large/", Fault::Cut(0), 99);
    let (message, _) = stuck.refused();
    assert!(message.ends_with("the download broke off after 0 of 300000 bytes"), "{message}");
    assert_eq!(stuck.hub.lines("GET /large/").len(), 3);
}

#[test]
fn a_server_that_does_not_continue_is_taken_from_the_start() {
    let place = Place::new();
    place.hub.fail("GET /large/", Fault::Cut(100_000), 1);
    place.hub.fail("GET /large/", Fault::WholeFile, 1);
    assert_eq!(std::fs::read(place.get("model.safetensors").unwrap()).unwrap(), large());
    let other = Place::new();
    other.hub.fail("GET /large/", Fault::Cut(100_000), 1);
    other.hub.fail("GET /large/", Fault::OtherRange, 1);
    assert_eq!(std::fs::read(other.get("model.safetensors").unwrap()).unwrap(), large());
}

#[test]
fn what_is_left_may_be_whole_too_long_or_rotten() {
    let leave = |content: &[u8]| {
        let place = Place::new();
        std::fs::create_dir_all(place.partial().parent().unwrap()).unwrap();
        std::fs::write(place.partial(), content).unwrap();
        assert_eq!(std::fs::read(place.get("model.safetensors").unwrap()).unwrap(), large());
        place.hub.lines("GET /large/").len()
    };
    // All of it came, and the process ended before it was put in place.
    assert_eq!(leave(&large()), 0);
    assert_eq!(leave(&[large(), vec![0]].concat()), 1);
    assert_eq!(leave(&[0; 1000]), 2);
    assert_eq!(leave(&vec![0; large().len()]), 1);
}

#[test]
fn a_wrong_size_is_an_error_and_nothing_is_kept() {
    let place = Place::new();
    place.hub.fail("GET /large/", Fault::Short(1), 99);
    let (message, help) = place.refused();
    assert!(message.ends_with("the hub says that it has 300000 bytes, and sends 299999"), "{message}");
    assert!(help.contains("nothing of it is kept") && !place.partial().exists());
    let long = Place::new();
    long.hub.fail("HEAD ", Fault::Header("X-Linked-Size", "299999".to_owned()), 99);
    assert!(long.refused().0.contains("it has 299999 bytes, and sends 300000"));
    // A body that does not say how long it is, and ends early, is a cut.
    let open = Place::new();
    open.hub.fail("GET /large/", Fault::Unsized(1000), 1);
    assert_eq!(std::fs::read(open.get("model.safetensors").unwrap()).unwrap(), large());
    assert_eq!(open.hub.seen().last().unwrap().range.as_deref(), Some("bytes=1000-"));
}

#[test]
fn another_content_of_the_same_size_is_an_error() {
    let place = Place::new();
    place.hub.fail("GET /large/", Fault::Flipped, 99);
    let (message, help) = place.refused();
    assert!(message.ends_with("its SHA-256 is another") && help.contains("nothing of it is kept"), "{message}");
    assert!(!place.partial().exists());
}

#[test]
fn a_busy_hub_is_asked_again_after_the_wait_that_it_asks_for() {
    let place = Place::new();
    let busy = |wait: &str| Fault::Status(429, vec![("Retry-After", wait.to_owned())]);
    place.hub.fail("GET /api/", busy("1"), 1);
    let started = Instant::now();
    let repository = place.repository("a/b").unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    place.hub.fail("HEAD ", busy("0"), 1);
    place.hub.fail("GET /a/b/resolve", busy("0"), 1);
    repository.get("config.json", &Silent).unwrap();
    assert_eq!(place.hub.lines("config.json").len(), 4);
    place.hub.fail("GET /api/", busy("0"), 99);
    let (environment, message, _) = told(place.repository("a/b").err().unwrap());
    assert!(environment && message == "hub:a/b: the hub is asked too often (429)", "{message}");
    assert_eq!(place.hub.lines("GET /api/").len(), 2 + 3);
}

#[test]
fn a_hub_that_asks_for_an_hour_is_not_waited_for() {
    let place = Place::new();
    place.hub.fail("GET /api/", Fault::Status(429, vec![("Retry-After", "3600".to_owned())]), 99);
    let (_, message, help) = told(place.repository("a/b").err().unwrap());
    assert!(message.contains("(429)") && help.contains("wait 3600 s"), "{message} {help}");
    assert_eq!(place.hub.seen().len(), 1);
}

#[test]
fn failures_of_the_hub_pass_and_refusals_do_not() {
    let place = Place::new();
    for (holds, code) in [("GET /api/", 500), ("GET /api/", 502), ("HEAD ", 503), ("GET /large", 504)] {
        place.hub.fail(holds, Fault::Status(code, vec![]), 1);
    }
    place.hub.fail("GET /large", Fault::Hangup, 1);
    assert_eq!(std::fs::read(place.get("model.safetensors").unwrap()).unwrap(), large());
    place.hub.fail("GET /api/", Fault::Status(503, vec![]), 99);
    let (environment, message, _) = told(place.repository("a/b").err().unwrap());
    assert!(environment && message == "hub:a/b: the hub answers with status 503", "{message}");
    let refusals = [
        (401, true, "the hub knows no such repository, or it is private (401)", "HF_TOKEN"),
        (403, true, "the hub refuses access (403)", "HF_TOKEN"),
        (404, false, "the hub has no such repository, revision or file (404)", "after `@`"),
    ];
    for (code, machine, text, help) in refusals {
        let place = Place::new();
        place.hub.fail("GET /api/", Fault::Status(code, vec![]), 99);
        let (environment, message, helped) = told(place.repository("a/b@v1").err().unwrap());
        assert_eq!((environment, message), (machine, format!("hub:a/b@v1: {text}")));
        assert!(helped.contains(help) && place.hub.seen().len() == 1, "{helped}");
    }
    let (_, message, _) = told(Place::new().get("absent.json").unwrap_err());
    assert_eq!(message, "hub:a/b: absent.json: the hub has no such repository, revision or file (404)");
}

#[test]
fn revisions_are_branches_tags_and_commits() {
    let place = Place::new();
    let other = "f".repeat(40);
    for revision in ["v1.0", "refs/pr/5"] {
        place.hub.put_at(MODEL, revision, &other, "config.json", b"other", false);
    }
    for (revision, commit, text) in
        [("main", COMMIT, "{\"x\": 1}"), ("v1.0", &other, "other"), ("refs/pr/5", &other, "other"), (&other, &other, "other")]
    {
        let asked = format!("a/b@{revision}");
        let repository = place.repository(&asked).unwrap();
        let path = repository.get("config.json", &Silent).unwrap();
        assert_eq!((repository.commit(), std::fs::read_to_string(&path).unwrap().as_str()), (Some(commit), text), "{revision}");
        assert_eq!(place.offline(&asked).unwrap().get("config.json", &Silent).unwrap(), path, "{revision}");
    }
    assert_eq!(place.hub.lines("refs%2Fpr%2F5").len(), 1);
    // A branch that moves while its files are read: the commit that was looked up counts.
    let repository = place.repository("a/b").unwrap();
    place.hub.put_at(MODEL, "main", &other, "model.safetensors", b"moved on", true);
    assert_eq!(std::fs::read(repository.get("model.safetensors", &Silent).unwrap()).unwrap(), large());
}

#[test]
fn data_sets_have_addresses_of_their_own() {
    let place = Place::new();
    place.hub.put("datasets/squad", "plain_text/train.parquet", b"rows", true);
    let hub = Hub::new(place.settings(false)).unwrap();
    let repository = hub.repository(Sort::Dataset, "hub:squad").unwrap();
    let path = repository.get("plain_text/train.parquet", &Silent).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"rows");
    assert!(path.starts_with(place.cache.path().join("datasets--squad")));
    assert_eq!(place.hub.lines("HEAD "), [format!("HEAD /datasets/squad/resolve/{COMMIT}/plain_text/train.parquet")]);
}

#[test]
fn names_that_are_no_repository_are_refused_without_asking() {
    let place = Place::new();
    for text in ["", "a/b/c", "../b", "a b", "a/b@", "a/b@../x", "a/?x"] {
        let (environment, message, _) = told(place.repository(text).err().unwrap());
        assert!(!environment && (message.contains("is no repository") || message.contains("is no revision")), "{text}: {message}");
    }
    place.hub.put(MODEL, "../evil", b"x", false);
    assert_eq!(place.repository("a/b").unwrap().files(), ["config.json", "model.safetensors"]);
    assert_eq!(place.hub.seen().len(), 1);
}

#[test]
fn the_environment_says_where_and_who() {
    let home = tempfile::tempdir().unwrap();
    let read = |variables: &[(&str, &str)]| {
        Settings::from_variables(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    };
    let cache = |variables: &[(&str, &str)]| read(variables).cache.map(|path| path.display().to_string());
    assert_eq!(cache(&[]), None);
    assert_eq!(cache(&[("HOME", "/h")]).unwrap(), "/h/.cache/huggingface/hub");
    assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap(), "/x/huggingface/hub");
    assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "/hf")]).unwrap(), "/hf/hub");
    assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/elsewhere")]).unwrap(), "/elsewhere");
    std::fs::write(home.path().join("token"), "left\n").unwrap();
    let left = ("HF_HOME", home.path().to_str().unwrap());
    assert_eq!(read(&[left]).token.as_deref(), Some("left"));
    assert_eq!(read(&[left, ("HF_TOKEN", "given")]).token.as_deref(), Some("given"));
    assert_eq!(read(&[("HF_TOKEN", "")]).token, None);
    assert_eq!(read(&[("HF_ENDPOINT", "http://mirror")]).endpoint.as_deref(), Some("http://mirror"));
    for (value, offline) in [("1", true), ("ON", true), ("yes", true), ("0", false), ("False", false), ("", false)] {
        assert_eq!(read(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
    }
    assert!(Hub::new(read(&[])).is_err_and(|error| told(error).2.contains("HF_HOME")));
    let wrong = Hub::new(Settings { cache: Some("/x".into()), endpoint: Some("mirror".to_owned()), ..Settings::default() });
    assert!(wrong.is_err_and(|error| told(error).1.contains("HF_ENDPOINT is \"mirror\"")));
}

#[test]
fn a_mirror_may_lie_under_a_path() {
    let place = Place::new();
    let hub = Hub::new(Settings { endpoint: Some(format!("{}/mirror/", place.hub.endpoint)), ..place.settings(false) }).unwrap();
    assert!(hub.repository(Sort::Model, "a/b").is_err());
    assert_eq!(place.hub.lines(""), ["GET /mirror/api/models/a/b/revision/main"]);
}

#[test]
fn several_at_once_download_once() {
    let place = Place::new();
    place.hub.fail("GET /large/", Fault::Cut(100_000), 1);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| std::fs::read(place.get("model.safetensors").unwrap()).unwrap())).collect();
        readers.into_iter().for_each(|reader| assert!(reader.join().unwrap() == large()));
    });
    assert_eq!(place.hub.lines("GET /large/").len(), 2);
}

#[test]
fn no_network_is_the_machines_lack() {
    let place = Place::new();
    let away = Settings { endpoint: Some("http://127.0.0.1:1".to_owned()), ..place.settings(false) };
    let (environment, message, help) = told(Hub::new(away).unwrap().repository(Sort::Model, "a/b").err().unwrap());
    assert!(environment && help.contains("HF_ENDPOINT"), "{message}");
    let (environment, message, _) = told(place.offline("a/b").err().unwrap());
    assert!(environment && message.contains("not in the hub's cache"), "{message}");
    assert!(place.hub.seen().is_empty());
}
