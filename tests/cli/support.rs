//! A pipeline in a folder of its own, and what the command answers there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Three stages of one program: `first`, `second` after it, and `apart`.
pub(crate) const TOY: &str = r#"name = "toy"

[vars]
word = "hello"

[stages.first]
kind = "command"
run = ["sh", "{in.code}", "{in.x}", "{out.y}", "${vars.word}"]
inputs = { code = "step.sh", x = "in.txt" }
outputs = ["y"]

[stages.second]
kind = "command"
run = ["sh", "{in.code}", "{in.x}", "{out.y}", "again"]
inputs = { code = "step.sh", x = "@first" }
outputs = { y = "out/second.txt" }

[stages.apart]
kind = "command"
run = ["sh", "{in.code}", "{in.x}", "{out.y}", "apart"]
inputs = { code = "step.sh", x = "in.txt" }
outputs = ["y"]
"#;

/// Copies its input, adds a word without what stands behind `~`, and notes that it ran.
pub(crate) const STEP: &str = "cat \"$1\" > \"$2\"\necho \"${3%%~*}\" >> \"$2\"\necho \"$3\" >> ran.log\necho \"working on $3\"\n";

/// A folder with a pipeline.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// The three stages of [`TOY`].
    pub(crate) fn toy() -> Self {
        let project = Self::of(TOY);
        project.write("step.sh", STEP);
        project.write("in.txt", "input\n");
        project
    }

    /// A pipeline file and nothing else.
    pub(crate) fn of(pipeline: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        project.write("pipeline.toml", pipeline);
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Replaces a text in the pipeline.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = self.read("pipeline.toml");
        assert!(text.contains(from), "{from}");
        self.write("pipeline.toml", &text.replacen(from, to, 1));
    }

    /// What has run since the last time that this was asked, sorted.
    pub(crate) fn ran(&self) -> Vec<String> {
        let mut ran: Vec<String> = self.read("ran.log").lines().map(str::to_owned).collect();
        let _ = std::fs::remove_file(self.path("ran.log"));
        ran.sort();
        ran
    }

    /// The command in this folder, with nothing of the caller's environment that would change it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qapipe"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        for name in ["QAPIPE_STORE", "QAPIPE_REMOTE", "QAPIPE_WORKER", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs the command to its end.
    pub(crate) fn qapipe(&self, args: &[&str]) -> Answer {
        self.answer(&mut self.command(args))
    }

    pub(crate) fn answer(&self, command: &mut Command) -> Answer {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer { code: output.status.code(), out: text(output.stdout), err: text(output.stderr), folder: self.folder.path().to_owned() }
    }

    /// Starts the command; both streams are piped.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until a file is there.
    pub(crate) fn wait_for(&self, name: &str) {
        wait(name, || self.path(name).exists());
    }
}

/// Waits until something holds, for at most 20 seconds.
pub(crate) fn wait(what: &str, holds: impl Fn() -> bool) {
    wait_for_up_to(Duration::from_secs(20), what, holds);
}

/// The same for what takes its time.
pub(crate) fn wait_for_up_to(most: Duration, what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < most, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    folder: PathBuf,
}

impl Answer {
    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Standard output with `…` for what differs from run to run.
    pub(crate) fn steady_out(&self) -> String {
        steady(&self.out, &self.folder)
    }

    /// Standard error with `…` for what differs from run to run.
    pub(crate) fn steady_err(&self) -> String {
        steady(&self.err, &self.folder)
    }

    /// Standard output as lines of JSON; each has the version.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        let events: Vec<serde_json::Value> = self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(events.iter().all(|event| event["version"] == 1), "{}", self.out);
        events
    }

    /// Standard output as one JSON answer with the version.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let answer: serde_json::Value = serde_json::from_str(&self.out).unwrap();
        assert_eq!(answer["version"], 1, "{}", self.out);
        answer
    }

    /// The stages of all events of one sort, in their order.
    pub(crate) fn stages(&self, event: &str) -> Vec<String> {
        let events = self.events();
        events.iter().filter(|found| found["event"] == event).map(|found| found["stage"].as_str().unwrap().to_owned()).collect()
    }
}

/// Replaces keys (8 hexadecimal digits), run ids, seconds, and the folder; spaces that fill columns shrink with them.
fn steady(text: &str, folder: &Path) -> String {
    let text = text.replace(&format!("{}/", folder.display()), "");
    let words = |line: &str| -> String {
        let parts: Vec<String> = line.split(' ').map(steady_word).collect();
        parts.join(" ").trim_end().to_owned()
    };
    let lines: Vec<String> = text.lines().map(words).collect();
    lines.join("\n")
}

fn steady_word(word: &str) -> String {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_key = word.len() == 8 && is_hex(word) && word.bytes().any(|byte| byte.is_ascii_digit());
    let core = word.trim_end_matches([')', ',', ':', ';']);
    let is_time = core.strip_suffix('s').is_some_and(|seconds| seconds.trim_start_matches(['~', '<']).parse::<f64>().is_ok());
    let is_run = core.len() > 19 && core.as_bytes()[8] == b'-' && is_hex(&core.replace('-', ""));
    if is_key {
        "KKKKKKKK".to_owned()
    } else if is_time || is_run {
        word.replace(core, "…")
    } else {
        word.to_owned()
    }
}

/// A port of loopback that nobody listens at.
#[cfg(feature = "cloud")]
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
