//! Why a weights file cannot be used.

use std::path::PathBuf;

/// A weights file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct WeightsError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a weights file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read or written.
    #[error(transparent)]
    Io(std::io::Error),
    /// It is a pickle, which runs code when it is loaded.
    #[error("refused: pickle checkpoints can run code; convert to safetensors")]
    Pickle,
    /// It begins like no safetensors file.
    #[error("not a safetensors file: {0}")]
    NotSafetensors(&'static str),
    /// It is shorter than its header says.
    #[error("the file is truncated: its header names more bytes than there are; fetch it again")]
    Truncated,
    /// Its header claims a size that no header has.
    #[error("the header claims {0} bytes; at most {max} are accepted", max = super::header::MOST)]
    HeaderSize(u64),
    /// Its header is not what the format wants.
    #[error("the header is malformed: {0}")]
    Header(String),
    /// Its header names a tensor twice.
    #[error("the header names {0:?} twice")]
    Duplicate(String),
    /// A tensor that is not where it may be.
    #[error("tensor {name:?}: {message}")]
    Layout {
        /// The tensor.
        name: String,
        /// What is wrong with its place, its shape or its size.
        message: String,
    },
    /// A tensor that is not there.
    #[error("there is no tensor {0:?}")]
    Absent(String),
    /// A tensor of a kind that is of no use here.
    #[error("tensor {name:?} is of kind {kind}, which is not supported here")]
    Kind {
        /// The tensor.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// It is no index of weights in several files.
    #[error("not an index of weights: {0}")]
    Index(String),
    /// An index names a file that is none of weights beside it.
    #[error("the index names {0:?}, which is not the plain name of a safetensors file")]
    ShardName(String),
    /// An index names a file that is not there.
    #[error("the index names {0:?}, which is not there; fetch it as well")]
    NoShard(String),
    /// An index says of a tensor that it is where it is not.
    #[error("the index says that tensor {name:?} is in {file:?}, and it is not; fetch index and files of one revision")]
    NotInShard {
        /// The tensor.
        name: String,
        /// The file.
        file: String,
    },
    /// Two files that belong together hold the same tensor.
    #[error("tensor {name:?} is in {file} as well")]
    InTwoShards {
        /// The tensor.
        name: String,
        /// The other file.
        file: String,
    },
}
