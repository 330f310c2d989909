//! Packs the coming batches on a thread of its own while the device works.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use super::Source;
use super::batches::{BatchSize, Steps, groups};
use crate::error::Error;

/// Batches that may wait, packed.
const DEPTH: usize = 4;

/// One pass through the model: a step's whole batch, or a piece of it.
pub struct Micro<B> {
    /// The packed rows.
    pub batch: B,
    /// Their share of what the step's rows count for, and so of its loss.
    pub share: f64,
    /// How many they are.
    pub rows: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Whether it is the step's last.
    pub last: bool,
}

/// Starts packing the micro-batches of all steps from one on, in order, on a thread of `scope`. The thread ends when the receiver is dropped.
pub fn feed<'scope, S: Source>(
    scope: &'scope Scope<'scope, '_>,
    source: &'scope S,
    steps: &'scope Steps,
    first: usize,
    micro_tokens: usize,
    pin: bool,
) -> Receiver<Result<Micro<S::Batch>, Error>> {
    let (sender, receiver) = sync_channel(DEPTH);
    scope.spawn(move || {
        for step in first..steps.len() {
            for micro in pieces(source, steps.rows(step), micro_tokens, pin) {
                let failed = micro.is_err();
                if sender.send(micro).is_err() || failed {
                    return;
                }
            }
        }
    });
    receiver
}

/// A step's rows as micro-batches, packed one at a time.
fn pieces<'a, S: Source>(
    source: &'a S,
    rows: &'a [u32],
    budget: usize,
    pin: bool,
) -> impl Iterator<Item = Result<Micro<S::Batch>, Error>> + 'a {
    let ranges = groups(rows, &|row| source.tokens(row), BatchSize::Tokens(budget));
    let count = ranges.len();
    let weight = |rows: &[u32]| rows.iter().map(|&row| source.weight(row)).sum::<usize>();
    let whole = weight(rows);
    ranges.into_iter().enumerate().map(move |(at, range)| {
        let piece = &rows[range];
        let tokens = piece.iter().map(|&row| source.tokens(row)).sum();
        let batch = source.collate(piece, pin)?;
        #[allow(clippy::cast_precision_loss)]
        let share = weight(piece) as f64 / whole as f64;
        Ok(Micro { batch, share, rows: piece.len(), tokens, last: at + 1 == count })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Source for Fixed {
        type Batch = Vec<u32>;

        fn tokens(&self, row: u32) -> usize {
            row as usize
        }

        fn collate(&self, rows: &[u32], _: bool) -> Result<Vec<u32>, Error> {
            if rows.contains(&99) { Err(Error::failed("row 99")) } else { Ok(rows.to_vec()) }
        }
    }

    #[test]
    fn pieces_cover_the_step_and_their_shares_sum_to_one() {
        let all: Vec<_> = pieces(&Fixed, &[5, 5, 5, 20, 1], 10, false).filter_map(Result::ok).collect();
        assert_eq!(all.iter().map(|m| m.batch.clone()).collect::<Vec<_>>(), [vec![5, 5], vec![5], vec![20], vec![1]]);
        assert!((all.iter().map(|m| m.share).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(all.iter().map(|m| m.last).collect::<Vec<_>>(), [false, false, false, true]);
    }

    #[test]
    fn an_error_ends_the_feed_and_an_early_stop_does_not_hang() {
        let steps = Steps::plan(&[1, 2, 99, 3, 4, 5, 6, 7, 8], |row| row as usize, BatchSize::Rows(1), 5, 1, None);
        std::thread::scope(|scope| {
            let seen: Vec<bool> = feed(scope, &Fixed, &steps, 0, 10, false).iter().map(|m| m.is_ok()).collect();
            assert_eq!(seen.iter().filter(|&&fine| !fine).count(), 1);
            assert_eq!(seen.last(), Some(&false));
        });
        std::thread::scope(|scope| drop(feed(scope, &Fixed, &steps, 0, 10, false)));
    }
}
