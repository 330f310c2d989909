//! `dataset`: brings questions in.

mod check;
mod read;

use qapipe_engine::{ArtifactType, Default, Invalid, OutputSpec, Param, StageCx, StageError, StageKind, Ty, Values};
use serde::Deserialize;

use crate::error::Error;
use crate::examples::{self, Info, Part, Question};

/// Questions from files, the hub, or the built-in sample.
pub struct Dataset;

const COUNT: Ty = Ty::Int { min: 1, max: 1_000_000_000 };
const SOURCE: Ty = Ty::OneOf(&[Ty::Choice(&["sample"]), Ty::Path { hub: true }]);

const PARAMS: &[Param] = &[
    Param::optional(
        "source",
        SOURCE,
        "Both parts at once: sample, hub:REPO[@REVISION], or a folder with train and dev or validation files.",
    ),
    Param::optional(
        "train",
        Ty::Path { hub: true },
        "The train part: SQuAD JSON, plain or .gz, or Parquet in the hub's form; a file, a folder of shards, or hub:REPO[@REVISION].",
    ),
    Param::optional("dev", Ty::Path { hub: true }, "The dev part, in the same forms."),
    Param::optional("name", Ty::Str, "What the data set is called in results; `squad` or `sample` where it is not said."),
    Param::with(
        "version",
        Ty::Choice(&["auto", "1.1", "2.0"]),
        Default::Str("auto"),
        "Version of the form: 1.1 has no unanswerable questions; auto: what the files say or show.",
    ),
    Param::optional("limit_train", COUNT, "Take only so many train questions, chosen by their ids and `subset_seed`, in file order."),
    Param::optional("limit_dev", COUNT, "Take only so many dev questions, chosen by their ids and `subset_seed`, in file order."),
    Param::with(
        "subset_seed",
        Ty::Int { min: 0, max: i64::MAX },
        Default::Int(0),
        "Which questions the limits take; a smaller subset is part of a larger one.",
    ),
    Param::with(
        "on_bad_answer",
        Ty::Choice(&["error", "drop", "relocate"]),
        Default::Str("error"),
        "What to do with a question whose answer is not at its offset: stop, leave it out, or take the nearest place where the text stands.",
    ),
];

impl StageKind for Dataset {
    fn name(&self) -> &'static str {
        "dataset"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Brings questions, paragraphs and answers in, checked, as one table a part.\n\n\
         SQuAD 1.1 and 2.0 JSON, plain or gzipped, or Parquet as on the Hugging Face hub; what a file is, its content says. Answers \
         must stand at their offsets, which count code points. `plausible_answers` are never gold. `source = \"sample\"` is a small \
         data set in SQuAD 2.0 form that qapipe makes itself, always the same, a third of it unanswerable."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("examples", ArtifactType::EXAMPLES)]
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        let parts = ["train", "dev"].into_iter().find(|part| values.has(part));
        match (values.has("source"), parts) {
            (true, Some(part)) => Err(Invalid::new(part, format!("`source` and `{part}` exclude each other"))),
            (false, None) => {
                Err(Invalid::new("", "no data is given").help("write `train = \"FILE\"` and `dev = \"FILE\"`, or `source = \"sample\"`"))
            }
            _ => limits(values),
        }
    }

    fn run(&self, cx: &StageCx<'_>) -> Result<(), StageError> {
        dataset(cx)
    }
}

fn limits(values: &Values) -> Result<(), Invalid> {
    for (limit, part) in [("limit_train", "train"), ("limit_dev", "dev")] {
        if values.has(limit) && !values.has(part) && !values.has("source") {
            return Err(Invalid::new(limit, format!("there is no `{part}` to limit")));
        }
    }
    Ok(())
}

/// The values of a dataset stage.
#[derive(Debug, Deserialize)]
struct Wanted {
    source: Option<String>,
    train: Option<String>,
    dev: Option<String>,
    name: Option<String>,
    version: String,
    limit_train: Option<usize>,
    limit_dev: Option<usize>,
    subset_seed: u64,
    on_bad_answer: check::OnBadAnswer,
}

fn dataset(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let output = cx.output("examples")?;
    std::fs::create_dir(output).map_err(|e| StageError::io(output, &e))?;
    let mut versions = Vec::new();
    let mut kept: Vec<Vec<Question>> = Vec::new();
    for part in Part::ALL {
        let Some(loaded) = read::part(cx, &wanted, part)? else { continue };
        cx.checkpoint()?;
        let (questions, version) = check::part(loaded, &wanted, part)?;
        let limit = if part == Part::Train { wanted.limit_train } else { wanted.limit_dev };
        let questions = check::subset(questions, limit, wanted.subset_seed);
        report(cx, part, &questions);
        examples::write(&output.join(part.file()), &questions)?;
        versions.push(version);
        kept.push(questions);
    }
    if kept.is_empty() {
        return Err(Error::data(format!(
            "{}: no train and no dev or validation files",
            wanted.source.as_deref().unwrap_or("the data set")
        ))
        .into());
    }
    if let [train, dev] = kept.as_slice() {
        check::warn_of_overlap(cx, train, dev);
    }
    let version = if versions.iter().any(|version| version == "2.0") { "2.0" } else { "1.1" };
    let plain = if wanted.source.as_deref() == Some("sample") { "sample" } else { "squad" };
    Info { name: wanted.name.unwrap_or_else(|| plain.to_owned()), version: version.to_owned() }.write(output)?;
    Ok(())
}

fn report(cx: &StageCx<'_>, part: Part, questions: &[Question]) {
    let answerable = questions.iter().filter(|question| !question.answers.is_empty()).count();
    cx.reporter.log(&format!("{}: {} questions, {answerable} of them answerable", part.name(), questions.len()));
}
