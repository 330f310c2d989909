//! The worker's side of the protocol: requests on standard input, JSON lines on standard output.

use std::io::{BufRead, Write};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use qapipe_engine::{CANCEL, ErrorClass, GPU_PEAK, QUIET, Reporter, Request, Say, StageCx, StageError, panic_text};
use qapipe_nn::device;

use crate::figures;
use crate::kinds::{Runner, runner};
use crate::warm::Warm;

/// Progress lines come no closer together than this, but for the last one.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How long a stage may go on after the command that asked for it is gone.
const GRACE: Duration = Duration::from_secs(20);

/// Serves requests, one after the other: reads one from `input`, runs its stage, says how it went on `output`, and waits for the next. A line
/// `cancel` and the end of the input both ask a stage to stop. After a stage that failed nothing more is served: what it left behind is not
/// known. An error in `ready` is all that it then says. Returns whether all stages finished.
pub fn serve<R, W>(input: R, output: W, ready: Result<(), StageError>) -> bool
where
    R: BufRead + Send + 'static,
    W: Write + Send,
{
    let speaker = Speaker::new(output);
    if ready.is_err() {
        return speaker.end(ready);
    }
    // Before any stage: libtorch looks for CUDA once and remembers, and after a stage that needs none the next one may. What keeps it from being
    // loaded is told to the stage that asks for it.
    let _ = device::load_cuda();
    let (requests, cancel) = listen(input);
    let (warm, mut served) = (Warm::default(), 0);
    while let Ok(line) = requests.recv() {
        if !speaker.end(answer(&line, &speaker, &cancel, &warm)) {
            return false;
        }
        served += 1;
        device::give_back();
        eprintln!("{QUIET}");
    }
    served > 0 || speaker.end(Err(StageError::bug("no request came")))
}

/// Runs the stage of a request.
fn answer<W: Write + Send>(line: &str, speaker: &Speaker<W>, cancel: &AtomicBool, warm: &Warm) -> Result<(), StageError> {
    let request: Request = serde_json::from_str(line).map_err(|e| StageError::bug(format!("the request cannot be read: {e}")))?;
    let run = runner(&request.kind).ok_or_else(|| StageError::bug(format!("the worker knows no kind {:?}", request.kind)))?;
    guarded(run, &StageCx { request: &request, reporter: speaker, cancel }, warm)?;
    tell_memory(&request, speaker);
    Ok(())
}

/// What the stage held of its GPU: by that, the next run judges what fits beside it.
#[allow(clippy::cast_precision_loss)]
fn tell_memory(request: &Request, reporter: &dyn Reporter) {
    let held = device::resolve(&request.device).ok().and_then(|place| figures::held(place).ok().flatten());
    held.into_iter().for_each(|bytes| reporter.measure(GPU_PEAK, bytes as f64));
}

/// Reads the input on a thread of its own: requests, and `cancel` among them or the end, which both ask the stage that runs to stop. When the
/// input ended, the other side is gone: a stage that does not stop by itself is then stopped with the process.
fn listen<R: BufRead + Send + 'static>(input: R) -> (Receiver<String>, Arc<AtomicBool>) {
    let (sender, requests) = channel();
    let cancel = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&cancel);
    std::thread::spawn(move || {
        for line in input.lines().map_while(Result::ok) {
            if line.trim() == CANCEL {
                told.store(true, Ordering::Relaxed);
            } else if sender.send(line).is_err() {
                return;
            }
        }
        drop(sender);
        if !told.swap(true, Ordering::Relaxed) && !cfg!(test) {
            std::thread::sleep(GRACE);
            std::process::exit(1);
        }
    });
    (requests, cancel)
}

/// Runs a stage so that a panic becomes an error.
fn guarded(runner: Runner, cx: &StageCx<'_>, warm: &Warm) -> Result<(), StageError> {
    let place = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&place);
    std::panic::set_hook(Box::new(move |info| {
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }));
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| runner.run(cx, warm)));
    drop(std::panic::take_hook());
    caught.unwrap_or_else(|payload| {
        let at = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(panicked(panic_text(payload.as_ref()), &at))
    })
}

/// What a panic means: libtorch's memory errors are no bug, whichever way they come.
fn panicked(message: &str, at: &str) -> StageError {
    if crate::error::is_out_of_memory(message) {
        return crate::error::out_of_memory(message);
    }
    let first = message.lines().next().unwrap_or_default();
    StageError::new(ErrorClass::Bug, format!("the stage panicked at {at}: {first}")).help("this is a bug of qapipe; please report it")
}

/// Speaks the protocol on one stream.
struct Speaker<W> {
    state: Mutex<State<W>>,
}

struct State<W> {
    output: W,
    last: Option<Instant>,
}

impl<W: Write + Send> Speaker<W> {
    fn new(output: W) -> Self {
        Self { state: Mutex::new(State { output, last: None }) }
    }

    /// Says one thing. When nobody listens any more, nothing is to be done about it: the end of the input tells the stage.
    fn say(&self, say: &Say) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(mut line) = serde_json::to_vec(say) {
            line.push(b'\n');
            let _ = state.output.write_all(&line).and_then(|()| state.output.flush());
        }
    }

    /// Says how the stage ended; gives whether it finished.
    fn end(&self, result: Result<(), StageError>) -> bool {
        let finished = result.is_ok();
        self.say(&result.map_or_else(|error| Say::Error { error }, |()| Say::Done));
        finished
    }

    /// Whether a progress line is due.
    fn due(&self, last_one: bool) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last_one || state.last.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY);
        if due {
            state.last = Some(Instant::now());
        }
        due
    }
}

impl<W: Write + Send> Reporter for Speaker<W> {
    fn progress(&self, done: u64, total: u64, unit: &str, note: &str) {
        if self.due(done == total) {
            self.say(&Say::Progress { done, total, unit: unit.to_owned(), note: note.to_owned() });
        }
    }

    fn log(&self, line: &str) {
        self.say(&Say::Log { line: line.to_owned() });
    }

    fn measure(&self, name: &str, value: f64) {
        self.say(&Say::Measure { name: name.to_owned(), value });
    }

    fn fact(&self, name: &str, value: &str) {
        self.say(&Say::Fact { name: name.to_owned(), value: value.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_told_apart() {
        let bug = panicked("index out of bounds\nmore", "src/x.rs:3:4");
        assert_eq!(bug.class, ErrorClass::Bug);
        assert!(bug.message.contains("src/x.rs:3:4: index out of bounds") && !bug.message.contains("more"));
        let memory = panicked("called `Result::unwrap()`: Torch(\"CUDA out of memory. Tried to allocate 20 MiB\")", "x");
        assert_eq!(memory.class, ErrorClass::OutOfMemory);
    }

    #[test]
    fn a_panic_in_a_stage_becomes_an_error() {
        let request: Request = serde_json::from_value(serde_json::json!({
            "pipeline": "p", "stage": "s", "kind": "k", "values": {}, "inputs": {}, "outputs": {}, "folder": "/", "scratch": "/",
            "seed": 1, "device": "cpu", "threads": 1, "offline": true, "strict": false
        }))
        .unwrap_or_else(|e| unreachable!("{e}"));
        let (speaker, cancel) = (Speaker::new(Vec::new()), AtomicBool::new(false));
        let cx = StageCx { request: &request, reporter: &speaker, cancel: &cancel };
        let error = guarded(Runner::Alone(|_| unreachable!("poked")), &cx, &Warm::default()).err();
        assert!(error.is_some_and(|e| e.class == ErrorClass::Bug && e.message.contains("poked") && e.message.contains("serve.rs")));
    }
}
