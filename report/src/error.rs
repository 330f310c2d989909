//! Why there are no results to show.

use std::io;
use std::path::PathBuf;

/// What can go wrong between the stored tables and a printed one.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A folder or file of the tables cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A note of what is current is no JSON of the expected form.
    #[error("{}: not a list of current results: {source}", path.display())]
    Current {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// Stored tables cannot be read as Parquet.
    #[error("the stored {table} table cannot be read: {message}")]
    Table {
        /// Name of the table.
        table: &'static str,
        /// What the reader says.
        message: String,
    },
    /// A query fails.
    #[error("the query fails: {0}")]
    Query(String),
}

impl ReportError {
    /// Whether the user's query is at fault rather than the store.
    #[must_use]
    pub fn is_query(&self) -> bool {
        matches!(self, Self::Query(_))
    }
}
