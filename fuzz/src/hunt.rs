//! One reader and the inputs that it gets.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::mutate::mutate;

/// Inputs for each reader where nothing else is asked for.
const USUAL: u64 = 2000;
/// No reader takes as long as this for one input, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many inputs are kept to go on from.
const KEPT: usize = 4000;
/// Hunts of one process measure the same memory.
static ALONE: Mutex<()> = Mutex::new(());

/// A hunt for inputs that break one reader.
pub struct Hunt<'a> {
    /// What the reader is called.
    pub name: &'a str,
    /// Good inputs; at least one.
    pub corpus: Vec<Vec<u8>>,
    /// What means something in them.
    pub words: &'a [&'a str],
    /// Bytes that the reader may take for each byte of its input.
    pub factor: usize,
    /// Bytes that it may take besides.
    pub base: usize,
}

impl Hunt<'_> {
    /// Gives the reader one input after the other: the good ones, then damaged ones. It says in a few words what it made of each.
    ///
    /// # Panics
    /// Where the reader does, where it takes too much memory, and where an input takes longer than a minute; the input is left behind.
    pub fn run(self, read: impl Fn(&[u8]) -> String) {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let trace = Trace::new(self.name);
        let seed = asked("QAPIPE_SEED").unwrap_or(1);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut pool, mut heard) = (self.corpus.clone(), HashSet::new());
        let count = asked("QAPIPE_FUZZ").unwrap_or(USUAL);
        for number in 0..count {
            let good = usize::try_from(number).ok().and_then(|number| self.corpus.get(number));
            let input = match good {
                Some(good) => good.clone(),
                None => mutate(&pool[random.random_range(0..pool.len())], &self.corpus, self.words, &mut random),
            };
            let said = self.one(&trace, &input, &read);
            if heard.insert(said) && pool.len() < KEPT {
                pool.push(input);
            }
        }
        println!("{}: {count} inputs, {} different answers, seed {seed}", self.name, heard.len());
    }

    fn one(&self, trace: &Trace, input: &[u8], read: &impl Fn(&[u8]) -> String) -> String {
        trace.begin(input);
        PeakAlloc.reset_peak_usage();
        let before = PeakAlloc.current_usage();
        let (said, broken) = quietly(|| read(input)).map_or_else(|what| (String::new(), what), |said| (said, String::new()));
        assert!(broken.is_empty(), "{}: {broken}: {}", self.name, trace.input.display());
        let taken = PeakAlloc.peak_usage().saturating_sub(before);
        let most = self.base + self.factor * input.len();
        assert!(taken <= most, "{}: {taken} bytes of memory for an input of {}: {}", self.name, input.len(), trace.input.display());
        trace.end();
        shape(&said)
    }
}

/// Runs a reader; gives the message of a panic that it lets out. One that it catches itself is its own business, and what the usual hook does with
/// it, a backtrace, takes more memory than any reader.
fn quietly<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    let usual = std::panic::take_hook();
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    std::panic::set_hook(Box::new(move |info| *heard.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string()));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    std::panic::set_hook(usual);
    done.map_err(|_| said.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// What was said, without what differs from input to input: its words.
fn shape(said: &str) -> String {
    let words = said.split(|letter: char| !letter.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    words.take(20).collect::<Vec<_>>().join(" ")
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Where an input lies while it is read, so that one which ends the process is found; and a watch over how long that takes.
struct Trace {
    input: PathBuf,
    /// Milliseconds from the start of the hunt to that of the input at hand; 0 while there is none.
    since: &'static AtomicU64,
    start: Instant,
}

impl Trace {
    fn new(name: &str) -> Self {
        let since: &'static AtomicU64 = Box::leak(Box::default());
        let trace = Self { input: folder().join(format!("fuzz-{name}.input")), since, start: Instant::now() };
        let (start, input) = (trace.start, trace.input.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let begun = Duration::from_millis(since.load(Ordering::Relaxed));
                if !begun.is_zero() && start.elapsed().saturating_sub(begun) > PATIENCE {
                    eprintln!("an input takes more than {} s: {}", PATIENCE.as_secs(), input.display());
                    std::process::abort();
                }
            }
        });
        trace
    }

    fn begin(&self, input: &[u8]) {
        // Without it the hunt still tells its seed.
        let _ = std::fs::write(&self.input, input);
        self.since.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

/// A folder for temporary files that is fast where there is one.
fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}
