//! The worker's side of the protocol: one request on standard input, JSON lines on standard output.

use std::io::{BufRead, Write};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use qapipe_engine::{ErrorClass, Reporter, Request, Say, StageCx, StageError};

use crate::kinds::{Runner, runner};

/// Progress lines come no closer together than this, but for the last one.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How long a stage may go on after the command that asked for it is gone.
const GRACE: Duration = Duration::from_secs(20);

/// Serves one request: reads it from `input`, runs its stage, says how it went on `output`. A line `cancel` and the end of
/// the input both ask the stage to stop. An error in `ready` is all that it then says. Returns whether the stage finished.
pub fn serve<R, W>(mut input: R, output: W, ready: Result<(), StageError>) -> bool
where
    R: BufRead + Send + 'static,
    W: Write + Send,
{
    let speaker = Speaker::new(output);
    if ready.is_err() {
        return speaker.end(ready);
    }
    let mut line = String::new();
    let request = match input.read_line(&mut line) {
        Ok(0) => return speaker.end(Err(StageError::bug("no request came"))),
        Ok(_) => serde_json::from_str::<Request>(&line).map_err(|e| StageError::bug(format!("the request cannot be read: {e}"))),
        Err(e) => Err(StageError::bug(format!("the request cannot be read: {e}"))),
    };
    let request = match request {
        Ok(request) => request,
        Err(error) => return speaker.end(Err(error)),
    };
    let Some(run) = runner(&request.kind) else {
        return speaker.end(Err(StageError::bug(format!("the worker knows no kind {:?}", request.kind))));
    };
    let cancel = Arc::new(AtomicBool::new(false));
    listen(input, Arc::clone(&cancel));
    let result = guarded(run, &StageCx { request: &request, reporter: &speaker, cancel: &cancel });
    speaker.end(result)
}

/// Waits for `cancel` or the end of the input on a thread of its own. When the input ended, the other side is gone: a stage
/// that does not stop by itself is then stopped with the process.
fn listen<R: BufRead + Send + 'static>(input: R, cancel: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let told = input.lines().map_while(Result::ok).any(|line| line.trim() == "cancel");
        cancel.store(true, Ordering::Relaxed);
        if !told && !cfg!(test) {
            std::thread::sleep(GRACE);
            std::process::exit(1);
        }
    });
}

/// Runs a stage so that a panic becomes an error.
fn guarded(run: Runner, cx: &StageCx<'_>) -> Result<(), StageError> {
    let place = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&place);
    std::panic::set_hook(Box::new(move |info| {
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }));
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| run(cx)));
    drop(std::panic::take_hook());
    caught.unwrap_or_else(|payload| {
        let at = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(panicked(&said(payload.as_ref()), &at))
    })
}

/// The text of a panic.
fn said(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()));
    text.unwrap_or_else(|| "a panic without a message".to_owned())
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
        let error = guarded(|_| unreachable!("poked"), &cx).err();
        assert!(error.is_some_and(|e| e.class == ErrorClass::Bug && e.message.contains("poked") && e.message.contains("serve.rs")));
    }
}
