//! Training and scoring a tiny model on the sample, from a config to the tables.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use common::{Lab, evaluate, fine_tune, tiny};
use qapipe_cache::Digest;
use qapipe_engine::{ErrorClass, Kinds, Pipeline, StageCx, StageError};
use qapipe_nn::{AdamW, AnyModel, Forward, Parameters, Placement, models};
use qapipe_stages::examples::Part;
use qapipe_stages::features::Features;
use qapipe_stages::postprocess::Settings;
use qapipe_stages::tables::{MetricsRow, PredictionRow, TrainingRow, read_table};
use qapipe_worker::Error;
use qapipe_worker::training::{Alongside, Evaluation, Recipe, Resume, SpanBatch, SpanSource, SpanTrainee, TrainValues, Trainee, train};
use tch::{Device, Tensor};

const SMALL: &str = "limit_train = 96\nlimit_dev = 24";
const SHAPE: &str = ", hidden_dropout_prob = 0.0, attention_probs_dropout_prob = 0.0";

#[test]
fn a_tiny_model_learns_the_sample_and_beats_abstaining() {
    let mut lab = Lab::new();
    let train = "epochs = 14, lr = 2e-3, batch = 16, holdout = 0.05, evaluations = 1, keep = \"best\"";
    let text = tiny("", "")
        + &fine_tune("tuned", train, "")
        + &evaluate("scores", "tuned", "latency = 5")
        + &evaluate("held", "tuned", "threshold = \"tuned\"\nlatency = 0");
    lab.run(&text).unwrap();
    let scores: Vec<MetricsRow> = read_table(lab.path("scores.metrics")).unwrap();
    let row = &scores[0];
    assert!(row.exact.unwrap() > row.abstain_exact.unwrap() + 20.0, "{row:?}");
    assert!(row.best_exact.unwrap() >= row.exact.unwrap() && row.exact_low.unwrap() <= row.exact.unwrap());
    assert_cost(row);
    let held: Vec<MetricsRow> = read_table(lab.path("held.metrics")).unwrap();
    assert_eq!(held[0].threshold_from.as_deref(), Some("tuned"));
    assert_eq!(held[0].latency_p50_ms, None, "what was not measured is null");
    let predictions: Vec<PredictionRow> = read_table(lab.path("scores.predictions")).unwrap();
    assert_eq!(predictions.len(), 240);
    assert!(predictions.iter().all(|row| row.na_score.is_some_and(f64::is_finite)));
    assert_log(&lab);
}

/// Every cost that a CPU can tell is there and plausible; the others are null.
fn assert_cost(row: &MetricsRow) {
    assert_eq!((row.device.as_deref(), row.dtype.as_deref()), (Some("cpu"), Some("fp32")));
    let parameters = row.parameters.unwrap();
    assert_eq!(row.resident_bytes, Some(parameters * 4));
    assert_eq!(row.parameters_trained, Some(parameters));
    assert!(row.bytes.unwrap() > parameters * 4);
    assert!(row.flops.unwrap() > 0.0 && row.throughput.unwrap() > 0.0 && row.evaluate_seconds.unwrap() > 0.0);
    assert!(row.latency_p50_ms.unwrap() > 0.0 && row.latency_p95_ms.unwrap() >= row.latency_p50_ms.unwrap());
    assert!(row.peak_memory_bytes.unwrap() > 1e6);
    assert_eq!((row.energy_joules, row.parameters_remaining), (None, None));
}

/// The log has falling losses, the schedule's rates, and the evaluations.
fn assert_log(lab: &Lab) {
    let log: Vec<TrainingRow> = read_table(lab.path("tuned.log")).unwrap();
    let losses: Vec<f64> = log.iter().filter_map(|row| row.loss).collect();
    assert!(losses.last().unwrap() < &(losses[0] / 3.0), "{losses:?}");
    let evaluations = log.iter().filter(|row| row.eval_f1.is_some()).count();
    assert_eq!(evaluations, 14);
    assert!(log.is_sorted_by_key(|row| row.step) && log.iter().all(|row| row.lr.is_none_or(|rate| rate <= 2e-3)));
    let measures = lab.ear.measures.lock().unwrap();
    assert!(["train_seconds", "examples_per_second", "peak_memory_bytes", "evaluate_seconds"].iter().all(|name| measures[*name] > 0.0));
    let progress = lab.ear.progress.lock().unwrap();
    assert!(progress.iter().any(|(done, total, note)| done == total && *total > 10_000 && note.contains("loss")));
}

