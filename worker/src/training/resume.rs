//! What a training goes on from: its state now and then, kept where the next one of the same sort finds it.
//!
//! A state is all that steps hang on: masters, the optimiser's moments, how many passes there were (random numbers follow from it), which
//! step comes next (the order of the rows follows from it), and what the log would go on with. A training that goes on ends with the bits
//! of one that was never stopped, on the same device with as many threads.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use qapipe_cache::{Digest, Store};
use qapipe_engine::StageCx;
use qapipe_nn::{AdamW, Parameters, Snapshot, Weights};
use qapipe_stages::tables::{TrainingRow, read_table, write_table};
use serde::{Deserialize, Serialize};

use super::Evaluation;
use super::window::Pending;
use crate::error::Error;

/// Raised when states are written otherwise.
const FORMAT: u32 = 1;

/// Trainings whose states are kept, and most bytes of all of them: beyond either the oldest go.
const MOST_TRAININGS: usize = 8;
const MOST_BYTES: u64 = 16 << 30;

/// What is in a state's folder.
const NUMBERS: &str = "state.json";
const MASTERS: &str = "masters.safetensors";
const MOMENTS: &str = "moments.safetensors";
const BEST: &str = "best.safetensors";
const LOG: &str = "log.parquet";

/// Where a training keeps its states, and when.
pub struct Resume {
    /// All trainings.
    root: PathBuf,
    /// This one.
    folder: PathBuf,
    /// How long to wait between two states; none keeps none on the way.
    every: Option<Duration>,
    last: Instant,
    /// Whether a longer training may go on from the end of this one.
    pub goes_on: bool,
}

/// All of a training between two steps but its tensors.
pub(super) struct State {
    pub step: usize,
    pub pass: u64,
    pub examples: u64,
    pub tokens: u64,
    pub seconds: f64,
    pub pending: Pending,
    pub log: Vec<TrainingRow>,
    pub last: Option<(Evaluation, usize)>,
    pub best: Option<Evaluation>,
}

/// A state's numbers as they are written: floating-point ones by their bits.
#[derive(Serialize, Deserialize)]
struct Numbers {
    format: u32,
    step: usize,
    pass: u64,
    examples: u64,
    tokens: u64,
    seconds: u64,
    pending: Pending,
    last: Option<([u64; 2], Option<u64>, usize)>,
    best: Option<([u64; 2], Option<u64>)>,
    files: BTreeMap<String, Digest>,
}

impl Resume {
    /// Opens the states of trainings of an identity, and lets go of what is done or too much. `goes_on`: whether a longer training may go
    /// on from the end.
    pub fn open(cx: &StageCx<'_>, identity: &Digest, seconds: u64, goes_on: bool) -> Self {
        let root = cx.request.trainings.clone();
        let folder = root.join(identity.to_string());
        let every = (seconds > 0).then(|| Duration::from_secs(seconds));
        let resume = Self { root, folder, every, last: Instant::now(), goes_on };
        if cx.request.anew {
            let _ = fs::remove_dir_all(&resume.folder);
        }
        resume.tidy();
        resume
    }

    /// The states that a training of so many steps can go on from, the furthest first.
    pub(super) fn states(&self, most: usize) -> Vec<PathBuf> {
        let mut found: Vec<(usize, PathBuf)> = steps(&self.folder).into_iter().filter(|(step, _)| *step <= most).collect();
        found.sort_by_key(|(step, _)| Reverse(*step));
        found.into_iter().map(|(_, path)| path).collect()
    }

    /// Whether it is time to keep a state. One that takes long to write is written less often.
    pub(super) fn is_due(&self) -> bool {
        self.every.is_some_and(|every| self.last.elapsed() >= every)
    }

    /// Whether states are kept on the way.
    pub(super) fn keeps(&self) -> bool {
        self.every.is_some()
    }

    /// Keeps a state; those before it go once it is whole. What goes wrong costs the state and not the training.
    pub(super) fn keep(&mut self, state: &State, write: impl FnOnce(&Path) -> Result<(), Error>, cx: &StageCx<'_>) {
        let started = Instant::now();
        if let Err(error) = self.put(state, write) {
            cx.reporter.log(&format!("step {}: the state of the training could not be kept: {error}", state.step));
        }
        self.last = Instant::now();
        const SHARE: u32 = 50;
        self.every = self.every.map(|every| every.max(started.elapsed() * SHARE));
    }

    fn put(&self, state: &State, write: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
        let place = self.folder.join(state.step.to_string());
        let new = self.folder.join(format!("{}.{}.new", state.step, std::process::id()));
        let _ = fs::remove_dir_all(&new);
        fs::create_dir_all(&new).map_err(Error::io(&new))?;
        let written = write(&new).and_then(|()| state.write(&new)).and_then(|()| {
            let _ = fs::remove_dir_all(&place);
            fs::rename(&new, &place).map_err(Error::io(&place))
        });
        if written.is_err() {
            let _ = fs::remove_dir_all(&new);
            return written;
        }
        for (step, path) in steps(&self.folder) {
            if step < state.step {
                let _ = fs::remove_dir_all(path);
            }
        }
        Ok(())
    }

