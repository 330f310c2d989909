//! All files of a pipeline: the pipeline file and what it includes, read and taken apart, each told where it stands.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::head::name_of;
use crate::include::{self, Include};
use crate::name::shown;
use crate::parsed::Parsed;
use crate::part::Part;
use crate::paths::real;
use crate::source::{Problem, Sink, Sources, Span};
use crate::text_file::{self, LARGEST, Unreadable};

/// How many files may include one another in a row.
const DEPTH: usize = 8;
/// How many files a pipeline may include, counting again what is included again.
const MOST: usize = 256;
/// How many bytes they may have in all, counting again as well.
const TOTAL: usize = 32 << 20;

/// The files of a pipeline, those that are included first. Nothing if one of them cannot be had, which has then been told.
pub(crate) fn parts(file: &Path, sources: &mut Sources, parsed: &Parsed, sink: &mut Sink) -> Option<Vec<Part>> {
    if sources.text().len() > LARGEST {
        sink.push(&Span::default(), too_large);
        return None;
    }
    let mut loader = Loader {
        sources,
        parsed,
        sink,
        known: HashMap::new(),
        chain: Vec::new(),
        parts: Vec::new(),
        asked: 0,
        bytes: 0,
        whole: true,
        stopped: false,
    };
    let asked = Asked { file: file.to_owned(), number: 0, home: Path::new("").into(), prefix: String::new(), by: None };
    loader.load(asked);
    let whole = loader.whole;
    Some(loader.parts).filter(|parts| whole && !parts.is_empty())
}

/// A file that is to become a part.
struct Asked {
    file: PathBuf,
    /// Its number among the sources.
    number: u32,
    home: Arc<Path>,
    /// The prefix of the file that includes it.
    prefix: String,
    /// The `include` that asks for it.
    by: Option<Include>,
}

/// A file that is being read, and so may not be asked for again below.
struct Link {
    real: PathBuf,
    told: String,
}

struct Loader<'a> {
    sources: &'a mut Sources,
    parsed: &'a Parsed,
    sink: &'a mut Sink,
    /// Numbers of files that have been read, by where they really lie.
    known: HashMap<PathBuf, u32>,
    chain: Vec<Link>,
    parts: Vec<Part>,
    /// How many files have been asked for, and how many bytes they have.
    asked: usize,
    bytes: usize,
    /// Whether nothing is missing.
    whole: bool,
    /// Whether it was too much.
    stopped: bool,
}

