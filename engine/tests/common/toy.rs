//! A toy kind that runs in this process, counts its executions, and does as its parameters say.

use std::sync::atomic::{AtomicUsize, Ordering};

use qapipe_engine::{Accepts, ArtifactType, Default, OutputSpec, Param, StageCx, StageError, StageKind, Ty, Values};

/// Writes its text and then what it reads; counts.
pub struct Toy {
    pub executions: AtomicUsize,
}

const ANYTHING: Accepts = Accepts { types: &[], part: &[] };

const PARAMS: &[Param] = &[
    Param::with("text", Ty::Str, Default::Str(""), "What it writes."),
    Param::optional("of", Ty::List(&Ty::RefOrPath(ANYTHING)), "What it reads, written after the text."),
    Param::with("constant", Ty::Bool, Default::Bool(false), "Whether it writes nothing but `constant`."),
    Param::optional("figure", Ty::Choice(&["nan", "one"]), "A figure that it measures."),
    Param::optional("waits", Ty::Str, "A file that it waits for."),
    Param::with("slow", Ty::Bool, Default::Bool(false), "Whether it takes a while."),
    Param::optional("fails", Ty::Choice(&["failed", "full-disk", "panics", "bug"]), "How it fails."),
    Param::hint("batch", Ty::Int { min: 1, max: 64 }, Default::Int(1), "Nothing."),
];

impl Toy {
    pub const fn new() -> Self {
        Self { executions: AtomicUsize::new(0) }
    }

    pub fn count(&self) -> usize {
        self.executions.load(Ordering::SeqCst)
    }
}

impl StageKind for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "A toy."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("y", ArtifactType::FILE)]
    }

    fn seeded(&self) -> bool {
        true
    }

    fn run(&self, cx: &StageCx<'_>) -> Result<(), StageError> {
        self.executions.fetch_add(1, Ordering::SeqCst);
        let values = &cx.request.values;
        match values.text("fails") {
            Some("failed") => return Err(StageError::failed("the loss is NaN at step 3")),
            Some("bug") => return Err(StageError::bug("a broken promise")),
            Some("panics") => panic!("on purpose"),
            Some("full-disk") => {
                let full = std::path::Path::new("/dev/full");
                return std::fs::write(full, "x").map_err(|error| StageError::io(full, &error));
            }
            _ => {}
        }
        if values.get("slow") == Some(&true.into()) {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        if let Some(file) = values.text("waits") {
            while !cx.request.folder.join(file).exists() {
                cx.checkpoint()?;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        if let Some(figure) = values.text("figure") {
            cx.reporter.measure("figure", if figure == "nan" { f64::NAN } else { 1.0 });
        }
        cx.reporter.log("at work");
        let mut text = values.text("text").unwrap_or_default().to_owned();
        for input in cx.request.inputs.values() {
            text += &std::fs::read_to_string(&input.path).map_err(|error| StageError::io(&input.path, &error))?;
        }
        let text = if values.get("constant") == Some(&true.into()) { "constant" } else { &text };
        std::fs::write(cx.output("y")?, text).map_err(|error| StageError::failed(error.to_string()))
    }
}
