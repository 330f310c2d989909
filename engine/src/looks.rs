//! Looking at many things: one after the other while that takes no time, and side by side from there on.

use std::time::{Duration, Instant};

use rayon::prelude::*;

/// How long one thread goes on alone. Looks that are answered from memory are over by then, and to wake other threads costs more than it saves;
/// where a disk or a network answers them, this is little beside the rest.
const ALONE: Duration = Duration::from_millis(10);

/// What each thing turns out to be, in their order.
pub(crate) fn look_at_each<T: Sync, R: Send>(things: &[T], look: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let started = Instant::now();
    let mut found: Vec<R> = things.iter().take_while(|_| started.elapsed() < ALONE).map(&look).collect();
    let rest = &things[found.len()..];
    // To ask for nothing would start the threads all the same.
    if !rest.is_empty() {
        found.par_extend(rest.par_iter().map(&look));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_looked_at_in_order_however_long_it_takes() {
        let things: Vec<u64> = (0..40).collect();
        for milliseconds in [0, 1] {
            let look = |thing: &u64| {
                std::thread::sleep(Duration::from_millis(milliseconds));
                thing * 2
            };
            assert_eq!(look_at_each(&things, look), things.iter().map(|thing| thing * 2).collect::<Vec<_>>());
        }
    }
}