impl Loader<'_> {
    /// Reads a file and what it includes; gives its number among the parts, and its name.
    fn load(&mut self, asked: Asked) -> Option<usize> {
        let text = Arc::clone(self.sources.text_of(asked.number));
        let Some(mut root) = self.parsed.document(&asked.file, &text, asked.number, self.sink) else {
            self.whole = false;
            return None;
        };
        let (name, vars, span) = match asked.by {
            Some(include) => (include.name.unwrap_or_else(|| name_of(&root, &asked.file)), include.vars, include.span),
            None => (name_of(&root, &asked.file), Vec::new(), Span::default()),
        };
        let prefix = if self.chain.is_empty() { String::new() } else { format!("{}{name}-", asked.prefix) };
        let first = self.parts.len();
        let told = asked.home.join(asked.file.file_name().unwrap_or_default()).display().to_string();
        self.chain.push(Link { real: real(&asked.file), told });
        let before = self.sink.count();
        let wanted = include::read(root.take("include"), self.sink);
        self.whole &= self.sink.count() == before;
        let children = self.children(wanted, &asked.file, &asked.home, &prefix);
        self.chain.pop();
        let end = Span::of(asked.number, text.len()..text.len());
        self.parts.push(Part { file: asked.file, home: asked.home, name, prefix, root, vars, asked: span, end, first, children });
        Some(self.parts.len() - 1)
    }

    fn children(&mut self, wanted: Vec<Include>, file: &Path, home: &Arc<Path>, prefix: &str) -> Vec<usize> {
        let mut children = Vec::new();
        let mut names = HashSet::new();
        for include in wanted {
            self.asked += 1;
            if self.asked > MOST || self.bytes > TOTAL {
                self.too_much(&include.span);
                break;
            }
            let span = include.span.clone();
            let Some(child) = self.child(include, file, home, prefix) else { continue };
            let name = self.parts[child].name.clone();
            if names.contains(&name) {
                let help = "give one of them another: `{ file = …, name = … }`".to_owned();
                self.tell(&span, Problem::new(format!("two included pipelines are called `{name}`")).help(help));
            }
            names.insert(name);
            children.push(child);
        }
        children
    }

    /// Reads one included file.
    fn child(&mut self, include: Include, file: &Path, home: &Arc<Path>, prefix: &str) -> Option<usize> {
        let written = Path::new(&include.file);
        let path = file.parent().unwrap_or(Path::new("")).join(written);
        if let Err(problem) = self.may_follow(&path, &home.join(written)) {
            return self.refuse(&include.span, problem);
        }
        let number = self.number(&path, &include)?;
        self.bytes += self.sources.text_of(number).len();
        if self.bytes > TOTAL {
            return self.too_much(&include.span);
        }
        let home =
            written.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or_else(|| Arc::clone(home), |at| home.join(at).into());
        self.load(Asked { file: path, number, home, prefix: prefix.to_owned(), by: Some(include) })
    }

    /// Whether one more file may be included here: not in a circle, nor too deep.
    fn may_follow(&self, path: &Path, told: &Path) -> Result<(), Problem> {
        let real = real(path);
        if let Some(from) = self.chain.iter().position(|link| link.real == real) {
            let links = self.chain[from..].iter().map(|link| link.told.as_str());
            let circle: Vec<&str> = links.chain([self.chain[from].told.as_str()]).collect();
            let told = shown(&told.display().to_string());
            return Err(match circle.len() {
                2 => Problem::new(format!("`{told}` includes itself")).label(circle.join(" -> ")),
                _ => Problem::new(format!("pipelines include one another in a circle: {}", circle.join(" -> "))),
            });
        }
        if self.chain.len() > DEPTH {
            return Err(Problem::new(format!("more than {DEPTH} pipelines include one another in a row")));
        }
        Ok(())
    }

    /// The file's number among the sources; it is read when it is first asked for.
    fn number(&mut self, path: &Path, include: &Include) -> Option<u32> {
        let real = real(path);
        if let Some(&number) = self.known.get(&real) {
            return Some(number);
        }
        let told = shown(&path.display().to_string());
        match text_file::read_ordinary(path) {
            Ok(text) => {
                let number = self.sources.add(path, &text);
                self.known.insert(real, number);
                Some(number)
            }
            Err(Unreadable::NotText(good)) => {
                let number = self.sources.add(path, &good);
                self.refuse(&Span::of(number, good.len()..good.len()), not_text())
            }
            Err(Unreadable::TooLarge) => {
                self.refuse(&include.span, Problem::new(format!("`{told}` is too large")).label("a pipeline has at most 16 MiB"))
            }
            Err(Unreadable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.refuse(&include.span, Problem::new(format!("`{told}` does not exist")))
            }
            Err(Unreadable::Io(error)) => self.refuse(&include.span, Problem::new(format!("`{told}` cannot be read: {error}"))),
        }
    }

    /// Tells that there are too many files, once: nothing more is read then.
    fn too_much(&mut self, span: &Span) -> Option<usize> {
        if self.stopped {
            return None;
        }
        self.stopped = true;
        let label = format!("at most {MOST} files, with 32 MiB in all");
        self.refuse(span, Problem::new("too much is included").label(label))
    }

    /// Tells what keeps the pipeline from being whole.
    fn tell(&mut self, span: &Span, problem: Problem) {
        self.whole = false;
        self.sink.push(span, || problem);
    }

    /// The same for what there is then nothing of.
    fn refuse<T>(&mut self, span: &Span, problem: Problem) -> Option<T> {
        self.tell(span, problem);
        None
    }
}

/// The error for a file that is no UTF-8.
pub(crate) fn not_text() -> Problem {
    Problem::new("the file is not UTF-8 text from here on")
}

/// The error for a file that is too large.
pub(crate) fn too_large() -> Problem {
    Problem::new("the file is too large").label("a pipeline has at most 16 MiB")
}
