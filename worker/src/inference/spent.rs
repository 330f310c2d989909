//! Asking everything, and what that takes.

use std::time::Instant;

use qapipe_engine::StageCx;
use qapipe_stages::evaluate::Prediction;

use super::{Answered, Answerer, Kept, answer};
use crate::error::Error;
use crate::figures::{Energy, peak, reset_peak};
use crate::precision;

/// What answering all questions took.
pub struct Spent {
    /// Seconds.
    pub seconds: f64,
    /// Questions a second.
    pub throughput: f64,
    /// Most bytes held at one time.
    pub peak_memory_bytes: Option<f64>,
    /// Energy of the GPU.
    pub energy_joules: Option<f64>,
}

impl Spent {
    /// Tells it for the action record.
    fn report(&self, cx: &StageCx<'_>) {
        let known = [
            ("evaluate_seconds", Some(self.seconds)),
            ("throughput", Some(self.throughput)),
            ("peak_memory_bytes", self.peak_memory_bytes),
            ("energy_joules", self.energy_joules),
        ];
        for (name, value) in known {
            value.into_iter().for_each(|value| cx.reporter.measure(name, value));
        }
    }
}

/// Answers every question, but for those that were answered before; with what that took, where all were answered now. `unit` is what a model
/// reads: windows, or questions.
///
/// # Errors
/// As [`answer`].
#[allow(clippy::cast_precision_loss)]
pub fn ask<A: Answerer>(answerer: &A, unit: &str, cx: &StageCx<'_>) -> Result<(Vec<Prediction>, Option<Spent>), Error> {
    let questions: Vec<usize> = (0..answerer.examples().len()).collect();
    let kept = Kept::open(answerer, cx)?;
    let place = answerer.network().parameters().device();
    reset_peak(place)?;
    let (energy, start) = (Energy::start(precision::index(place)), Instant::now());
    let Answered { answers, now } =
        answer(answerer, &questions, Some(kept), cx, &mut |done, total| cx.reporter.progress(done, total, unit, ""))?;
    let seconds = start.elapsed().as_secs_f64();
    let spent = Spent {
        seconds,
        throughput: now as f64 / seconds.max(1e-9),
        peak_memory_bytes: peak(place)?.map(|bytes| bytes as f64),
        energy_joules: energy.joules(),
    };
    cx.reporter.log(&format!("{} questions, {} of them answered before", questions.len(), questions.len() - now));
    let spent = Some(spent).filter(|_| now == questions.len());
    spent.iter().for_each(|spent| spent.report(cx));
    Ok((answers.into_iter().map(Prediction::from).collect(), spent))
}