    /// The training is done; where a longer one cannot go on from its end, its states are no longer needed once its model is kept.
    pub(super) fn finish(&self) {
        if !self.goes_on && self.folder.exists() {
            let _ = fs::write(self.folder.join(Store::TRAINING_DONE), "");
        }
    }

    /// Lets go of trainings that are done, and of the oldest where there are too many. Their loss costs time alone, and so does a failure here.
    fn tidy(&self) {
        let mut others: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| *path != self.folder)
            .map(|path| (fs::metadata(&path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH), path))
            .collect();
        others.sort_by_key(|(modified, _)| Reverse(*modified));
        let (mut kept, mut bytes) = (1, 0);
        for (_, path) in others {
            let own = size(&path);
            if path.join(Store::TRAINING_DONE).exists() || kept >= MOST_TRAININGS || bytes + own > MOST_BYTES {
                let _ = fs::remove_dir_all(&path);
            } else {
                (kept, bytes) = (kept + 1, bytes + own);
            }
        }
    }
}

/// The states in a training's folder, by the step that comes next.
fn steps(folder: &Path) -> Vec<(usize, PathBuf)> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path))).collect()
}

/// Bytes of a training's states.
fn size(folder: &Path) -> u64 {
    let files = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().collect::<Vec<_>>();
    let own = |entry: &fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
    files(folder).iter().map(|state| files(&state.path()).iter().map(own).sum::<u64>()).sum()
}

impl State {
    /// Writes the numbers, once everything else is in the folder, and sees to it that all of it is on the disk.
    fn write(&self, folder: &Path) -> Result<(), Error> {
        write_table(&folder.join(LOG), &self.log)?;
        let mut files = BTreeMap::new();
        for name in [MASTERS, MOMENTS, BEST, LOG] {
            let path = folder.join(name);
            if path.exists() {
                files.insert(name.to_owned(), Digest::of_file(&path).map_err(Error::io(&path))?);
                File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io(&path))?;
            }
        }
        let path = folder.join(NUMBERS);
        let text = serde_json::to_vec(&self.numbers(files)).map_err(|error| Error::failed(error.to_string()))?;
        fs::write(&path, text).and_then(|()| File::open(&path)?.sync_all()).map_err(Error::io(&path))
    }

    fn numbers(&self, files: BTreeMap<String, Digest>) -> Numbers {
        Numbers {
            format: FORMAT,
            step: self.step,
            pass: self.pass,
            examples: self.examples,
            tokens: self.tokens,
            seconds: self.seconds.to_bits(),
            pending: self.pending.clone(),
            last: self.last.map(|(found, step)| (bits(&found).0, bits(&found).1, step)),
            best: self.best.as_ref().map(bits),
            files,
        }
    }

    /// Reads what [`State::write`] wrote; nothing of a folder is trusted whose files are not what its numbers say.
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(NUMBERS);
        let text = fs::read(&path).map_err(Error::io(&path))?;
        let numbers: Numbers = serde_json::from_slice(&text).map_err(|error| Error::failed(format!("{}: {error}", path.display())))?;
        if numbers.format != FORMAT {
            return Err(Error::failed(format!("{} is of another version", path.display())));
        }
        for (name, digest) in &numbers.files {
            let path = folder.join(name);
            if Digest::of_file(&path).map_err(Error::io(&path))? != *digest {
                return Err(Error::failed(format!("{} is damaged", path.display())));
            }
        }
        Ok(Self {
            step: numbers.step,
            pass: numbers.pass,
            examples: numbers.examples,
            tokens: numbers.tokens,
            seconds: f64::from_bits(numbers.seconds),
            pending: numbers.pending,
            log: read_table(&folder.join(LOG))?,
            last: numbers.last.map(|(numbers, threshold, step)| (evaluation(numbers, threshold), step)),
            best: numbers.best.map(|(numbers, threshold)| evaluation(numbers, threshold)),
        })
    }
}

fn bits(found: &Evaluation) -> ([u64; 2], Option<u64>) {
    ([found.exact.to_bits(), found.f1.to_bits()], found.null_threshold.map(f64::to_bits))
}

fn evaluation([exact, f1]: [u64; 2], threshold: Option<u64>) -> Evaluation {
    Evaluation { exact: f64::from_bits(exact), f1: f64::from_bits(f1), null_threshold: threshold.map(f64::from_bits) }
}

/// Writes the tensors of a state.
pub(super) fn write_tensors(folder: &Path, parameters: &Parameters, optimiser: &AdamW, best: Option<&Snapshot>) -> Result<(), Error> {
    parameters.save_masters(&folder.join(MASTERS))?;
    optimiser.save(parameters, &folder.join(MOMENTS))?;
    best.map_or(Ok(()), |best| Ok(parameters.save_snapshot(best, &folder.join(BEST))?))
}

/// Puts the tensors of a state back; gives the best parameters that were evaluated, where they are kept.
pub(super) fn read_tensors(folder: &Path, parameters: &mut Parameters, optimiser: &mut AdamW) -> Result<Option<Snapshot>, Error> {
    parameters.load(&Weights::open(&folder.join(MASTERS)).map_err(qapipe_nn::NnError::from)?)?;
    optimiser.load(parameters, &folder.join(MOMENTS))?;
    let best = folder.join(BEST);
    if best.exists() { Ok(Some(parameters.read_snapshot(&best)?)) } else { Ok(None) }
}
