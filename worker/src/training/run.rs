//! The loop itself.

use std::path::Path;
use std::time::Instant;

use qapipe_engine::{ErrorClass, StageCx};
use qapipe_nn::{AdamW, Snapshot, device};
use qapipe_stages::tables::TrainingRow;

use super::batches::Steps;
use super::prefetch::{Micro, feed};
use super::recipe::Recipe;
use super::resume::{Resume, State, read_tensors, write_tensors};
use super::schedule::Schedule;
use super::window::Window;
use super::{Evaluation, Masking, Source, Trainee};
use crate::error::Error;

/// What a training was.
#[derive(Clone, Debug)]
pub struct Summary {
    /// One row a look at the losses, and one an evaluation.
    pub log: Vec<TrainingRow>,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Rows seen, repeats included.
    pub examples: u64,
    /// Seconds of training, without the evaluations.
    pub seconds: f64,
    /// Whether all of it was one execution.
    pub whole: bool,
    /// The evaluation of the parameters that were kept, if there was one.
    pub kept: Option<Evaluation>,
}

/// What goes along with a training.
pub struct Alongside {
    /// Chooses which weights stay.
    pub masking: Option<Masking>,
    /// Where its states are kept.
    pub resume: Resume,
}

/// Trains on `rows` of `source`. Afterwards `trainee` holds the parameters to keep: the last, or the best evaluated.
///
/// # Errors
/// When the loss or the gradient leaves the numbers, on an interrupt, and what libtorch reports.
pub fn train<S, T>(
    trainee: &mut T,
    source: &S,
    rows: &[u32],
    optimiser: &mut AdamW,
    recipe: &Recipe,
    Alongside { masking, resume }: Alongside,
    cx: &StageCx<'_>,
) -> Result<Summary, Error>
where
    S: Source,
    T: Trainee<Batch = S::Batch>,
{
    let steps = Steps::plan(rows, |row| source.tokens(row), recipe.batch, recipe.epochs, recipe.seed, recipe.steps);
    let pin = trainee.parameters().device().is_cuda();
    std::thread::scope(|scope| {
        let mut run = Run::new(trainee, optimiser, recipe, &steps, resume, cx).masked(masking);
        run.go_on()?;
        let longest = rows.iter().map(|&row| source.tokens(row)).max().unwrap_or(0);
        let mut micro_tokens = recipe.micro_tokens;
        loop {
            let batches = feed(scope, source, &steps, run.step, micro_tokens, pin);
            let mut taken = batches.into_iter().map(|micro| run.take(&micro?));
            let stopped = taken.find_map(Result::err);
            drop(taken);
            match stopped {
                None => return run.finish(),
                Some(error) if error.is_out_of_memory() && run.in_pass && micro_tokens > longest => {
                    micro_tokens = smaller(micro_tokens, &steps, run.step, |row| source.tokens(row));
                    run.again(micro_tokens)?;
                }
                Some(error) => return Err(run.stop(error)),
            }
        }
    })
}

/// Half of what there was room for; where a step has less than that, half of the step.
fn smaller(micro_tokens: usize, steps: &Steps, step: usize, tokens: impl Fn(u32) -> usize) -> usize {
    let whole: usize = steps.rows(step).iter().map(|&row| tokens(row)).sum();
    micro_tokens.min(whole).div_ceil(2)
}

/// How much a training has seen.
#[derive(Clone, Copy, Default)]
struct Seen {
    pass: u64,
    examples: u64,
    tokens: u64,
}

/// A training under way.
struct Run<'a, T> {
    trainee: &'a mut T,
    optimiser: &'a mut AdamW,
    recipe: &'a Recipe,
    steps: &'a Steps,
    schedule: Schedule,
    masking: Option<Masking>,
    resume: Resume,
    cx: &'a StageCx<'a>,
    step: usize,
    loss: Option<tch::Tensor>,
    /// Whether a micro-batch is in the model: nothing of its step has been taken yet.
    in_pass: bool,
    window: Window,
    log: Vec<TrainingRow>,
    examples: u64,
    tokens: u64,
    /// Seconds of earlier executions, where this one goes on.
    before: f64,
    started: Instant,
    paused: f64,
    /// What had been seen when the last step was taken: a step that is not whole leaves no trace.
    seen: Seen,
    evaluate_at: Vec<usize>,
    /// The last evaluation, and the step after which it was.
    last: Option<(Evaluation, usize)>,
    best: Option<(Evaluation, Snapshot)>,
}

