//! How long one question takes.

use std::time::Instant;

use crate::error::Error;

/// Runs before the first that counts.
const WARM_UP: usize = 20;

/// Seconds of single runs at batch 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
}

/// Times `run` on each of `questions`, one at a time, after a warm-up over the same questions. `run` must wait for the device.
///
/// # Errors
/// What `run` reports.
pub fn measure(questions: &[usize], mut run: impl FnMut(usize) -> Result<(), Error>) -> Result<Option<Latency>, Error> {
    if questions.is_empty() {
        return Ok(None);
    }
    for &question in questions.iter().cycle().take(WARM_UP) {
        run(question)?;
    }
    let mut seconds = Vec::with_capacity(questions.len());
    for &question in questions {
        let start = Instant::now();
        run(question)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Some(Latency { p50: percentile(&seconds, 50), p95: percentile(&seconds, 95) }))
}

/// The smallest value that `percent` of the sorted values do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((percentile(&values, 50) - 50.0).abs() < 1e-12 && (percentile(&values, 95) - 95.0).abs() < 1e-12);
        assert!((percentile(&[3.0], 95) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn warms_up_and_then_runs_every_row_once() {
        let mut seen = Vec::new();
        let found = measure(&[4, 5], |row| {
            seen.push(row);
            Ok(())
        });
        assert!(found.unwrap().is_some());
        assert_eq!(seen.len(), WARM_UP + 2);
        assert_eq!(measure(&[], |_| Ok(())).unwrap(), None);
    }
}
