//! What can go wrong in a stage.

use serde::{Deserialize, Serialize};

/// Why a stage did not finish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// Which sort of failure it is; decides the exit code.
    pub class: ErrorClass,
    /// A lowercase fragment that says where and what.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Sorts of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// The stage's input or outcome is wrong (exit 1).
    Failed,
    /// The machine lacks something: libtorch, a GPU, disk, network (exit 4).
    Environment,
    /// The user stopped it (exit 130).
    Interrupted,
    /// The device ran out of memory (exit 1; the executor may retry smaller).
    OutOfMemory,
    /// An input changed while the stage ran; nothing is recorded (exit 1).
    Stale,
    /// qapipe's own fault (exit 70).
    Bug,
}

impl StageError {
    /// An error of the given sort.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), help: None }
    }

    /// The stage's input or outcome is wrong.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Failed, message)
    }

    /// The machine lacks something.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Environment, message)
    }

    /// The user stopped it.
    pub fn interrupted() -> Self {
        Self::new(ErrorClass::Interrupted, "interrupted")
    }

    /// qapipe's own fault.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Bug, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// An IO error at a path. A full disk or a missing permission is the machine's lack, the rest the stage's failure.
    pub fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        let class = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::PermissionDenied => {
                ErrorClass::Environment
            }
            _ => ErrorClass::Failed,
        };
        Self::new(class, format!("{}: {error}", path.display()))
    }
}
