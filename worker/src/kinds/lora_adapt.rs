//! `lora-adapt`: trains adapters of low rank beside a model's frozen weights.

use qapipe_engine::{StageCx, StageError};
use qapipe_nn::models;
use qapipe_nn::{AnyModel, Form, Lora, Tuning, save_adapter};
use qapipe_stages::features::InfoForm;
use serde::Deserialize;

use super::choice::Choice;
use crate::checkpoint::{self, Trained};
use crate::error::Error;
use crate::training::{Besides, Session};

/// The parameters, as `qapipe_stages` declares them.
#[derive(Deserialize)]
struct Wanted {
    rank: i64,
    alpha: f64,
    dropout: f64,
    rslora: bool,
    dora: bool,
    head: Option<bool>,
    #[serde(flatten)]
    choice: Choice,
}

impl Wanted {
    /// What trains of a model with this configuration, on features of this form.
    fn lora(&self, config: &str, form: &InfoForm) -> Result<Lora, Error> {
        let points = matches!(form, InfoForm::Spans { .. });
        Ok(Lora {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            rank_stabilised: self.rslora,
            decomposed: self.dora,
            targets: self.choice.selection(models::family(config)?.adapted),
            head: self.head.unwrap_or(points),
        })
    }
}

/// Runs the stage.
pub(super) fn run(cx: &StageCx<'_>) -> Result<(), StageError> {
    let wanted: Wanted = cx.values()?;
    let (session, base) = (Session::new(cx)?, cx.input("model")?);
    let config = models::read_config(base).map_err(Error::from)?;
    let lora = wanted.lora(&config, &session.info().form)?;
    let outcome = session.run(base, &Tuning::Adapters(lora.clone()), Besides::default())?;
    let (model, output) = (outcome.model.network(), cx.output("model")?);
    std::fs::create_dir(output).map_err(Error::io(output))?;
    let touched = save_adapter(model.parameters(), &lora, task(&outcome.model), output).map_err(Error::from)?;
    let inherited = Trained::open(base)?.and_then(|trained| trained.parameters_remaining);
    let trained = Trained::of(&outcome, model)?;
    Trained { touched, parameters_remaining: trained.parameters_remaining.or(inherited), ..trained }.write(output)?;
    checkpoint::put_base(base, output)?;
    Ok(outcome.write_log(cx)?)
}

/// PEFT's name for what a model does.
fn task(model: &AnyModel) -> &'static str {
    match model {
        AnyModel::Reader(_) => "QUESTION_ANS",
        AnyModel::Writer(model) if model.form() == Form::Causal => "CAUSAL_LM",
        AnyModel::Writer(_) => "SEQ_2_SEQ_LM",
    }
}
