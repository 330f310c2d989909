//! Training of models that write: texts in, answers out.

use qapipe_engine::StageCx;
use qapipe_nn::{Form, Forward, Pairs, Parameters, Writer};
use qapipe_stages::text_features::Texts;
use tch::{Kind, Reduction, Tensor};

use super::judge::judged;
use super::{Evaluation, Source, Teaching, Trainee};
use crate::error::Error;
use crate::inference::{Manner, Writing, answer};

/// Texts of a features artifact as rows. A row counts for as much as it has target tokens: the loss is a mean over tokens.
pub struct TextSource<'a> {
    texts: &'a Texts,
    form: Form,
}

impl<'a> TextSource<'a> {
    /// All texts of one part, laid out as a model takes them.
    pub fn new(texts: &'a Texts, form: Form) -> Self {
        Self { texts, form }
    }
}

impl Source for TextSource<'_> {
    type Batch = Pairs;

    fn tokens(&self, row: u32) -> usize {
        self.texts.source(row as usize).len() + self.texts.target(row as usize).len()
    }

    fn weight(&self, row: u32) -> usize {
        self.texts.target(row as usize).len()
    }

    fn collate(&self, rows: &[u32], pin: bool) -> Result<Pairs, Error> {
        let pairs: Vec<(&[u32], &[u32])> =
            rows.iter().map(|&row| (self.texts.source(row as usize), self.texts.target(row as usize))).collect();
        let pairs = Pairs::collate(self.form, &pairs)?;
        if pin { Ok(pairs.pinned()?) } else { Ok(pairs) }
    }
}

/// A model that writes, under training.
pub struct TextTrainee<'a> {
    /// The model.
    pub model: &'a mut dyn Writer,
    /// Training mode and randomness.
    pub forward: Forward,
    /// The texts that it trains on, and those that are held out.
    pub texts: &'a Texts,
    /// How answers to the held-out questions are written.
    pub manner: Manner<'a>,
    /// Questions that are held out.
    pub held_out: Vec<usize>,
    /// Most tokens in the model at once in an evaluation.
    pub tokens: usize,
    /// A teacher that it follows.
    pub teaching: Option<Teaching<'a>>,
}

impl Trainee for TextTrainee<'_> {
    type Batch = Pairs;

    fn loss(&mut self, batch: &Pairs) -> Result<Tensor, Error> {
        let pairs = batch.to_device(self.model.parameters().device())?;
        let Some(teaching) = &self.teaching else {
            return Ok(self.model.forward(&pairs, &mut self.forward)?.f_mean(Kind::Float)?.f_neg()?);
        };
        let logits = self.model.logits(&pairs, &mut self.forward)?;
        let gold = logits.f_cross_entropy_loss::<Tensor>(&pairs.targets()?, None, Reduction::Mean, -100, 0.0)?;
        teaching.texts(&gold, &logits, &pairs)
    }

    fn parameters(&mut self) -> &mut Parameters {
        self.model.parameters_mut()
    }

    fn forward(&mut self) -> &mut Forward {
        &mut self.forward
    }

    fn held_out(&self) -> usize {
        self.held_out.len()
    }

    fn evaluate(&mut self, cx: &StageCx<'_>) -> Result<Evaluation, Error> {
        let written = self.texts.longest().1;
        let writing = Writing { model: &*self.model, texts: self.texts, manner: self.manner.clone(), written, tokens: self.tokens };
        let found = answer(&writing, &self.held_out, None, cx, &mut |_, _| {})?;
        Ok(judged(self.texts.examples(), &self.held_out, &found.answers))
    }
}
