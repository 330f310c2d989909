//! Reading the text of a pipeline file: all that parsing reads goes through here.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Largest pipeline file, in bytes.
pub(crate) const LARGEST: usize = 16 << 20;

/// Why a file gives no text.
pub(crate) enum Unreadable {
    /// It cannot be read.
    Io(io::Error),
    /// It is larger than [`LARGEST`].
    TooLarge,
    /// It is UTF-8 up to here and no further.
    NotText(String),
}

/// The text of a file. No more of it is read than a pipeline may have.
pub(crate) fn read(file: &Path) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    let most = LARGEST as u64 + 1;
    File::open(file).and_then(|open| open.take(most).read_to_end(&mut bytes)).map_err(Unreadable::Io)?;
    if bytes.len() > LARGEST {
        return Err(Unreadable::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        Unreadable::NotText(String::from_utf8_lossy(error.as_bytes().get(..good).unwrap_or_default()).into_owned())
    })
}

/// The same for a file that another one names: it has to be an ordinary file, since reading a pipe might wait for ever.
pub(crate) fn read_ordinary(file: &Path) -> Result<String, Unreadable> {
    let about = std::fs::metadata(file).map_err(Unreadable::Io)?;
    if !about.is_file() {
        let what = if about.is_dir() { "it is a folder" } else { "it is no ordinary file" };
        return Err(Unreadable::Io(io::Error::other(what)));
    }
    read(file)
}
