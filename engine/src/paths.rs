//! Paths as the user, the system and the links of a folder mean them.

use std::path::{Component, Path, PathBuf};

/// A path from the root of the file system, where the working directory is known; its links are not followed.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A path without `.` and `..`, as if there were no links.
pub(crate) fn without_dots(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                whole.pop();
            }
            Component::CurDir => {}
            other => whole.push(other),
        }
    }
    whole
}

/// A folder below another, or beside it; the same where `path` is empty.
pub(crate) fn joined(folder: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { folder.to_owned() } else { folder.join(path) }
}

/// A path whose links are followed as far as it exists.
pub(crate) fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match there {
        Some((above, real)) => without_dots(&real.join(path.strip_prefix(above).unwrap_or(path))),
        None => without_dots(path),
    }
}