impl<'a, T: Trainee> Run<'a, T> {
    fn new(
        trainee: &'a mut T,
        optimiser: &'a mut AdamW,
        recipe: &'a Recipe,
        steps: &'a Steps,
        resume: Resume,
        cx: &'a StageCx<'a>,
    ) -> Self {
        let evaluate_at = if recipe.held_out { evaluation_steps(steps, recipe.evaluations) } else { Vec::new() };
        Self {
            trainee,
            optimiser,
            recipe,
            steps,
            schedule: recipe.schedule(steps.len() as u64),
            masking: None,
            resume,
            cx,
            step: 0,
            loss: None,
            in_pass: false,
            window: Window::default(),
            log: Vec::new(),
            examples: 0,
            tokens: 0,
            before: 0.0,
            started: Instant::now(),
            paused: 0.0,
            seen: Seen::default(),
            evaluate_at,
            last: None,
            best: None,
        }
    }

    /// The same where weights are left out on the way.
    fn masked(self, masking: Option<Masking>) -> Self {
        Self { masking, ..self }
    }

    /// Chooses the weights that stay now.
    fn choose(&mut self) -> Result<(), Error> {
        let (step, total) = (self.step, self.steps.len());
        self.masking.as_ref().map_or(Ok(()), |masking| masking.choose(self.trainee.parameters(), step, total))
    }

    /// Adds what scores cost to the gradient.
    fn charge(&mut self) -> Result<(), Error> {
        let (step, total) = (self.step, self.steps.len());
        self.masking.as_ref().map_or(Ok(()), |masking| masking.charge(self.trainee.parameters(), step, total))
    }

    /// Whether what is evaluated now may be kept: not before the last weights are left out.
    fn may_keep(&self) -> bool {
        self.masking.as_ref().is_none_or(|masking| masking.settled(self.step, self.steps.len()))
    }

    /// Takes a micro-batch; with the step's last one, the step.
    fn take(&mut self, micro: &Micro<T::Batch>) -> Result<(), Error> {
        self.cx.checkpoint()?;
        if self.loss.is_none() {
            self.choose()?;
        }
        self.in_pass = true;
        let loss = self.trainee.loss(&micro.batch)?.f_mul_scalar(micro.share)?;
        self.trainee.parameters().backward(&loss)?;
        self.in_pass = false;
        let loss = loss.f_detach()?;
        self.loss = Some(match self.loss.take() {
            Some(sum) => sum.f_add(&loss)?,
            None => loss,
        });
        self.examples += micro.rows as u64;
        self.tokens += micro.tokens as u64;
        if micro.last { self.advance() } else { Ok(()) }
    }

    /// Clips, steps, and looks at the losses when it is time.
    fn advance(&mut self) -> Result<(), Error> {
        let rate = self.schedule.rate(self.step as u64);
        self.charge()?;
        self.optimiser.regularise(self.trainee.parameters())?;
        let norm = self.optimiser.clip_grad_norm(self.trainee.parameters(), self.recipe.clip)?;
        self.optimiser.step(self.trainee.parameters(), rate)?;
        if let Some(loss) = self.loss.take() {
            self.window.push(self.step as u64, rate, loss, norm);
        }
        self.step += 1;
        self.seen = Seen { pass: self.trainee.forward().pass(), examples: self.examples, tokens: self.tokens };
        // Before what a training ends with, so that a longer one goes on from here as if there had been no end.
        let end = self.step == self.steps.len();
        if self.resume.is_due() || (end && self.resume.goes_on && self.resume.keeps()) {
            self.keep()?;
        }
        self.after_step()
    }

