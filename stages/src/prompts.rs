//! Prompts: some examples with their answers, and a question.

use std::collections::HashSet;

use qapipe_cache::Digest;

use crate::error::Error;
use crate::examples::Examples;
use crate::python;
use crate::template::{Slot, Template};

/// How prompts are worded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompting {
    /// What stands before everything else.
    pub header: String,
    /// Words around a question and its paragraph.
    pub template: Template,
    /// What stands between two of them.
    pub separator: String,
    /// The answer of an example that has none.
    pub no_answer: String,
}

impl Prompting {
    /// An example with its answer, the first gold one.
    #[must_use]
    pub fn shot(&self, examples: &Examples, row: usize) -> String {
        let answer = examples.golds(row).next().unwrap_or(&self.no_answer);
        let space = if self.spaced() { " " } else { "" };
        format!("{}{space}{answer}", self.question(examples, row))
    }

    /// Whether a space stands between a question and its answer.
    #[must_use]
    pub fn spaced(&self) -> bool {
        !self.template.ends_open()
    }

    /// A question without its answer.
    #[must_use]
    pub fn question(&self, examples: &Examples, row: usize) -> String {
        self.template.fill(|slot| match slot {
            Slot::Question => python::trim_start(examples.question(row)).to_owned(),
            Slot::Context => examples.context(row).to_owned(),
            Slot::Title => examples.title(row).to_owned(),
        })
    }

    /// The whole prompt: the header, the examples, the question.
    #[must_use]
    pub fn prompt(&self, shots: &[String], question: &str) -> String {
        let header = Some(self.header.as_str()).filter(|header| !header.is_empty());
        let parts: Vec<&str> = header.into_iter().chain(shots.iter().map(String::as_str)).chain([question]).collect();
        parts.join(&self.separator)
    }
}

/// Chooses `count` examples of the train part, half of them without an answer where there are such (the odd one has an answer), each of
/// another article as far as there are enough; `seed` decides which, and their order. None is of an article or a paragraph that `asked` asks
/// about (where the train part is of one article, paragraphs alone count), and none is taken that does not `fit`.
///
/// # Errors
/// Where there are not so many.
pub fn shots(
    train: &Examples,
    asked: &Examples,
    count: usize,
    seed: u64,
    fit: &dyn Fn(usize) -> Result<bool, Error>,
) -> Result<Vec<usize>, Error> {
    let apart = apart(train, asked);
    let mut order: Vec<(Digest, usize)> = (0..train.len()).filter(|&row| apart(row)).map(|row| (rank(train, row, seed), row)).collect();
    order.sort_unstable();
    let without = if (0..train.len()).any(|row| !train.has_answer(row)) { count / 2 } else { 0 };
    let wanted = [without, count - without];
    let mut room = wanted;
    let (mut chosen, mut articles) = (Vec::new(), HashSet::new());
    for fresh in [true, false] {
        for &(_, row) in &order {
            let left = &mut room[usize::from(train.has_answer(row))];
            let new = !articles.contains(train.title(row));
            if *left == 0 || new != fresh || chosen.contains(&row) || !fit(row)? {
                continue;
            }
            *left -= 1;
            chosen.push(row);
            articles.insert(train.title(row));
        }
    }
    if chosen.len() < count {
        return Err(too_few(wanted, room));
    }
    chosen.sort_by_key(|&row| Digest::of_bytes(format!("{seed} order {}", train.id(row)).as_bytes()));
    Ok(chosen)
}

/// Whether a question of the train part is of another article and of another paragraph than those that are asked about.
fn apart<'a>(train: &'a Examples, asked: &'a Examples) -> impl Fn(usize) -> bool + 'a {
    let paragraphs: HashSet<&str> = (0..asked.contexts()).map(|at| asked.context_text(at)).collect();
    let by_title = train.titles() > 1;
    let titles: HashSet<&str> = if by_title { (0..asked.len()).map(|row| asked.title(row)).collect() } else { HashSet::new() };
    move |row| !paragraphs.contains(train.context(row)) && !titles.contains(train.title(row))
}

fn rank(train: &Examples, row: usize, seed: u64) -> Digest {
    Digest::of_bytes(format!("{seed} {}", train.id(row)).as_bytes())
}

/// The error for a train part that has not as many examples as are wanted; both counts are without an answer, and with one.
fn too_few(wanted: [usize; 2], missing: [usize; 2]) -> Error {
    let [without, with] = [wanted[0] - missing[0], wanted[1] - missing[1]];
    let message = format!(
        "shots: of articles that are not asked about, the train part has {with} examples with an answer and {without} without one that fit into a \
         prompt; {} and {} are wanted",
        wanted[1], wanted[0]
    );
    Error::data(message).help("lower `shots`, raise `max_length`, or bring more train data")
}
