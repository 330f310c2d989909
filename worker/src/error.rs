//! What can go wrong in a worker, before it is told to the command as a `StageError`.

use std::path::{Path, PathBuf};

use qapipe_cache::CacheError;
use qapipe_engine::{ErrorClass, StageError};
use qapipe_nn::NnError;
use qapipe_nn::weights::{Problem, WeightsError};
use tch::TchError;

/// Why a torch-backed stage did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model, its weights or the device.
    #[error(transparent)]
    Nn(#[from] NnError),
    /// An exception of libtorch.
    #[error("libtorch: {}", first_line(&.0.to_string()))]
    Torch(#[from] TchError),
    /// Data, a tokenizer or a table.
    #[error(transparent)]
    Data(#[from] qapipe_stages::Error),
    /// The store.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A stage's own failure, ready to be told.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Reading or writing a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
}

impl Error {
    /// Ties an IO error to its path.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// The stage's input or outcome is wrong.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Stage(StageError::failed(message))
    }
}

impl Error {
    /// Whether memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Stage(error) => error.class == ErrorClass::OutOfMemory,
            Self::Nn(error) => is_out_of_memory(&error.to_string()),
            Self::Torch(error) => is_out_of_memory(&error.to_string()),
            _ => false,
        }
    }
}

impl From<Error> for StageError {
    fn from(error: Error) -> Self {
        match error {
            Error::Stage(error) => error,
            Error::Io { path, source } => Self::io(&path, &source),
            Error::Data(error) => error.into(),
            Error::Nn(error) => told(&error),
            Error::Cache(CacheError::Io { path, source }) => Self::io(&path, &source),
            Error::Cache(error) => Self::failed(error.to_string()),
            Error::Torch(error) => classified(&error.to_string()),
        }
    }
}

/// An error of the crate of tensors.
fn told(error: &NnError) -> StageError {
    match error {
        NnError::Device(_) => {
            StageError::environment(error.to_string()).help("`qapipe env` shows what there is; --device cpu works everywhere")
        }
        NnError::Io { path, source } | NnError::Weights(WeightsError { path, problem: Problem::Io(source) }) => {
            StageError::io(path, source)
        }
        _ => classified(&error.to_string()),
    }
}

/// The class of an error that comes from libtorch or a model, judged by its text: libtorch tells no more.
fn classified(message: &str) -> StageError {
    if is_out_of_memory(message) { out_of_memory(message) } else { StageError::failed(first_line(message)) }
}

/// Whether a message of libtorch says that memory ran out, on a GPU or on the CPU.
pub(crate) fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["out of memory", "can't allocate memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed"]
        .iter()
        .any(|text| message.contains(text))
}

/// The error for memory that ran out.
pub(crate) fn out_of_memory(message: &str) -> StageError {
    let text = first_line(message);
    StageError::new(ErrorClass::OutOfMemory, format!("out of memory: {text}")).help("a single window does not fit beside the model: take a smaller max_length, or a smaller model; `nvidia-smi` shows who else holds memory")
}

/// libtorch's exceptions carry a C++ backtrace; the first line is the message.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_errors_have_their_class_and_one_line() {
        let gpu: StageError = Error::from(TchError::Torch("CUDA out of memory. Tried to allocate 2 GiB\nframe #0".into())).into();
        assert_eq!(gpu.class, ErrorClass::OutOfMemory);
        assert!(!gpu.message.contains("frame") && gpu.help.is_some());
        let cpu = classified("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes");
        assert_eq!(cpu.class, ErrorClass::OutOfMemory);
        let other: StageError = Error::from(TchError::Torch("mat1 and mat2 shapes cannot be multiplied\nframe #0".into())).into();
        assert_eq!((other.class, other.message.contains("frame")), (ErrorClass::Failed, false));
    }

    #[test]
    fn a_full_disk_is_the_machines_lack() {
        let error = Error::io(Path::new("/x"))(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(StageError::from(error).class, ErrorClass::Environment);
        let problem = Problem::Io(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let error = Error::from(NnError::from(WeightsError { path: "/x/model.safetensors".into(), problem }));
        assert_eq!(StageError::from(error).class, ErrorClass::Environment);
    }
}
