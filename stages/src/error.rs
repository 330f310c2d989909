//! What can go wrong with data, tokenizers and tables.

use std::path::{Path, PathBuf};

use qapipe_engine::StageError;

/// Why something could not be read, checked or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// An Arrow file is damaged, or is not what it should be.
    #[error("{}: not a table that qapipe reads: {source}", path.display())]
    Arrow {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: arrow_schema::ArrowError,
    },
    /// A Parquet file is damaged, or is not what it should be.
    #[error("{}: not a Parquet file that qapipe reads: {source}", path.display())]
    Parquet {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: parquet::errors::ParquetError,
    },
    /// The user's data is wrong.
    #[error("{message}")]
    Data {
        /// Where and what, as a lowercase fragment.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// The network or the machine lacks something.
    #[error("{message}")]
    Environment {
        /// Where and what, as a lowercase fragment.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Wrong data: where and what.
    pub fn data(message: impl Into<String>) -> Self {
        Self::Data { message: message.into(), help: None }
    }

    /// Something that the machine or the network lacks.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::Environment { message: message.into(), help: None }
    }

    /// Adds what to do about it, where the error has room for that.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        if let Self::Data { help, .. } | Self::Environment { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn arrow(path: &Path) -> impl FnOnce(arrow_schema::ArrowError) -> Self {
        move |source| match source {
            // A full disk is a full disk, whoever noticed.
            arrow_schema::ArrowError::IoError(_, source) => Self::Io { path: path.to_owned(), source },
            source => Self::Arrow { path: path.to_owned(), source },
        }
    }

    /// What is read from a file of Arrow's or Parquet's. Of some damage their libraries assert that it is not there.
    pub(crate) fn unless_damaged<T>(path: &Path, read: impl FnOnce() -> Result<T, Self>) -> Result<T, Self> {
        let damaged = |_| Err(Self::arrow(path)(arrow_schema::ArrowError::ParseError("the file is damaged".to_owned())));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(damaged)
    }

    pub(crate) fn parquet(path: &Path) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        move |source| match source {
            parquet::errors::ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
                Ok(source) => Self::Io { path: path.to_owned(), source: *source },
                Err(inner) => Self::Parquet { path: path.to_owned(), source: parquet::errors::ParquetError::External(inner) },
            },
            source => Self::Parquet { path: path.to_owned(), source },
        }
    }
}

impl From<Error> for StageError {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { path, source } => Self::io(&path, &source),
            Error::Interrupted => Self::interrupted(),
            Error::Environment { message, help } => Self { help, ..Self::environment(message) },
            Error::Data { message, help } => Self { help, ..Self::failed(message) },
            other => Self::failed(other.to_string()),
        }
    }
}
