//! Which articles of the train part are held out from training.

use qapipe_cache::Digest;

use crate::examples::Examples;

/// Marks the questions that are held out: whole articles, in an order that the seed and their titles decide, until `share` of the
/// questions is reached. With `share` above 0 at least one article is held out, and at least one is left to learn from; a data set
/// of a single article is divided by paragraphs instead.
pub fn holdout(examples: &Examples, share: f64, seed: u64) -> Vec<bool> {
    if share <= 0.0 || examples.is_empty() {
        return vec![false; examples.len()];
    }
    let by_title = examples.titles() > 1;
    let groups = if by_title { examples.titles() } else { examples.contexts() };
    let group = |row: usize| (if by_title { examples.title_index(row) } else { examples.context_index(row) }) as usize;
    let mut sizes = vec![0_usize; groups];
    let mut rank = vec![None; groups];
    for row in 0..examples.len() {
        let text = if by_title { examples.title(row) } else { examples.context(row) };
        sizes[group(row)] += 1;
        rank[group(row)].get_or_insert_with(|| Digest::of_bytes(format!("{seed} {text}").as_bytes()));
    }
    let chosen = choose(&sizes, &rank, share * rows(examples.len()));
    (0..examples.len()).map(|row| chosen[group(row)]).collect()
}

/// Of some questions as many with an answer as without one: of the sort that there are more of, some are left out, evenly from beginning to
/// end. Where there is only one sort, all stay.
#[must_use]
pub fn balanced(examples: &Examples, questions: Vec<usize>) -> Vec<usize> {
    let answerable = |question: &usize| examples.golds(*question).next().is_some();
    let with = questions.iter().filter(|question| answerable(question)).count();
    let (few, many) = (with.min(questions.len() - with), with.max(questions.len() - with));
    let common = with == many;
    let mut seen = 0;
    let kept = questions.into_iter().filter(|question| {
        if few == 0 || answerable(question) != common {
            return true;
        }
        seen += 1;
        seen * few / many > (seen - 1) * few / many
    });
    kept.collect()
}

#[expect(clippy::cast_precision_loss, reason = "no data set is that large")]
fn rows(count: usize) -> f64 {
    count as f64
}

/// Takes groups by rank until `wanted` rows are reached, but never all of them. A group that would go far beyond is passed over, as long
/// as there is a smaller one.
fn choose(sizes: &[usize], rank: &[Option<Digest>], wanted: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..sizes.len()).filter(|&group| sizes[group] > 0).collect();
    order.sort_by_key(|&group| rank[group]);
    let least = order.iter().map(|&group| sizes[group]).min().unwrap_or(0);
    let mut chosen = vec![false; sizes.len()];
    let (mut taken, mut left) = (0, order.len());
    for group in order {
        if left == 1 || (taken > 0 && rows(taken) >= wanted) {
            break;
        }
        if rows(taken + sizes[group]) > 2.0 * wanted && sizes[group] > least {
            continue;
        }
        chosen[group] = true;
        taken += sizes[group];
        left -= 1;
    }
    chosen
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::examples::{Part, write};
    use crate::sample;

    #[test]
    fn balancing_takes_evenly_from_the_larger_sort() {
        let folder = tempfile::tempdir().unwrap();
        let questions = sample::questions(Part::Train).rows;
        write(&folder.path().join(Part::Train.file()), &questions).unwrap();
        let examples = Examples::open_part(folder.path(), Part::Train).unwrap().unwrap();
        let all: Vec<usize> = (0..examples.len()).collect();
        let answerable = |kept: &[usize]| kept.iter().filter(|&&question| examples.golds(question).next().is_some()).count();
        let kept = balanced(&examples, all.clone());
        assert!(answerable(&kept) * 2 == kept.len() && kept.len() == 2 * (all.len() - answerable(&all)), "{} of {}", kept.len(), all.len());
        assert!(kept.is_sorted() && answerable(&kept[..kept.len() / 2]) * 3 > kept.len() / 2);
        let some: Vec<usize> = all.iter().copied().filter(|&question| examples.golds(question).next().is_some()).collect();
        assert_eq!(balanced(&examples, some.clone()), some);
        assert_eq!(balanced(&examples, Vec::new()), Vec::<usize>::new());
    }
}
