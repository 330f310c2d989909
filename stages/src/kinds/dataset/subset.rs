//! Which questions of a part are kept: so many, as many answerable as unanswerable ones, or so many articles.
//!
//! What is kept, hashes of ids or titles with a seed decide. So it does not depend on the order of a file, and a smaller subset is part
//! of a larger one.

use std::collections::HashSet;

use qapipe_cache::Digest;
use rayon::prelude::*;

use crate::error::Error;
use crate::examples::{Part, Question};

/// Keeps the questions about some articles: those of these titles, and of them at most `limit`.
pub(super) fn articles(
    questions: Vec<Question>,
    titles: Option<&[String]>,
    limit: Option<usize>,
    seed: u64,
    part: Part,
) -> Result<Vec<Question>, Error> {
    if titles.is_none() && limit.is_none() {
        return Ok(questions);
    }
    let there = distinct_titles(&questions);
    let wanted: Vec<&str> = match titles {
        None => there,
        Some(titles) => {
            if let Some(strange) = titles.iter().find(|title| !there.contains(&title.as_str())) {
                return Err(no_article(strange, &there, part));
            }
            there.into_iter().filter(|title| titles.iter().any(|wanted| wanted == title)).collect()
        }
    };
    let rows: Vec<usize> = (0..wanted.len()).collect();
    let chosen: HashSet<usize> = lowest(&rows, limit.unwrap_or(usize::MAX), |row| format!("{seed} {}", wanted[row]));
    let chosen: HashSet<String> = chosen.into_iter().map(|row| wanted[row].to_owned()).collect();
    Ok(questions.into_iter().filter(|question| chosen.contains(&*question.title)).collect())
}

/// The titles of all articles, in the order of their first questions.
fn distinct_titles(questions: &[Question]) -> Vec<&str> {
    let mut seen = HashSet::new();
    questions.iter().map(|question| &*question.title).filter(|title| seen.insert(*title)).collect()
}

fn no_article(title: &str, there: &[&str], part: Part) -> Error {
    let some: Vec<&str> = there.iter().copied().take(3).collect();
    Error::data(format!("the {} part has no article {title:?}", part.name())).help(format!(
        "write titles as the data has them; it has {} articles, among them {}",
        there.len(),
        some.join(", ")
    ))
}

/// Drops questions of the larger kind until there are as many answerable as unanswerable ones.
pub(super) fn balanced(questions: Vec<Question>, seed: u64, part: Part) -> Result<Vec<Question>, Error> {
    let kinds = by_kind(&questions);
    let least = kinds.iter().map(Vec::len).min().unwrap_or(0);
    if least == 0 {
        let lacking = if kinds[0].is_empty() { "answerable" } else { "unanswerable" };
        let message = format!("the {} part cannot be balanced: none of its {} questions is {lacking}", part.name(), questions.len());
        let help = format!("leave `balance` out; with `negatives_{}` unanswerable questions are added to answerable ones", part.name());
        return Err(Error::data(message).help(help));
    }
    let chosen = kinds.iter().flat_map(|rows| of_questions(&questions, rows, least, seed)).collect();
    Ok(keep(questions, &chosen))
}

/// Keeps at most `limit` questions; where a part is balanced, as many of either kind, but for one.
pub(super) fn limited(questions: Vec<Question>, limit: Option<usize>, seed: u64, balanced: bool) -> Vec<Question> {
    let Some(limit) = limit.filter(|&limit| limit < questions.len()) else { return questions };
    let chosen = if balanced {
        let shares = [limit.div_ceil(2), limit / 2];
        by_kind(&questions).iter().zip(shares).flat_map(|(rows, share)| of_questions(&questions, rows, share, seed)).collect()
    } else {
        of_questions(&questions, &(0..questions.len()).collect::<Vec<_>>(), limit, seed)
    };
    keep(questions, &chosen)
}

/// The rows of the answerable questions, and of the others.
fn by_kind(questions: &[Question]) -> [Vec<usize>; 2] {
    let (with, without) = (0..questions.len()).partition(|&row| !questions[row].answers.is_empty());
    [with, without]
}

fn of_questions(questions: &[Question], rows: &[usize], count: usize, seed: u64) -> HashSet<usize> {
    lowest(rows, count, |row| format!("{seed} {}", questions[row].id))
}

/// The `count` rows whose names hash lowest.
pub(super) fn lowest(rows: &[usize], count: usize, name: impl Fn(usize) -> String + Sync) -> HashSet<usize> {
    let mut order: Vec<(Digest, usize)> = rows.par_iter().map(|&row| (Digest::of_bytes(name(row).as_bytes()), row)).collect();
    order.par_sort_unstable();
    order.into_iter().take(count).map(|(_, row)| row).collect()
}

fn keep(questions: Vec<Question>, chosen: &HashSet<usize>) -> Vec<Question> {
    questions.into_iter().enumerate().filter(|(row, _)| chosen.contains(row)).map(|(_, question)| question).collect()
}
