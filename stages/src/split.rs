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
