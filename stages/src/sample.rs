//! The built-in sample: a data set in SQuAD 2.0 form that is made here, always the same.
//!
//! Short paragraphs about invented towns, people, companies, ships and birds. Each states four of the six facts that its sort of
//! thing can have, and is asked about all six: a third of the questions has no answer. The two parts share words, not things.

mod facts;

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::bootstrap::below;
use crate::examples::{Answer, Part, Question};
use crate::squad_json::Questions;
use facts::{DOMAINS, Domain, FILLERS, Fact};

/// Seed of the sample: it is part of what the sample is.
const SEED: u64 = 20;
/// Paragraphs of an article.
const PARAGRAPHS: usize = 4;
/// Facts that a paragraph states.
const STATED: usize = 4;

/// The questions of a part.
pub fn questions(part: Part) -> Questions {
    let (articles, stream) = if part == Part::Train { (50, 0) } else { (10, 1) };
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    random.set_stream(stream);
    let mut found = Questions { version: Some("2.0".to_owned()), ..Questions::default() };
    let mut used = std::collections::HashSet::new();
    for article in 0..articles {
        let domain = &DOMAINS[article % DOMAINS.len()];
        let title: Arc<str> = format!("{} {}", domain.title, article / DOMAINS.len() + 1).into();
        for paragraph in 0..PARAGRAPHS {
            let subject = subject(&mut random, domain, part, &mut used);
            let rows = paragraph_about(&mut random, domain, &subject, &title);
            for (number, question) in rows.into_iter().enumerate() {
                let at = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                found.places.push([at(article), at(paragraph), at(number)]);
                found.stated.push(Some(question.impossible));
                let id = format!("sample-{}-{article:02}-{paragraph}-{number}", part.name());
                found.rows.push(Question { id, ..question });
            }
        }
    }
    found
}

/// A name that was not used before. Which pairs of halves make names decides the part: no name is in both.
fn subject(random: &mut ChaCha8Rng, domain: &Domain, part: Part, used: &mut std::collections::HashSet<String>) -> String {
    loop {
        let (first, last) = (below(random, domain.first.len()), below(random, domain.last.len()));
        let is_dev = (first + last) % 4 == 0;
        let name = format!("{}{}{}", domain.first[first], domain.joint, domain.last[last]);
        if is_dev == (part == Part::Dev) && used.insert(name.clone()) {
            return name;
        }
    }
}

/// One paragraph with its questions, still without ids.
fn paragraph_about(random: &mut ChaCha8Rng, domain: &Domain, subject: &str, title: &Arc<str>) -> Vec<Question> {
    let mut order: Vec<usize> = (0..domain.facts.len()).collect();
    shuffle(random, &mut order);
    let mut context = fill(domain.opening, subject, "");
    let mut answers: Vec<Option<Answer>> = vec![None; domain.facts.len()];
    let filler_at = below(random, STATED);
    for (position, &fact) in order.iter().take(STATED).enumerate() {
        if position == filler_at {
            context.push(' ');
            context.push_str(pick(random, FILLERS));
        }
        context.push(' ');
        answers[fact] = Some(state(random, &mut context, &domain.facts[fact], subject));
    }
    let context: Arc<str> = context.into();
    let ask = |(fact, answer): (&Fact, Option<Answer>)| Question {
        id: String::new(),
        title: Arc::clone(title),
        context: Arc::clone(&context),
        question: fill(pick(random, fact.questions), subject, ""),
        impossible: answer.is_none(),
        answers: answer.into_iter().collect(),
    };
    domain.facts.iter().zip(answers).map(ask).collect()
}

/// Adds a sentence that states a fact, and says where in the context its answer stands.
fn state(random: &mut ChaCha8Rng, context: &mut String, fact: &Fact, subject: &str) -> Answer {
    let template = pick(random, fact.sentences);
    let answer = fact.answers.draw(random);
    let before = template.split("{a}").next().unwrap_or_default();
    let start = context.chars().count() + fill(before, subject, "").chars().count();
    context.push_str(&fill(template, subject, &answer));
    Answer { text: answer, start: u32::try_from(start).unwrap_or(u32::MAX) }
}

fn fill(template: &str, subject: &str, answer: &str) -> String {
    template.replace("{s}", subject).replace("{a}", answer)
}

fn pick<'a>(random: &mut ChaCha8Rng, from: &[&'a str]) -> &'a str {
    from.get(below(random, from.len())).copied().unwrap_or_default()
}

fn shuffle(random: &mut ChaCha8Rng, items: &mut [usize]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(random, last + 1));
    }
}
