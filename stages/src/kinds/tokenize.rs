//! `tokenize`: questions and paragraphs become what a model reads.

use std::path::Path;

use qapipe_engine::{Accepts, ArtifactType, Default, Invalid, OutputSpec, Param, StageCx, StageError, StageKind, Ty, Values};
use serde::Deserialize;

use crate::error::Error;
use crate::examples::{self, Examples, Part};
use crate::features::{self, examples_file};
use crate::form::{CONFIG, Form};
use crate::template::Template;
use crate::text_features;
use crate::texts::{TextMaker, Wording};
use crate::tokenizer::{PIECES, Reader, SETTINGS, TOKENIZER, TextTokenizer, VOCABULARY};
use crate::windows::{self, Shape};

/// Makes windows or texts.
pub struct Tokenize;

/// What is read of a model: its tokenizer, and its configuration for the family.
const READ: &[&str] = &[TOKENIZER, SETTINGS, VOCABULARY, PIECES, CONFIG];

const PARAMS: &[Param] = &[
    Param::required("dataset", Ty::Ref(Accepts { types: &[ArtifactType::EXAMPLES], part: &[] }), "The questions."),
    Param::required(
        "model",
        Ty::Ref(Accepts { types: &[ArtifactType::MODEL], part: READ }),
        "Whose tokenizer to use, and whose family decides what is made; its weights are not read.",
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
    Param::optional(
        "template",
        Ty::Str,
        "For models that write: the text around {question} and {context}, which may name {title}; the family's usual one where it is not given.",
    ),
    Param::optional(
        "no_answer",
        Ty::Str,
        "For models that write: what they are to write where there is no answer; nothing for T5, \"I don't know.\" for Mamba.",
    ),
    Param::with(
        "max_target_length",
        Ty::Int { min: 2, max: 100_000 },
        Default::Int(32),
        "For models that write: longest answer in tokens, the end token included; longer ones are cut.",
    ),
];

impl StageKind for Tokenize {
    fn name(&self) -> &'static str {
        "tokenize"
    }

    fn version(&self) -> u32 {
        2
    }

    fn doc(&self) -> &'static str {
        "Cuts questions and paragraphs into what a model reads: overlapping windows of tokens, as Hugging Face's run_qa does, or texts.\n\n\
         For a model that points at answers (BERT, LSTM) a window is [CLS] question [SEP] part of the paragraph [SEP]. For one that \
         writes (T5, Mamba) it is a text made by `template`, and every window of a long paragraph has the whole question; what is to be \
         written is the first gold answer. `stride` is the overlap of windows (Google's run_squad.py calls their distance \
         doc_stride). A window that does not hold all of the first gold answer has none. Truncation and padding sections of \
         tokenizer.json are ignored."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("features", ArtifactType::FEATURES)]
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        if let Some(Err(wrong)) = values.text("template").map(Template::parse) {
            let help = "a template is a text like \"question: {question} context: {context}\"";
            return Err(Invalid::new("template", wrong).help(help));
        }
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
    template: Option<String>,
    no_answer: Option<String>,
    max_target_length: usize,
}

impl Wanted {
    fn shape(&self) -> Shape {
        Shape { max_length: self.max_length, stride: self.stride, max_query_length: self.max_query_length }
    }

    /// How texts for a model of this form are worded.
    fn wording(&self, form: Form) -> Result<Wording, Error> {
        let template = self.template.as_deref().unwrap_or_else(|| form.template());
        Ok(Wording {
            template: Template::parse(template).map_err(|wrong| Error::data(format!("template: {wrong}")))?,
            no_answer: self.no_answer.clone().unwrap_or_else(|| form.no_answer().to_owned()),
            max_target: self.max_target_length,
        })
    }
}

fn tokenize(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let (dataset, model, output) = (cx.input("dataset")?, cx.input("model")?, cx.output("features")?);
    let form = Form::of(model)?;
    std::fs::create_dir(output).map_err(|e| StageError::io(output, &e))?;
    let info = examples::Info::open(dataset)?;
    if form == Form::Spans {
        refuse_wording(&wanted)?;
        let reader = Reader::open(model)?;
        each_part(cx, dataset, output, &|part, examples| {
            let (rows, spots) = windows::cut(&reader, examples, wanted.shape(), &|done, total| progress(cx, part, done, total))?;
            let count = rows.example.len();
            features::write(output, part, rows, spots).map(|()| count)
        })?;
        reader.info(info.name, info.version)?.write(output)?;
        return Ok(());
    }
    let (tokenizer, wording) = (TextTokenizer::open(model, form)?, wanted.wording(form)?);
    let maker = TextMaker::new(&tokenizer, &wording, wanted.shape())?;
    each_part(cx, dataset, output, &|part, examples| {
        let pairs = maker.make(examples, &|done, total| progress(cx, part, done, total))?;
        let count = pairs.example.len();
        text_features::write(output, part, pairs).map(|()| count)
    })?;
    maker.info(info.name, info.version)?.write(output)?;
    Ok(())
}

/// Texts have words around the question, windows have none.
fn refuse_wording(wanted: &Wanted) -> Result<(), StageError> {
    let given = [("template", &wanted.template), ("no_answer", &wanted.no_answer)].into_iter().find(|(_, value)| value.is_some());
    given.map_or(Ok(()), |(name, _)| {
        Err(StageError::failed(format!("{name}: the model points at answers, it reads no text around the question"))
            .help(format!("leave `{name}` out, or give a model that writes")))
    })
}

/// Makes the features of every part that there is: `make` writes them and tells how many.
fn each_part(
    cx: &StageCx<'_>,
    dataset: &Path,
    output: &Path,
    make: &dyn Fn(Part, &Examples) -> Result<usize, Error>,
) -> Result<(), StageError> {
    let mut parts = 0;
    for part in Part::ALL {
        let Some(examples) = Examples::open_part(dataset, part)? else { continue };
        let count = make(part, &examples)?;
        cx.reporter.log(&format!("{}: {count} windows of {} questions", part.name(), examples.len()));
        let copy = output.join(examples_file(part));
        std::fs::copy(dataset.join(part.file()), &copy).map_err(|e| StageError::io(&copy, &e))?;
        parts += 1;
    }
    if parts == 0 {
        return Err(Error::data("the data set is empty").into());
    }
    Ok(())
}

fn progress(cx: &StageCx<'_>, part: Part, done: usize, total: usize) -> Result<(), Error> {
    cx.reporter.progress(done as u64, total as u64, "questions", part.name());
    cx.checkpoint().map_err(|_| Error::Interrupted)
}
