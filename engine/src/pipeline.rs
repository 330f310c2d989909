//! A checked pipeline.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::artifact::OutputSpec;
use crate::cell::Cell;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::files;
use crate::kind::StageKind;
use crate::kinds::Kinds;
use crate::overrides::Override;
use crate::parsed::Parsed;
use crate::paths::absolute;
use crate::raw::Node;
use crate::slurm::Wants;
use crate::source::{Problem, Sink, Sources, Span};
use crate::text_file::{self, Unreadable};
use crate::values::Values;

/// A pipeline file after checking: types fit, references resolve, nothing waits for itself. Files may still be missing:
/// [`Pipeline::check_files`] looks.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its name: `name = …`, or else the file's name without its ending.
    pub name: String,
    /// The file, as it was given.
    pub file: PathBuf,
    /// The folder of the file, absolute: what relative paths start from.
    pub folder: PathBuf,
    /// The seed of every stage that has none of its own.
    pub seed: u64,
    /// Whether results must repeat bit for bit on the same device (`numerics = "strict"`).
    pub strict: bool,
    /// The variables after substitution and overrides.
    pub vars: Map<String, Value>,
    /// The stages: those of included files, in the order in which they are included, then the file's own.
    pub stages: Vec<StageSpec>,
    /// The stages that are meant where none is named, by their names; none means all.
    pub targets: Vec<String>,
    /// Other names of stages that included files share, and the indices of these stages.
    pub aliases: BTreeMap<String, usize>,
    /// Stages by their names.
    pub(crate) places: HashMap<String, usize>,
    pub(crate) sources: Sources,
}

/// One checked stage of a pipeline.
#[derive(Clone)]
pub struct StageSpec {
    /// Its name: the word after `stages.`, with the names of the pipelines that were included to get there before it (`inner-tuned`), and with
    /// its place in the matrix behind it (`lora[rank=8]`). One that several files share has the word alone where that is free.
    pub name: String,
    /// Its place in the matrix of its file.
    pub cell: Cell,
    /// Its kind.
    pub kind: &'static dyn StageKind,
    /// What the kind runs with: variables substituted, defaults filled, hints nested under `hints`. References and paths
    /// are the text that the user wrote. The seed is not among them.
    pub values: Values,
    /// The canonical form of what determines the result: only parameters that differ from their default, without hints,
    /// references and paths; numbers normalised, keys sorted. A new parameter with a default leaves it as it is.
    pub explicit: Values,
    /// What it reads, in the order of the kind's parameters.
    pub inputs: Vec<InputSpec>,
    /// What it gives; never empty.
    pub outputs: Vec<OutputSpec>,
    /// The seed in force.
    pub seed: u64,
    /// What its job asks for where a cluster runs it; no part of what the result is made from.
    pub slurm: Wants,
    /// The folder of the file that it stands in, absolute: where a program of the stage runs.
    pub folder: PathBuf,
    /// The stage's name in its file.
    pub span: Span,
    /// All that is written there.
    pub(crate) table: Arc<Node>,
    /// Where the file's seed is written, if it has none of its own.
    pub(crate) seed_span: Option<Span>,
}

/// One input of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// The parameter, as a dotted path: `model`, `inputs.x`, `files.0`.
    pub param: String,
    /// Where it comes from.
    pub source: Source,
    /// Top-level names of the folder that the stage reads; empty means all of it.
    pub part: &'static [&'static str],
    /// The value.
    pub span: Span,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A stage's output.
    Stage {
        /// Index into the pipeline's stages.
        index: usize,
        /// Name of the output.
        output: String,
    },
    /// A file or folder of the user's: relative to the pipeline's folder, or absolute. As written, but that a path in an included file of
    /// another folder begins with the way there.
    Path(PathBuf),
}

/// Why there is no pipeline.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What it says makes no pipeline.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
}

impl Pipeline {
    /// Reads and checks a pipeline file. Does no IO but for reading it, and what [`Pipeline::parse`] does.
    ///
    /// # Errors
    /// Where the file cannot be read, or with everything that is wrong in it and in the overrides.
    pub fn load(file: &Path, kinds: &Kinds, overrides: &[Override]) -> Result<Self, LoadError> {
        Self::load_again(file, kinds, overrides, &Parsed::default())
    }

