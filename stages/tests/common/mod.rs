//! What the tests share: running a stage without an engine, and finding real data.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use qapipe_cache::Digest;
use qapipe_engine::{Input, Reporter, Request, StageCx, StageError, StageKind, Values};
use qapipe_stages::examples::{Answer, Examples, Part, Question};
use serde_json::Value;

/// A reporter that keeps the log.
#[derive(Default)]
pub struct Log(pub Mutex<Vec<String>>);

impl Reporter for Log {
    fn progress(&self, _done: u64, _total: u64, _unit: &str, _note: &str) {}
    fn log(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
    fn measure(&self, _name: &str, _value: f64) {}
}

/// A stage to run: values as JSON, inputs by parameter.
pub fn run_logged(kind: &dyn StageKind, values: Value, inputs: &[(&str, &Path)], out: &Path, log: &Log) -> Result<(), StageError> {
    let mut map = serde_json::Map::new();
    for param in kind.params() {
        let value = match param.default {
            qapipe_engine::Default::Bool(truth) => Value::from(truth),
            qapipe_engine::Default::Int(number) => Value::from(number),
            qapipe_engine::Default::Float(number) => Value::from(number),
            qapipe_engine::Default::Str(text) => Value::from(text),
            _ => continue,
        };
        map.insert(param.name.to_owned(), value);
    }
    map.extend(values.as_object().unwrap().clone());
    let values = Values(map);
    std::fs::create_dir_all(out).unwrap();
    let input = |path: &Path| Input { path: path.to_owned(), digest: Digest::of_bytes(b"x"), from: None };
    let request = Request {
        pipeline: "test".to_owned(),
        stage: "stage".to_owned(),
        kind: kind.name().to_owned(),
        inputs: inputs.iter().map(|(name, path)| ((*name).to_owned(), input(path))).collect(),
        outputs: kind.outputs(&values).into_iter().map(|output| (output.name.clone(), out.join(output.name))).collect::<BTreeMap<_, _>>(),
        values,
        folder: PathBuf::from("."),
        scratch: out.to_owned(),
        seed: 1,
        device: "cpu".to_owned(),
        threads: 2,
        offline: true,
        strict: false,
        trainings: PathBuf::new(),
        rows: out.join("rows"),
        anew: false,
    };
    kind.run(&StageCx { request: &request, reporter: log, cancel: &AtomicBool::new(false) })
}

pub fn run(kind: &dyn StageKind, values: Value, inputs: &[(&str, &Path)], out: &Path) -> Result<(), StageError> {
    run_logged(kind, values, inputs, out, &Log::default())
}

/// Real data, where it is: `QAPIPE_SHARED`, or the folder `shared` beside the repository.
pub fn shared(path: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("QAPIPE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    let path = folder.join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not here", path.display());
    None
}

/// A dataset stage over files; the folder of the artifact.
pub fn dataset(values: Value, inputs: &[(&str, &Path)], out: &Path) -> Result<PathBuf, StageError> {
    run(&qapipe_stages::kinds::Dataset, values, inputs, out).map(|()| out.join("examples"))
}

pub fn question(id: &str, context: &str, question: &str, answers: &[(&str, u32)]) -> Question {
    Question {
        id: id.to_owned(),
        title: "title".into(),
        context: context.into(),
        question: question.to_owned(),
        answers: answers.iter().map(|(text, start)| Answer { text: (*text).to_owned(), start: *start }).collect(),
        impossible: answers.is_empty(),
    }
}

/// An examples artifact of these questions, as both parts.
pub fn examples(folder: &Path, questions: &[Question]) -> Examples {
    std::fs::create_dir_all(folder).unwrap();
    for part in Part::ALL {
        qapipe_stages::examples::write(&folder.join(part.file()), questions).unwrap();
    }
    qapipe_stages::examples::Info { name: "squad".to_owned(), version: "2.0".to_owned() }.write(folder).unwrap();
    Examples::open(&folder.join("dev.arrow")).unwrap()
}

/// All files of a folder with their bytes.
pub fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}