#[test]
fn one_seed_gives_one_model_and_another_seed_another() {
    let mut lab = Lab::new();
    let train = "epochs = 2, lr = 1e-3, batch = 8";
    let text = tiny("", SMALL) + &fine_tune("a", train, "") + &fine_tune("b", train, "") + &fine_tune("c", train, "seed = 14");
    lab.run(&text).unwrap();
    for file in ["model.safetensors", "config.json", "tokenizer.json", "qapipe.json"] {
        assert_eq!(lab.bytes("a.model", file), lab.bytes("b.model", file), "{file}");
    }
    assert_ne!(lab.bytes("a.model", "model.safetensors"), lab.bytes("c.model", "model.safetensors"));
    let again = lab.bytes("base.model", "model.safetensors");
    lab.outputs.clear();
    lab.run(&tiny("", SMALL)).unwrap();
    assert_eq!(lab.bytes("base.model", "model.safetensors"), again, "a new model follows from the seed");
}

#[test]
fn micro_batches_do_not_change_the_result() {
    let mut lab = Lab::new();
    let train = "epochs = 2, lr = 1e-3, batch = 16";
    let text = tiny(SHAPE, SMALL) + &fine_tune("whole", train, "") + &fine_tune("pieces", train, "hints = { micro_batch_tokens = 200 }");
    lab.run(&(text + &evaluate("a", "whole", "latency = 0") + &evaluate("b", "pieces", "latency = 0"))).unwrap();
    let losses = |stage: &str| {
        read_table::<TrainingRow>(lab.path(&format!("{stage}.log"))).unwrap().into_iter().filter_map(|row| row.loss).collect::<Vec<_>>()
    };
    for (whole, pieces) in losses("whole").into_iter().zip(losses("pieces")) {
        assert!((whole - pieces).abs() < 1e-4, "{whole} {pieces}");
    }
    // Answers, not weights: the bias of the head and of the keys do not change what a model says, and drift with the rounding.
    let answers = |stage: &str| read_table::<PredictionRow>(lab.path(&format!("{stage}.predictions"))).unwrap();
    for (whole, pieces) in answers("a").into_iter().zip(answers("b")) {
        assert!((whole.na_score.unwrap() - pieces.na_score.unwrap()).abs() < 1e-4, "{whole:?} {pieces:?}");
    }
}