    /// What follows a step when it is time: a look at the losses, an evaluation.
    fn after_step(&mut self) -> Result<(), Error> {
        let end = self.step == self.steps.len();
        if end || self.window.len() as u64 >= self.recipe.log_every {
            self.look(self.schedule.rate(self.step.saturating_sub(1) as u64))?;
        }
        self.report();
        let done = self.last.is_some_and(|(_, at)| at == self.step);
        if !done && self.evaluate_at.binary_search(&self.step).is_ok() { self.evaluate() } else { Ok(()) }
    }

    /// Keeps the state of the training as it was after the last step. What comes of earlier executions is in it.
    fn keep(&mut self) -> Result<(), Error> {
        let paused = Instant::now();
        let Seen { pass, examples, tokens } = self.seen;
        let state = State {
            step: self.step,
            pass,
            examples,
            tokens,
            seconds: self.seconds(),
            pending: self.window.pending()?,
            log: self.log.clone(),
            last: self.last,
            best: self.best.as_ref().map(|(found, _)| *found),
        };
        let (parameters, optimiser) = (&*self.trainee.parameters(), &*self.optimiser);
        let best = self.best.as_ref().map(|(_, snapshot)| snapshot);
        self.resume.keep(&state, |folder| write_tensors(folder, parameters, optimiser, best), self.cx);
        self.paused += paused.elapsed().as_secs_f64();
        Ok(())
    }

    /// Takes up the furthest state that an earlier execution has kept, if one has.
    fn go_on(&mut self) -> Result<(), Error> {
        for folder in self.resume.states(self.steps.len()) {
            match State::read(&folder) {
                Ok(state) => return self.take_up(&folder, state),
                Err(error) => self.cx.reporter.log(&format!("a state of the training is of no use: {error}")),
            }
        }
        Ok(())
    }

    fn take_up(&mut self, folder: &Path, state: State) -> Result<(), Error> {
        let snapshot = read_tensors(folder, self.trainee.parameters(), self.optimiser)?;
        let forward = self.trainee.forward();
        *forward = forward.clone().at_pass(state.pass);
        self.window = Window::of(&state.pending, self.trainee.parameters().device())?;
        self.seen = Seen { pass: state.pass, examples: state.examples, tokens: state.tokens };
        (self.step, self.examples, self.tokens, self.before) = (state.step, state.examples, state.tokens, state.seconds);
        (self.log, self.last, self.best) = (state.log, state.last, state.best.zip(snapshot));
        self.cx.reporter.log(&format!("goes on after step {} of {}, {:.0} s of training", self.step, self.steps.len(), self.before));
        self.after_step()
    }

    /// Begins the step that was not finished again, with less in the model at once: the batch that defines the result stays.
    fn again(&mut self, micro_tokens: usize) -> Result<(), Error> {
        self.loss = None;
        self.trainee.parameters().zero_grad()?;
        let Seen { pass, examples, tokens } = self.seen;
        (self.examples, self.tokens) = (examples, tokens);
        let forward = self.trainee.forward();
        *forward = forward.clone().at_pass(pass);
        device::give_back();
        let step = self.step + 1;
        self.cx.reporter.log(&format!("step {step}: out of memory; from here on at most {micro_tokens} tokens in the model at once"));
        Ok(())
    }

    /// Keeps the state where the user has stopped the training.
    fn stop(mut self, error: Error) -> Error {
        let asked = matches!(&error, Error::Stage(error) if error.class == ErrorClass::Interrupted);
        if asked && self.resume.keeps() && self.step > 0 {
            // The error that matters is the first one.
            let _ = self.keep();
        }
        error
    }

    /// Looks at the window: stops when the numbers are gone, logs otherwise.
    fn look(&mut self, rate: f64) -> Result<(), Error> {
        if self.window.is_empty() {
            return Ok(());
        }
        let seen = self.window.look()?;
        let row = self.row();
        self.log.push(TrainingRow { loss: Some(seen.loss), lr: Some(rate), grad_norm: Some(seen.norm), ..row });
        Ok(())
    }

