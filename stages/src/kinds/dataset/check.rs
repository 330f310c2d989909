//! Whether questions are sound: ids, answers at their offsets, versions.

use std::collections::HashSet;

use qapipe_engine::StageCx;
use rayon::prelude::*;
use serde::Deserialize;

use super::Wanted;
use super::read::Loaded;
use crate::error::Error;
use crate::examples::{Answer, Part, Question};
use crate::python;

/// What to do with an answer that is not at its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnBadAnswer {
    /// Stop.
    Error,
    /// Leave the question out.
    Drop,
    /// Take the nearest place where the text stands.
    Relocate,
}

/// Checks a part and joins its files. Gives the questions and the version.
pub(super) fn part(files: Vec<Loaded>, wanted: &Wanted, part: Part) -> Result<(Vec<Question>, String), Error> {
    let stated = files.iter().find_map(|file| file.questions.version.clone());
    let mut kept: Vec<Question> = Vec::new();
    for file in files {
        let checked = check_file(&file, wanted.on_bad_answer)?;
        kept.extend(checked);
    }
    unique(&kept, part)?;
    if kept.is_empty() {
        return Err(Error::data(format!("the {} part has no questions", part.name())));
    }
    let shown = if kept.iter().any(|question| question.impossible) { "2.0" } else { "1.1" };
    let version = match wanted.version.as_str() {
        "auto" => stated.unwrap_or_else(|| shown.to_owned()),
        given => given.to_owned(),
    };
    match kept.iter().find(|question| question.answers.is_empty()) {
        Some(question) if version == "1.1" => {
            let message = format!("question {} of the {} part has no answer, which version 1.1 does not know", question.id, part.name());
            Err(Error::data(message).help("write `version = \"2.0\"` if it is meant to be unanswerable"))
        }
        _ => Ok((kept, version)),
    }
}

/// Checks the questions of a file side by side, and keeps what is to be kept.
fn check_file(file: &Loaded, on_bad: OnBadAnswer) -> Result<Vec<Question>, Error> {
    let rows = &file.questions.rows;
    let checked: Vec<Result<Option<Question>, String>> = rows
        .par_iter()
        .zip(&file.questions.stated)
        .map(|(question, stated)| match sound(question, *stated, on_bad) {
            Ok(sound) => Ok(Some(sound)),
            Err(_) if on_bad == OnBadAnswer::Drop && !question.id.is_empty() => Ok(None),
            Err(what) => Err(what),
        })
        .collect();
    let named = |(row, checked): (usize, Result<Option<Question>, String>)| match checked {
        Ok(question) => Ok(question),
        Err(what) => {
            let message = format!("{}: {}: question {}: {what}", file.name, file.questions.place(row), rows[row].id);
            Err(Error::data(message).help("repair the file, or set `on_bad_answer` to \"drop\" or \"relocate\""))
        }
    };
    checked.into_iter().enumerate().map(named).filter_map(Result::transpose).collect()
}

/// The question with its answers in their places, or what is wrong with it.
fn sound(question: &Question, stated: Option<bool>, on_bad: OnBadAnswer) -> Result<Question, String> {
    if question.id.is_empty() {
        return Err("its id is empty".to_owned());
    }
    match (stated, question.answers.len()) {
        (Some(true), 1..) => return Err("it is impossible, but has answers".to_owned()),
        (Some(false), 0) => return Err("it is not impossible, but has no answers".to_owned()),
        _ => {}
    }
    let answers = question.answers.iter().map(|answer| placed(answer, &question.context, on_bad)).collect::<Result<Vec<_>, _>>()?;
    Ok(Question { answers, ..question.clone() })
}

/// The answer, at its offset or moved to where it stands.
fn placed(answer: &Answer, context: &str, on_bad: OnBadAnswer) -> Result<Answer, String> {
    if answer.text.is_empty() {
        return Err("an answer is empty".to_owned());
    }
    let at = python::byte_of(context, answer.start as usize);
    if at.is_some_and(|at| context[at..].starts_with(&answer.text)) {
        return Ok(answer.clone());
    }
    if on_bad == OnBadAnswer::Relocate {
        return nearest(answer, context).ok_or_else(|| format!("the answer {:?} does not stand in the paragraph", answer.text));
    }
    let length = answer.text.chars().count();
    let there = python::slice(context, answer.start as usize, answer.start as usize + length);
    Err(format!("the answer {:?} is not at code point {}, where {there:?} stands", answer.text, answer.start))
}

/// The place nearest to the stated one where the text stands.
fn nearest(answer: &Answer, context: &str) -> Option<Answer> {
    let places = context.match_indices(&answer.text).map(|(at, _)| context[..at].chars().count());
    let place = places.min_by_key(|place| place.abs_diff(answer.start as usize))?;
    Some(Answer { start: u32::try_from(place).ok()?, ..answer.clone() })
}

/// Refuses an id that a part has twice.
pub(super) fn unique(questions: &[Question], part: Part) -> Result<(), Error> {
    let mut seen = HashSet::with_capacity(questions.len());
    match questions.iter().find(|question| !seen.insert(question.id.as_str())) {
        None => Ok(()),
        Some(question) => Err(Error::data(format!("the {} part has question {} twice", part.name(), question.id))
            .help("give every question an id of its own")),
    }
}

/// Says so where questions of the dev part are in the train part as well.
pub(super) fn warn_of_overlap(cx: &StageCx<'_>, train: &[Question], dev: &[Question]) {
    let known: HashSet<&str> = train.iter().map(|question| question.id.as_str()).collect();
    let both = dev.iter().filter(|question| known.contains(question.id.as_str())).count();
    if both > 0 {
        cx.reporter.log(&format!("warning: {both} questions of dev are in train as well: what is measured on them says little"));
    }
}