#[test]
fn token_budgets_train_too_and_steps_can_be_limited() {
    let mut lab = Lab::new();
    let text = tiny("", SMALL)
        + &fine_tune("few", "epochs = 50, steps = 3, lr = 1e-3, batch_tokens = 512, schedule = \"constant\"", "hints = { log_every = 1 }");
    lab.run(&text).unwrap();
    let log: Vec<TrainingRow> = read_table(lab.path("few.log")).unwrap();
    assert_eq!(log.iter().map(|row| row.step).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(log.iter().all(|row| row.tokens <= 512 * row.step));
}

#[test]
fn a_training_that_diverges_stops_and_says_where() {
    let mut lab = Lab::new();
    lab.run(&tiny("", SMALL)).unwrap();
    poison(&lab);
    let error = lab.run(&(tiny("", SMALL) + &fine_tune("poisoned", "epochs = 1, lr = 1e-3, batch = 8", ""))).unwrap_err();
    assert_eq!(error.class, ErrorClass::Failed);
    assert!(error.message.contains("the loss is NaN at step 1 (learning rate"), "{}", error.message);
    assert!(!lab.outputs.contains_key("poisoned.model") && error.help.is_some());
    let error = lab.run(&(tiny("", SMALL) + &evaluate("scores", "base", ""))).unwrap_err();
    assert!(error.message.contains("logits that are not numbers"), "{}", error.message);
}

/// Puts a NaN into the last tensor of the base model's weights.
fn poison(lab: &Lab) {
    let path = lab.path("base.model").join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    for at in (end - 4096..end).step_by(4) {
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn an_interrupt_stops_a_training() {
    let mut lab = Lab::new();
    lab.run(&tiny("", SMALL)).unwrap();
    lab.ear.cancel_after = Some(16);
    let error = lab.run(&(tiny("", SMALL) + &fine_tune("stopped", "epochs = 100, batch = 8", ""))).unwrap_err();
    assert_eq!(error.class, ErrorClass::Interrupted);
}

#[test]
fn a_device_that_is_not_there_is_the_machines_lack() {
    let mut lab = Lab::new();
    lab.run(&tiny("", SMALL)).unwrap();
    let text = tiny("", SMALL) + &fine_tune("far", "epochs = 1", "");
    let pipeline =
        qapipe_engine::Pipeline::parse(&text, &lab.folder.path().join("p.toml"), &qapipe_engine::Kinds::new(qapipe_stages::KINDS), &[])
            .unwrap();
    let request = qapipe_engine::Request { device: "cuda:77".into(), ..lab.request(&pipeline, pipeline.stage("far").unwrap()) };
    let cx = qapipe_engine::StageCx { request: &request, reporter: &lab.ear, cancel: &lab.ear.cancel };
    let error = qapipe_worker::kinds::runner("fine-tune").unwrap().run(&cx, &lab.warm).unwrap_err();
    assert_eq!(error.class, ErrorClass::Environment);
    assert!(error.message.contains("cuda:77"));
}

#[test]
fn windows_of_another_tokenizer_or_too_long_are_refused() {
    let mut lab = Lab::new();
    let other = r#"
        [stages.small]
        kind = "checkpoint"
        vocabulary = "@sample"
        vocab_size = 200
        config = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 16, max_position_embeddings = 128 }
        [stages.short]
        kind = "checkpoint"
        vocabulary = "@sample"
        vocab_size = 2000
        config = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 16, max_position_embeddings = 16 }
    "#;
    let base = tiny("", SMALL) + other;
    lab.run(&base).unwrap();
    let error = lab.run(&(base.clone() + &evaluate("a", "small", ""))).unwrap_err();
    assert!(error.message.contains("the vocabulary does not fit the model"), "{}", error.message);
    let error = lab.run(&(base + &evaluate("b", "short", ""))).unwrap_err();
    assert!(error.message.contains("at most 16") && error.help.is_some_and(|help| help.contains("max_length = 16")), "{}", error.message);
}

#[test]
fn windows_of_a_tokenizer_of_the_same_size_are_refused_too() {
    let mut lab = Lab::new();
    lab.run(&tiny("", SMALL)).unwrap();
    let path = lab.path("base.model").join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"lowercase\": true") || text.contains("\"lowercase\":true"));
    std::fs::write(&path, text.replace("\"lowercase\": true", "\"lowercase\": false").replace("\"lowercase\":true", "\"lowercase\":false"))
        .unwrap();
    let error = lab.run(&(tiny("", SMALL) + &fine_tune("cased", "epochs = 1", ""))).unwrap_err();
    assert!(error.message.contains("by another tokenizer"), "{}", error.message);
}

#[test]
fn a_model_without_a_head_is_not_scored() {
    let mut lab = Lab::new();
    lab.run(&tiny("", SMALL)).unwrap();
    let path = lab.path("base.model").join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let mut renamed = bytes;
    let mut from = 0;
    while let Some(found) = renamed[from..].windows(10).position(|part| part == b"qa_outputs") {
        renamed[from + found..from + found + 10].copy_from_slice(b"no_outputs");
        from += found + 10;
    }
    std::fs::write(&path, renamed).unwrap();
    let error = lab.run(&(tiny("", SMALL) + &evaluate("scores", "base", ""))).unwrap_err();
    assert!(error.message.contains("cannot answer yet") && error.message.contains("qa_outputs"), "{}", error.message);
}

#[test]
fn where_every_question_has_an_answer_one_is_given() {
    let mut lab = Lab::new();
    lab.run(&tiny("", SMALL)).unwrap();
    let info = lab.path("features.features").join("info.json");
    let text = std::fs::read_to_string(&info).unwrap();
    assert!(text.contains("\"2.0\""), "{text}");
    std::fs::write(&info, text.replace("\"2.0\"", "\"1.1\"")).unwrap();
    lab.run(&(tiny("", SMALL) + &evaluate("scores", "base", "latency = 0"))).unwrap();
    let predictions: Vec<PredictionRow> = read_table(lab.path("scores.predictions")).unwrap();
    assert!(predictions.iter().all(|row| !row.prediction.is_empty()));
    let metrics: Vec<MetricsRow> = read_table(lab.path("scores.metrics")).unwrap();
    assert_eq!((metrics[0].threshold, metrics[0].threshold_from.as_deref()), (None, None));
}