    /// Tells how far the training is.
    fn report(&self) {
        let note = self.log.iter().rev().find_map(|row| row.loss).map_or_else(String::new, |loss| format!("loss {loss:.3}"));
        #[allow(clippy::cast_precision_loss)]
        let pace = self.examples as f64 / self.seconds().max(1e-9);
        let note = if note.is_empty() { format!("{pace:.0}/s") } else { format!("{note}, {pace:.0}/s") };
        self.cx.reporter.progress(self.examples, self.steps.total_rows() as u64, "examples", &note);
    }

    /// Evaluates on the held-out rows; the time is not counted as training.
    fn evaluate(&mut self) -> Result<(), Error> {
        self.look(self.schedule.rate(self.step.saturating_sub(1) as u64))?;
        let paused = Instant::now();
        self.choose()?;
        let found = self.trainee.evaluate(self.cx)?;
        self.cx.reporter.log(&format!("step {}: held-out exact {:.2}, F1 {:.2}", self.step, found.exact, found.f1));
        self.last = Some((found, self.step));
        if self.recipe.keep_best && self.may_keep() && self.best.as_ref().is_none_or(|(best, _)| found.f1 > best.f1) {
            self.best = Some((found, self.trainee.parameters().snapshot()?));
        }
        self.paused += paused.elapsed().as_secs_f64();
        let row = self.row();
        self.log.push(TrainingRow { eval_exact: Some(found.exact), eval_f1: Some(found.f1), ..row });
        Ok(())
    }

    /// A log row about now, without figures.
    fn row(&self) -> TrainingRow {
        let epoch = self.steps.epoch(self.step.saturating_sub(1));
        TrainingRow {
            step: self.step as u64,
            epoch,
            examples: self.examples,
            tokens: self.tokens,
            seconds: Some(self.seconds()),
            ..TrainingRow::default()
        }
    }

    fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64() - self.paused
    }

    /// Ends the training: the parameters that are kept are put back, or evaluated where that is still to be done.
    fn finish(mut self) -> Result<Summary, Error> {
        device::synchronize(self.trainee.parameters().device())?;
        let seconds = self.seconds();
        if let Some((best, snapshot)) = self.best.take() {
            self.trainee.parameters().restore(&snapshot)?;
            self.last = Some((best, self.step));
            self.choose()?;
        } else if self.recipe.held_out && self.last.is_none_or(|(_, at)| at < self.step) {
            self.evaluate()?;
        } else {
            self.choose()?;
        }
        self.resume.finish();
        let kept = self.last.map(|(kept, _)| kept);
        Ok(Summary { log: self.log, steps: self.step as u64, examples: self.examples, seconds, whole: self.before == 0.0, kept })
    }
}

/// The numbers of steps after which to evaluate: `per_epoch` times an epoch, evenly, the epoch's end among them.
fn evaluation_steps(steps: &Steps, per_epoch: u32) -> Vec<usize> {
    let mut at = Vec::new();
    let mut first = 0;
    for step in 0..steps.len() {
        if per_epoch > 0 && steps.ends_epoch(step) {
            let length = step + 1 - first;
            at.extend((1..=per_epoch as usize).map(|part| first + (length * part).div_ceil(per_epoch as usize)));
            first = step + 1;
        }
    }
    at.dedup();
    at
}

#[cfg(test)]
mod tests {
    use super::super::batches::BatchSize;
    use super::*;

    #[test]
    fn evaluations_are_spread_over_the_epochs() {
        let rows: Vec<u32> = (0..10).collect();
        let steps = Steps::plan(&rows, |_| 1, BatchSize::Rows(1), 2, 1, None);
        assert_eq!(evaluation_steps(&steps, 0), Vec::<usize>::new());
        assert_eq!(evaluation_steps(&steps, 1), [10, 20]);
        assert_eq!(evaluation_steps(&steps, 2), [5, 10, 15, 20]);
    }
}
