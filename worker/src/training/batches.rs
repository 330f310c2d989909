//! Which rows every optimiser step sees: decided before the training begins, by the seed and the row lengths alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a step's batch is measured in. It defines the result; how it is cut into micro-batches does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// This many rows.
    Rows(usize),
    /// As many rows as fit into this many tokens, and at least one.
    Tokens(usize),
}

/// The rows of every step of a training, epoch by epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    rows: Vec<u32>,
    /// End of each step in `rows`.
    ends: Vec<usize>,
    /// First step of each epoch.
    epochs: Vec<usize>,
}

impl Steps {
    /// Plans whole epochs over `rows`, each in an order of its own that depends on `seed` and the epoch's number only.
    /// `length` gives a row's tokens. `most` ends the plan after so many steps.
    pub fn plan(rows: &[u32], length: impl Fn(u32) -> usize, size: BatchSize, epochs: u32, seed: u64, most: Option<u64>) -> Self {
        let mut steps = Self { rows: Vec::new(), ends: Vec::new(), epochs: Vec::new() };
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        for epoch in 0..epochs {
            if steps.ends.len() >= most || rows.is_empty() {
                break;
            }
            steps.epochs.push(steps.ends.len());
            let order = shuffled(rows, seed, epoch);
            steps.cut(&order, &length, size);
        }
        steps.ends.truncate(most);
        steps.rows.truncate(steps.ends.last().copied().unwrap_or(0));
        steps
    }

    /// Appends one epoch's steps.
    fn cut(&mut self, order: &[u32], length: &impl Fn(u32) -> usize, size: BatchSize) {
        let base = self.rows.len();
        for range in groups(order, length, size) {
            self.ends.push(base + range.end);
        }
        self.rows.extend_from_slice(order);
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Rows seen in all steps together.
    pub fn total_rows(&self) -> usize {
        self.rows.len()
    }

    /// Rows of a step, in the order in which they are seen.
    pub fn rows(&self, step: usize) -> &[u32] {
        let start = if step == 0 { 0 } else { self.ends[step - 1] };
        &self.rows[start..self.ends[step]]
    }

    /// Epochs completed before a step, with the fraction of the current one.
    #[allow(clippy::cast_precision_loss)]
    pub fn epoch(&self, step: usize) -> f64 {
        let epoch = self.epochs.partition_point(|&first| first <= step).saturating_sub(1);
        let first = self.epochs.get(epoch).copied().unwrap_or(0);
        let next = self.epochs.get(epoch + 1).copied().unwrap_or(self.ends.len().max(first + 1));
        epoch as f64 + (step - first) as f64 / (next - first) as f64
    }

    /// Whether an epoch ends with this step.
    pub fn ends_epoch(&self, step: usize) -> bool {
        step + 1 == self.ends.len() || self.epochs.contains(&(step + 1))
    }
}

/// Cuts rows, in their order, into groups of a size.
pub fn groups(rows: &[u32], length: &impl Fn(u32) -> usize, size: BatchSize) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut filled) = (0, 0);
    for (at, &row) in rows.iter().enumerate() {
        let cost = match size {
            BatchSize::Rows(_) => 1,
            BatchSize::Tokens(_) => length(row),
        };
        let (BatchSize::Rows(room) | BatchSize::Tokens(room)) = size;
        if at > start && filled + cost > room {
            groups.push(start..at);
            (start, filled) = (at, 0);
        }
        filled += cost;
    }
    if start < rows.len() {
        groups.push(start..rows.len());
    }
    groups
}

/// The rows in an order drawn for one epoch (Fisher and Yates, over a ChaCha stream: the same on every machine and in every version).
pub fn shuffled(rows: &[u32], seed: u64, epoch: u32) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(u64::from(epoch) + 1);
    let mut order = rows.to_vec();
    for last in (1..order.len()).rev() {
        let bound = last as u128 + 1;
        #[allow(clippy::cast_possible_truncation)]
        let pick = ((u128::from(random.next_u64()) * bound) >> 64) as usize;
        order.swap(last, pick);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(row: u32) -> usize {
        10 + row as usize % 7
    }

    #[test]
    fn every_epoch_sees_every_row_once_in_another_order() {
        let rows: Vec<u32> = (0..50).collect();
        let steps = Steps::plan(&rows, lengths, BatchSize::Rows(8), 2, 13, None);
        assert_eq!((steps.len(), steps.total_rows()), (14, 100));
        let epoch = |from: usize| (from..from + 7).flat_map(|s| steps.rows(s).to_vec()).collect::<Vec<_>>();
        let (first, second) = (epoch(0), epoch(7));
        assert_ne!(first, second);
        for mut seen in [first, second] {
            seen.sort_unstable();
            assert_eq!(seen, rows);
        }
        assert!(steps.ends_epoch(6) && steps.ends_epoch(13) && !steps.ends_epoch(5));
        assert!((steps.epoch(7) - 1.0).abs() < 1e-12 && steps.epoch(6) < 1.0);
    }

    #[test]
    fn the_seed_decides_and_the_order_is_pinned() {
        let rows: Vec<u32> = (0..8).collect();
        assert_eq!(shuffled(&rows, 13, 0), shuffled(&rows, 13, 0));
        assert_ne!(shuffled(&rows, 13, 0), shuffled(&rows, 14, 0));
        assert_ne!(shuffled(&rows, 13, 0), shuffled(&rows, 13, 1));
    }

    #[test]
    fn token_budgets_are_kept() {
        let rows: Vec<u32> = (0..50).collect();
        let steps = Steps::plan(&rows, lengths, BatchSize::Tokens(40), 1, 1, None);
        for step in 0..steps.len() {
            let tokens: usize = steps.rows(step).iter().map(|&row| lengths(row)).sum();
            assert!(tokens <= 40 && !steps.rows(step).is_empty());
        }
        let alone = Steps::plan(&rows, lengths, BatchSize::Tokens(1), 1, 1, None);
        assert_eq!(alone.len(), 50);
    }

    #[test]
    fn a_limit_ends_the_plan() {
        let rows: Vec<u32> = (0..50).collect();
        let steps = Steps::plan(&rows, lengths, BatchSize::Rows(8), 3, 13, Some(9));
        assert_eq!((steps.len(), steps.total_rows()), (9, 50 + 16));
        assert!(Steps::plan(&[], lengths, BatchSize::Rows(8), 3, 13, None).is_empty());
    }
}