#[test]
fn a_tuned_threshold_must_have_been_tuned() {
    let mut lab = Lab::new();
    let error = lab.run(&(tiny("", SMALL) + &evaluate("scores", "base", "threshold = \"tuned\""))).unwrap_err();
    assert!(error.message.contains("no tuned threshold") && error.help.is_some());
}

/// A reader on a device with little memory.
struct Tight<'a> {
    inner: SpanTrainee<'a>,
    room: i64,
}

impl Trainee for Tight<'_> {
    type Batch = SpanBatch;

    fn loss(&mut self, batch: &SpanBatch) -> Result<Tensor, Error> {
        // A pass that fails has begun.
        let loss = self.inner.loss(batch)?;
        if batch.packed.tokens() > self.room {
            return Err(Error::Stage(StageError::new(ErrorClass::OutOfMemory, "out of memory")));
        }
        Ok(loss)
    }

    fn parameters(&mut self) -> &mut Parameters {
        self.inner.parameters()
    }

    fn forward(&mut self) -> &mut Forward {
        self.inner.forward()
    }

    fn held_out(&self) -> usize {
        0
    }

    fn evaluate(&mut self, cx: &StageCx<'_>) -> Result<Evaluation, Error> {
        self.inner.evaluate(cx)
    }
}

/// Trains on a device that has room for so many tokens; gives a weight, or why not.
fn on_little_memory(lab: &Lab, room: i64, micro_tokens: usize) -> Result<Tensor, Error> {
    let text = tiny(SHAPE, SMALL) + &fine_tune("tight", "epochs = 2, lr = 1e-3, batch = 16", "");
    let pipeline = Pipeline::parse(&text, &lab.folder.path().join("p.toml"), &Kinds::new(qapipe_stages::KINDS), &[]).unwrap();
    let request = lab.request(&pipeline, pipeline.stage("tight").unwrap());
    let cx = StageCx { request: &request, reporter: &lab.ear, cancel: &lab.ear.cancel };
    let features = Features::open(lab.path("features.features"), Part::Train).unwrap();
    let (model, _) = models::load(lab.path("base.model"), &Placement::training(Device::Cpu), 13)?;
    let AnyModel::Reader(mut model) = model else { panic!("a reader") };
    let source = SpanSource::new(&features, &*model);
    let settings = Settings::default();
    let inner = SpanTrainee {
        model: &mut *model,
        forward: Forward::training(13),
        features: &features,
        settings,
        held_out: Vec::new(),
        tokens: 1000,
        teaching: None,
    };
    let values: TrainValues = serde_json::from_value(request.values.get("train").unwrap().clone()).unwrap();
    let recipe = Recipe { held_out: false, ..values.recipe(micro_tokens, 10, 13) };
    let mut tight = Tight { inner, room };
    let mut optimiser = AdamW::new(tight.parameters(), values.optimiser())?;
    let resume = Resume::open(&cx, &Digest::of_bytes(b"tight"), 0, false);
    let rows: Vec<u32> = (0..).take(features.len()).collect();
    train(&mut tight, &source, &rows, &mut optimiser, &recipe, Alongside { masking: None, resume }, &cx)?;
    Ok(tight.parameters().value("bert.encoder.layer.1.output.dense.weight")?)
}

#[test]
fn where_memory_runs_out_less_is_in_the_model_at_once() {
    let mut lab = Lab::new();
    lab.run(&tiny(SHAPE, SMALL)).unwrap();
    let found = on_little_memory(&lab, 400, 16_384).unwrap();
    let told = lab.ear.log.lock().unwrap().iter().rev().find(|line| line.contains("out of memory")).cloned().unwrap();
    let most: usize = told.split_whitespace().find_map(|word| word.parse().ok().filter(|&number: &usize| number > 100)).unwrap();
    assert!(most <= 400, "{told}");
    let wanted = on_little_memory(&lab, 100_000, 16_384).unwrap();
    let off = (&found - &wanted).abs().max().double_value(&[]);
    assert!(off < 1e-4, "the batch that defines the result has changed: {off}");
    // One window must fit.
    let error = on_little_memory(&lab, 10, 16_384).err().unwrap();
    assert!(error.is_out_of_memory(), "{error}");
}
