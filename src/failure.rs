//! How a command ends when it does not end well.

use std::path::Path;
use std::process::ExitCode;

use qapipe_cache::{CacheError, RemoteError, chain};
use qapipe_engine::{Diagnostics, EngineError, ErrorClass, LoadError, StageError};
use serde_json::json;

use crate::diagnostics;
use crate::printer::Printer;

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// A stage failed, or something stored is damaged.
    Failed = 1,
    /// Usage, configuration or pipeline error.
    Usage = 2,
    /// `plan --check` found work.
    Due = 3,
    /// The machine lacks something.
    Environment = 4,
    /// Another run is at it.
    Locked = 5,
    /// A bug of qapipe.
    Bug = 70,
    /// The user stopped it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ErrorClass> for Exit {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Failed | ErrorClass::OutOfMemory | ErrorClass::Stale => Self::Failed,
            ErrorClass::Environment => Self::Environment,
            ErrorClass::Interrupted => Self::Interrupted,
            ErrorClass::Bug => Self::Bug,
        }
    }
}

/// Why a command did not do what it was asked, and how it exits.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    what: What,
}

#[derive(Debug)]
enum What {
    /// All has been said.
    Told,
    Message {
        message: String,
        help: Option<String>,
    },
    Invalid(Diagnostics),
}

impl Failure {
    /// An exit code alone: what there is to say has been said.
    pub(crate) fn told(exit: Exit) -> Self {
        Self { exit, what: What::Told }
    }

    /// A lowercase fragment: what is wrong.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, what: What::Message { message: message.into(), help: None } }
    }

    /// The user asked for what there is not.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds what to do about it.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        if let What::Message { help, .. } = &mut self.what {
            *help = Some(text.into());
        }
        self
    }

    /// A file of the user's that cannot be read or written.
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        let stage_error = StageError::io(path, error);
        let exit = if stage_error.class == ErrorClass::Environment { Exit::Environment } else { Exit::Usage };
        Self::new(exit, stage_error.message)
    }

    /// Says what is wrong, on standard error, and with `--json` on standard output as well.
    pub(crate) fn tell(self, printer: &Printer) -> ExitCode {
        if printer.json && !matches!(self.what, What::Told) {
            let _ = printer.json_line(&json!({ "error": self.to_json() }));
        }
        match &self.what {
            What::Told => {}
            What::Message { message, help } => printer.error(message, help.as_deref()),
            What::Invalid(errors) => printer.raw_error(&diagnostics::render(errors, printer)),
        }
        self.exit.into()
    }

    fn to_json(&self) -> serde_json::Value {
        let exit = self.exit as u8;
        match &self.what {
            What::Told => json!({ "exit": exit }),
            What::Message { message, help } => json!({ "exit": exit, "message": message, "help": help }),
            What::Invalid(errors) => {
                json!({ "exit": exit, "message": "the pipeline is not valid", "errors": diagnostics::to_json(errors) })
            }
        }
    }
}

impl From<Diagnostics> for Failure {
    fn from(errors: Diagnostics) -> Self {
        Self { exit: Exit::Usage, what: What::Invalid(errors) }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Io { file, source } if source.kind() == std::io::ErrorKind::NotFound => {
                let failure = Self::usage(format!("there is no pipeline file {}", file.display()));
                failure.help("name one (`qapipe run FILE`), or start a project with `qapipe init`")
            }
            LoadError::Io { file, source } => Self::usage(format!("{}: {source}", file.display())),
            LoadError::Invalid(errors) => errors.into(),
        }
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        let failure = Self::new(Exit::Environment, format!("store: {}", chain(&error)));
        if error.is_environment() { failure.help("free space, or name another store with --store DIR or QAPIPE_STORE") } else { failure }
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        let exit = match error {
            RemoteError::Store(error) => return error.into(),
            RemoteError::Interrupted => Exit::Interrupted,
            RemoteError::Damaged { .. } | RemoteError::Lost { .. } => Exit::Failed,
            _ => Exit::Environment,
        };
        let failure = Self::new(exit, error.to_string());
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        let failure = Self::new(error.class.into(), error.message);
        match error.help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cache(error) => error.into(),
            EngineError::Unknown(unknown) => {
                let failure = Self::usage(unknown.message());
                match unknown.help {
                    Some(help) => failure.help(help),
                    None => failure,
                }
            }
            EngineError::Input { stage, error } => {
                let message = format!("stage {stage}: {}", error.message);
                Self::from(StageError { message, ..error })
            }
        }
    }
}
