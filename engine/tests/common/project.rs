//! A folder with a pipeline in it, and runs of it as lists of events.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use qapipe_cache::Store;
use qapipe_engine::{Engine, Event, Kinds, Observer, Options, Outcome, Pipeline};

/// A temporary project.
pub struct Project {
    pub folder: tempfile::TempDir,
    pub kinds: Kinds,
}

/// What happened in one run: `cached a`, `started b: new stage`, `finished b`, `failed c: …`, `blocked d`, `restored e: out/y`, `kept e: out/y`,
/// `fetched f`, `in remote g`, `pushed h`, `warning: …`.
pub struct Run {
    pub events: Vec<String>,
    pub outcome: Outcome,
}

#[derive(Default)]
pub struct Heard(pub Mutex<Vec<String>>);

impl Observer for Heard {
    fn event(&self, event: &Event) {
        let text = match event {
            Event::Cached { stage, .. } => format!("cached {stage}"),
            Event::InRemote { stage, .. } => format!("in remote {stage}"),
            Event::Fetched { stage, .. } => format!("fetched {stage}"),
            Event::Pushed { stage, .. } => format!("pushed {stage}"),
            Event::Warning { message, .. } => format!("warning: {message}"),
            Event::Waiting { stage, .. } => format!("waiting {stage}"),
            Event::Started { stage, because, .. } => format!("started {stage}: {because}"),
            Event::Finished { stage, unchanged, .. } => format!("finished {stage}{}", if *unchanged { ", unchanged" } else { "" }),
            Event::Failed { stage, error } => format!("failed {stage}: {error}"),
            Event::Blocked { stage, by } => format!("blocked {stage} by {by}"),
            Event::Restored { stage, path } => format!("restored {stage}: {path}"),
            Event::Kept { stage, path, .. } => format!("kept {stage}: {path}"),
            Event::Damaged { stage, .. } => format!("damaged {stage}"),
            _ => return,
        };
        self.0.lock().unwrap().push(text);
    }
}

impl Project {
    pub fn new(kinds: Kinds, pipeline: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap(), kinds };
        project.write("pipeline.toml", pipeline);
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn edit(&self, from: &str, to: &str) {
        let text = self.read("pipeline.toml");
        assert!(text.contains(from), "no {from} in the pipeline");
        self.write("pipeline.toml", &text.replace(from, to));
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path(".qapipe")).unwrap()
    }

    pub fn engine(&self, options: Options) -> Engine {
        let pipeline = Pipeline::load(&self.path("pipeline.toml"), &self.kinds, &[]).unwrap();
        Engine::new(self.store(), pipeline, options).unwrap()
    }

    pub fn run(&self) -> Run {
        self.run_with(Options::default())
    }

    pub fn run_with(&self, options: Options) -> Run {
        let heard = Heard::default();
        let outcome = self.engine(options).run(&heard, &AtomicBool::new(false)).unwrap();
        Run { events: heard.0.into_inner().unwrap(), outcome }
    }
}

impl Run {
    /// The stages that ran, sorted by name.
    pub fn ran(&self) -> Vec<&str> {
        let mut ran: Vec<&str> =
            self.events.iter().filter_map(|event| event.strip_prefix("started ")).map(|rest| rest.split(':').next().unwrap()).collect();
        ran.sort_unstable();
        ran
    }

    pub fn has(&self, event: &str) -> bool {
        self.events.iter().any(|heard| heard == event)
    }
}

/// Waits until a file appears.
pub fn wait_for(path: &Path) {
    wait_until(|| path.exists(), &format!("{} never appeared", path.display()));
}

/// Waits until something holds, for 20 seconds at most.
pub fn wait_until(holds: impl Fn() -> bool, otherwise: &str) {
    for _ in 0..4000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{otherwise}");
}

/// Whether a process still runs; one that has ended but was not waited for does not.
pub fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z"))
}

/// Ends a process that escaped from its group on purpose.
pub fn kill(pid: &str) {
    if let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