    /// The same where large files may have been parsed before.
    ///
    /// # Errors
    /// As [`Pipeline::load`].
    pub fn load_again(file: &Path, kinds: &Kinds, overrides: &[Override], parsed: &Parsed) -> Result<Self, LoadError> {
        match text_file::read(file) {
            Ok(text) => Ok(crate::parse::parse(&text, file, kinds, overrides, parsed)?),
            Err(Unreadable::Io(source)) => Err(LoadError::Io { file: file.to_owned(), source }),
            Err(Unreadable::TooLarge) => Err(wrong(file, "", files::too_large()).into()),
            Err(Unreadable::NotText(good)) => Err(wrong(file, &good, files::not_text()).into()),
        }
    }

    /// Checks the text of a pipeline file. Reads the files that it includes, relative to `file`. Otherwise it does no IO, but that links are
    /// followed where an input is absolute or goes through `..`, and where a file is included.
    ///
    /// # Errors
    /// With everything that is wrong in the texts and in the overrides, in the order of the files.
    pub fn parse(text: &str, file: &Path, kinds: &Kinds, overrides: &[Override]) -> Result<Self, Diagnostics> {
        crate::parse::parse(text, file, kinds, overrides, &Parsed::default())
    }

    /// Checks that the files and folders that stages read exist.
    ///
    /// # Errors
    /// With every input that does not, in the order of the file.
    pub fn check_files(&self) -> Result<(), Diagnostics> {
        self.check_files_of(0..self.stages.len())
    }

    /// The same for the stages with these numbers.
    ///
    /// # Errors
    /// As [`Pipeline::check_files`].
    pub fn check_files_of(&self, stages: impl IntoIterator<Item = usize>) -> Result<(), Diagnostics> {
        let mut sink = Sink::default();
        let mut seen: HashMap<&Path, Option<String>> = HashMap::new();
        for input in stages.into_iter().filter_map(|stage| self.stages.get(stage)).flat_map(|stage| &stage.inputs) {
            let Source::Path(path) = &input.source else { continue };
            let lacks = seen.entry(path).or_insert_with(|| self.lacks(path));
            if let Some(why) = lacks {
                sink.push(&input.span, || Problem::new(why.clone()).help(tilde(path)));
            }
        }
        sink.finish(&self.sources)
    }

    /// What keeps a path from being read, if anything.
    fn lacks(&self, path: &Path) -> Option<String> {
        let whole = self.resolve(path);
        match std::fs::metadata(&whole) {
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!("`{}` does not exist", whole.display())),
            Err(error) => Some(format!("`{}` cannot be read: {error}", whole.display())),
        }
    }

    /// The stage of this name, which may be one of several that it has.
    pub fn stage(&self, name: &str) -> Option<&StageSpec> {
        self.stages.get(self.index(name)?)
    }

    /// The stage's index in [`Pipeline::stages`].
    pub fn index(&self, name: &str) -> Option<usize> {
        self.places.get(name).or_else(|| self.aliases.get(name)).copied()
    }

    /// The folder of a pipeline file, absolute where the working directory is known.
    #[must_use]
    pub fn folder_of(file: &Path) -> PathBuf {
        let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        absolute(folder)
    }

    /// Where a path as written in the pipeline lies.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// An error at a place of this pipeline, for what only later phases can find.
    pub fn diagnostic(&self, span: &Span, message: impl Into<String>) -> Diagnostic {
        self.sources.diagnostic(span, Problem::new(message))
    }

    /// The text of the pipeline file.
    pub fn text(&self) -> &str {
        self.sources.text()
    }
}

/// The error for a file that is of use up to here only.
fn wrong(file: &Path, good: &str, problem: Problem) -> Diagnostics {
    let end = Span::of(0, good.len()..good.len());
    Diagnostics(vec![Sources::new(file, good, &[]).diagnostic(&end, problem)])
}

fn tilde(path: &Path) -> Option<String> {
    path.starts_with("~").then(|| "`~` is not replaced; write the whole path".to_owned())
}

impl fmt::Debug for StageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageSpec")
            .field("name", &self.name)
            .field("cell", &self.cell.to_string())
            .field("kind", &self.kind.name())
            .field("values", &self.values)
            .field("explicit", &self.explicit)
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .field("seed", &self.seed)
            .field("slurm", &self.slurm)
            .field("folder", &self.folder)
            .field("span", &self.span)
            .finish()
    }
}
