//! `dataset`: brings questions in.

mod check;
mod negatives;
mod read;
mod subset;

use qapipe_engine::{ArtifactType, Default, Invalid, OutputSpec, Param, StageCx, StageError, StageKind, Ty, Values};
use serde::Deserialize;

use crate::error::Error;
use crate::examples::{self, Info, Part, Question};

/// Questions from files, the hub, or the built-in sample.
pub struct Dataset;

const COUNT: Ty = Ty::Int { min: 1, max: 1_000_000_000 };
const TITLES: Ty = Ty::List(&Ty::Str);
const SHARE: Ty = Ty::Float { min: 0.0, max: 1.0 };
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
    Param::optional("articles_train", TITLES, "Take only the train questions about the articles with these titles."),
    Param::optional("articles_dev", TITLES, "Take only the dev questions about the articles with these titles."),
    Param::optional(
        "limit_articles_train",
        COUNT,
        "Take only the train questions about so many articles, chosen by their titles and `subset_seed`.",
    ),
    Param::optional(
        "limit_articles_dev",
        COUNT,
        "Take only the dev questions about so many articles, chosen by their titles and `subset_seed`.",
    ),
    Param::with(
        "negatives_train",
        SHARE,
        Default::Float(0.0),
        "For this share of the answerable train questions, add the question again with a paragraph that does not hold its answers.",
    ),
    Param::with("negatives_dev", SHARE, Default::Float(0.0), "The same for dev; what is then measured is no longer the official figure."),
    Param::with(
        "balance",
        Ty::Choice(&["none", "train", "dev", "both"]),
        Default::Str("none"),
        "Which part to bring to as many answerable as unanswerable questions, by leaving surplus ones out.",
    ),
    Param::optional("limit_train", COUNT, "Take only so many train questions, chosen by their ids and `subset_seed`, in file order."),
    Param::optional("limit_dev", COUNT, "Take only so many dev questions, chosen by their ids and `subset_seed`, in file order."),
    Param::with(
        "subset_seed",
        Ty::Int { min: 0, max: i64::MAX },
        Default::Int(0),
        "Decides what the limits, `balance` and `negatives_*` choose; a smaller subset is part of a larger one.",
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
         data set in SQuAD 2.0 form that qapipe makes itself, always the same, a third of it unanswerable.\n\n\
         What is asked for is done in this order, part by part: articles are chosen (`articles_*`, then `limit_articles_*` of them); \
         synthetic negatives are added (`negatives_*`); the part is balanced (`balance`); so many questions are taken (`limit_*`), of \
         a balanced part as many of either kind. A synthetic negative has the id `ID#negative`, stands after the question ID, and has \
         a paragraph of the same part, of another article where one fits, in which none of the question's gold answers stands: \
         neither regardless of case nor as the metric normalizes texts. With negatives a data set is of version 2.0. `subset_seed` and \
         ids or titles decide every choice: the result depends neither on threads nor on the machine."
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
            _ => selections(values),
        }
    }

    fn run(&self, cx: &StageCx<'_>) -> Result<(), StageError> {
        dataset(cx)
    }
}

/// Refuses what is said about a part that is not there, and what version 1.1 cannot have.
fn selections(values: &Values) -> Result<(), Invalid> {
    ["train", "dev"].into_iter().try_for_each(|part| selection(values, part))
}

fn selection(values: &Values, part: &str) -> Result<(), Invalid> {
    let (articles, negatives) = (format!("articles_{part}"), format!("negatives_{part}"));
    let adds = values.get(&negatives).and_then(serde_json::Value::as_f64).is_some_and(|share| share > 0.0);
    let balances = values.text("balance").is_some_and(|said| said == part || said == "both");
    let limits = [format!("limit_{part}"), format!("limit_articles_{part}"), articles.clone()];
    let limits = limits.into_iter().find(|name| values.has(name)).map(|name| (name, "limit"));
    let unanswerable = adds.then_some((negatives, "add to")).or_else(|| balances.then(|| ("balance".to_owned(), "balance")));
    if !values.has(part)
        && !values.has("source")
        && let Some((name, verb)) = limits.or_else(|| unanswerable.clone())
    {
        return Err(Invalid::new(&name, format!("there is no `{part}` to {verb}")));
    }
    if values.get(&articles).and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty) {
        return Err(Invalid::new(&articles, "no article is named").help(format!("leave `{articles}` out to take all")));
    }
    match unanswerable {
        Some((name, _)) if values.text("version") == Some("1.1") => {
            Err(Invalid::new(&name, "version 1.1 knows no unanswerable questions").help("leave `version` out"))
        }
        _ => Ok(()),
    }
}

/// The values of a dataset stage.
#[derive(Debug, Deserialize)]
struct Wanted {
    source: Option<String>,
    train: Option<String>,
    dev: Option<String>,
    name: Option<String>,
    version: String,
    articles_train: Option<Vec<String>>,
    articles_dev: Option<Vec<String>>,
    limit_articles_train: Option<usize>,
    limit_articles_dev: Option<usize>,
    negatives_train: f64,
    negatives_dev: f64,
    balance: Balance,
    limit_train: Option<usize>,
    limit_dev: Option<usize>,
    subset_seed: u64,
    on_bad_answer: check::OnBadAnswer,
}

/// Which parts are to be balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Balance {
    None,
    Train,
    Dev,
    Both,
}

/// What becomes of one part.
struct Selection<'a> {
    articles: Option<&'a [String]>,
    limit_articles: Option<usize>,
    negatives: f64,
    balance: bool,
    limit: Option<usize>,
}

impl Wanted {
    fn selection(&self, part: Part) -> Selection<'_> {
        match part {
            Part::Train => Selection {
                articles: self.articles_train.as_deref(),
                limit_articles: self.limit_articles_train,
                negatives: self.negatives_train,
                balance: matches!(self.balance, Balance::Train | Balance::Both),
                limit: self.limit_train,
            },
            Part::Dev => Selection {
                articles: self.articles_dev.as_deref(),
                limit_articles: self.limit_articles_dev,
                negatives: self.negatives_dev,
                balance: matches!(self.balance, Balance::Dev | Balance::Both),
                limit: self.limit_dev,
            },
        }
    }
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
        let (questions, added) = select(cx, questions, &wanted, part)?;
        report(cx, part, &questions);
        examples::write(&output.join(part.file()), &questions)?;
        versions.push(if added { "2.0".to_owned() } else { version });
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

/// The questions of a part that are kept, and those that are added: articles, negatives, balance, count, in this order. Says whether
/// negatives were added.
fn select(cx: &StageCx<'_>, questions: Vec<Question>, wanted: &Wanted, part: Part) -> Result<(Vec<Question>, bool), Error> {
    let (selection, seed) = (wanted.selection(part), wanted.subset_seed);
    let questions = subset::articles(questions, selection.articles, selection.limit_articles, seed, part)?;
    let (mut questions, added) = negatives::add(cx, questions, selection.negatives, seed, part);
    if added {
        check::unique(&questions, part)?;
    }
    if selection.balance {
        questions = subset::balanced(questions, seed, part)?;
    }
    Ok((subset::limited(questions, selection.limit, seed, selection.balance), added))
}

fn report(cx: &StageCx<'_>, part: Part, questions: &[Question]) {
    let answerable = questions.iter().filter(|question| !question.answers.is_empty()).count();
    cx.reporter.log(&format!("{}: {} questions, {answerable} of them answerable", part.name(), questions.len()));
}
