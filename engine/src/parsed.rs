//! The trees of large files that were parsed before: to read one again takes a fifth of the time that parsing it would.

use std::path::{Path, PathBuf};

use qapipe_cache::{Digest, Hasher, Store, read_sealed, write_sealed};
use serde::{Deserialize, Serialize};

use crate::paths::absolute;
use crate::raw::{self, Table};
use crate::source::Sink;

/// Smaller texts are parsed as fast as another file is opened.
const LARGE: usize = 16 << 10;

/// The form of the trees, which changes with the types in `raw`; and the version, since another may accept other texts.
const KIND: &str = concat!("qapipe tree 1 of ", env!("CARGO_PKG_VERSION"));

/// Where trees are kept: one for each file of a pipeline, of its last text. Where that is nowhere, every text is parsed.
#[derive(Clone, Debug, Default)]
pub struct Parsed(Option<PathBuf>);

#[derive(Deserialize)]
struct Kept {
    text: Digest,
    tree: Table,
}

#[derive(Serialize)]
struct Keep<'a> {
    text: Digest,
    tree: &'a Table,
}

impl Parsed {
    /// In a store.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self(Some(store.parsed()))
    }

    /// The document that a text is, as [`raw::document`] gives it: the text of `path`, which is the file of this number.
    pub(crate) fn document(&self, path: &Path, text: &str, number: u32, sink: &mut Sink) -> Option<Table> {
        let Some(folder) = self.0.as_ref().filter(|_| text.len() >= LARGE) else { return raw::document(text, number, sink) };
        let place = folder.join(digest("file", &absolute(path).to_string_lossy(), number).to_string());
        let digest = digest("text", text, number);
        if let Some(kept) = read_sealed::<Kept>(&place, KIND).filter(|kept| kept.text == digest) {
            return Some(kept.tree);
        }
        let before = sink.count();
        let tree = raw::document(text, number, sink)?;
        if sink.count() == before {
            let _ = write_sealed(&place, KIND, &Keep { text: digest, tree: &tree });
        }
        Some(tree)
    }
}

/// Places in a tree say the number of their file, so that the tree of one text is another where the file is another.
fn digest(what: &str, text: &str, number: u32) -> Digest {
    let mut hasher = Hasher::new("qapipe tree");
    hasher.field("number", &number.to_le_bytes());
    hasher.field(what, text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;

    use super::*;
    use crate::source::Sources;

    struct World {
        folder: tempfile::TempDir,
        parsed: Parsed,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("store")).unwrap();
            Self { parsed: Parsed::of(&store), folder }
        }

        /// What a text is, and what is wrong with it.
        fn read(&self, text: &str) -> (String, String) {
            told(text, |sink| self.parsed.document(Path::new("/p/pipeline.toml"), text, 0, sink))
        }

        fn kept(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.folder.path().join("store/parsed"));
            entries.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
        }
    }

    fn told(text: &str, read: impl FnOnce(&mut Sink) -> Option<Table>) -> (String, String) {
        let mut sink = Sink::default();
        let tree = format!("{:?}", read(&mut sink));
        let wrong = sink.finish(&Sources::new(Path::new("pipeline.toml"), text, &[])).err();
        (tree, format!("{wrong:?}"))
    }

    fn fresh(text: &str) -> (String, String) {
        told(text, |sink| raw::document(text, 0, sink))
    }

    /// All that TOML has.
    fn large(name: &str) -> String {
        let mut text = format!("name = \"{name}\"\nseed = 3\nnumerics = 'strict'\nfloats = [1.5, -0.0, inf]\nyes = true\n");
        for stage in 0..400 {
            let _ = write!(
                text,
                "[stages.s{stage}]\nkind = \"toy\"\nof = [\"@s{stage}\", 'é']\nhints = {{ device = \"cpu\", n.m = -{stage} }}\n"
            );
        }
        assert!(text.len() > LARGE);
        text
    }

    #[test]
    fn a_tree_is_what_its_text_is() {
        let world = World::new();
        for text in [large("a"), large("b"), large("a")] {
            for _ in 0..2 {
                assert_eq!(world.read(&text), fresh(&text));
                assert_eq!(world.kept().len(), 1, "one file, one tree");
            }
        }
        let bytes = fs::read(&world.kept()[0]).unwrap();
        for at in [0, 20, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(&world.kept()[0], damaged).unwrap();
            assert_eq!(world.read(&large("a")), fresh(&large("a")));
        }
    }

    #[test]
    fn a_text_with_errors_is_told_each_time_and_a_small_one_parsed() {
        let world = World::new();
        for wrong in ["when = 2026-11-26\n", "= 3\n", "big = 99999999999999999999\n"] {
            let text = large("a") + wrong;
            for _ in 0..2 {
                assert_eq!(world.read(&text), fresh(&text));
                assert!(fresh(&text).1.contains("Some"));
            }
        }
        assert_eq!(world.read("name = \"small\"\n"), fresh("name = \"small\"\n"));
        assert!(world.kept().is_empty());
        let none = Parsed::default();
        assert_eq!(told(&large("a"), |sink| none.document(Path::new("p.toml"), &large("a"), 0, sink)), fresh(&large("a")));
    }

    #[test]
    fn the_form_is_known_by_its_kind() {
        let world = World::new();
        world.read(&large("golden"));
        let bytes = fs::read(&world.kept()[0]).unwrap();
        let body = &bytes[KIND.len() + 1 + 32..];
        assert_eq!(Digest::of_bytes(body).short(), "dd1b1c81", "a tree has another form: give `KIND` another number");
    }
}
