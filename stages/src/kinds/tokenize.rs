//! `tokenize`: questions and paragraphs become windows of tokens.

use qapipe_engine::{Accepts, ArtifactType, Default, Invalid, OutputSpec, Param, StageCx, StageError, StageKind, Ty, Values};
use serde::Deserialize;

use crate::error::Error;
use crate::examples::{self, Examples, Part};
use crate::features::{self, examples_file};
use crate::tokenizer::{Reader, TOKENIZER_FILES};
use crate::windows::{self, Shape};

/// Makes span windows.
pub struct Tokenize;

const PARAMS: &[Param] = &[
    Param::required("dataset", Ty::Ref(Accepts { types: &[ArtifactType::EXAMPLES], part: &[] }), "The questions."),
    Param::required(
        "model",
        Ty::Ref(Accepts { types: &[ArtifactType::MODEL], part: TOKENIZER_FILES }),
        "Whose tokenizer to use; its weights are not read.",
    ),
    Param::with("max_length", Ty::Int { min: 8, max: 1_000_000 }, Default::Int(384), "Longest window in tokens, special tokens included."),
    Param::with(
        "stride",
        Ty::Int { min: 0, max: 1_000_000 },
        Default::Int(128),
        "Tokens that two neighbouring windows of a paragraph share.",
    ),
    Param::optional(
        "max_query_length",
        Ty::Int { min: 1, max: 1_000_000 },
        "Cut questions to so many tokens; without it a question too long for max_length is an error.",
    ),
];

impl StageKind for Tokenize {
    fn name(&self) -> &'static str {
        "tokenize"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Cuts questions and paragraphs into overlapping windows of tokens, as Hugging Face's run_qa does.\n\n\
         A window is [CLS] question [SEP] part of the paragraph [SEP]. `stride` is the overlap of windows (Google's run_squad.py \
         calls their distance doc_stride). A window that does not hold all of the first gold answer is labelled with no answer. \
         Truncation and padding sections of tokenizer.json are ignored."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("features", ArtifactType::FEATURES)]
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        let number = |name: &str| values.get(name).and_then(serde_json::Value::as_i64);
        match (number("max_length"), number("stride")) {
            (Some(length), Some(stride)) if stride + 4 > length => {
                Err(Invalid::new("stride", format!("an overlap of {stride} leaves no room in a window of {length}"))
                    .help("a stride of a third of max_length is usual"))
            }
            _ => Ok(()),
        }
    }

    fn run(&self, cx: &StageCx<'_>) -> Result<(), StageError> {
        tokenize(cx)
    }
}

#[derive(Deserialize)]
struct Wanted {
    max_length: u32,
    stride: u32,
    max_query_length: Option<u32>,
}

fn tokenize(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let (dataset, model, output) = (cx.input("dataset")?, cx.input("model")?, cx.output("features")?);
    let shape = Shape { max_length: wanted.max_length, stride: wanted.stride, max_query_length: wanted.max_query_length };
    let reader = Reader::open(model)?;
    std::fs::create_dir(output).map_err(|e| StageError::io(output, &e))?;
    let mut parts = 0;
    for part in Part::ALL {
        let Some(examples) = Examples::open_part(dataset, part)? else { continue };
        let (rows, spots) = windows::cut(&reader, &examples, shape, &|done, total| progress(cx, part, done, total))?;
        cx.reporter.log(&format!("{}: {} windows of {} questions", part.name(), rows.example.len(), examples.len()));
        features::write(output, part, rows, spots)?;
        let copy = output.join(examples_file(part));
        std::fs::copy(dataset.join(part.file()), &copy).map_err(|e| StageError::io(&copy, &e))?;
        parts += 1;
    }
    if parts == 0 {
        return Err(Error::data("the data set is empty").into());
    }
    let info = examples::Info::open(dataset)?;
    reader.info(info.name, info.version)?.write(output)?;
    Ok(())
}

fn progress(cx: &StageCx<'_>, part: Part, done: usize, total: usize) -> Result<(), Error> {
    cx.reporter.progress(done as u64, total as u64, "questions", part.name());
    cx.checkpoint().map_err(|_| Error::Interrupted)
}
