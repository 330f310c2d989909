//! Runs the stages of a small pipeline one after the other, without an engine: what a stage does is what is tested here.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use qapipe_engine::{Input, Kinds, Pipeline, Place, Reporter, Request, Source, StageCx, StageError, StageSpec};
use qapipe_nn::{AnyModel, Forward, Packed, Pairs};
use qapipe_worker::warm::Warm;
use tch::{Device, Tensor};

/// Hears what a stage reports, and may ask it to stop after some progress.
#[derive(Default)]
pub struct Ear {
    pub log: Mutex<Vec<String>>,
    pub measures: Mutex<BTreeMap<String, f64>>,
    pub progress: Mutex<Vec<(u64, u64, String)>>,
    pub cancel: AtomicBool,
    pub cancel_after: Option<u64>,
}

impl Reporter for Ear {
    fn progress(&self, done: u64, total: u64, _: &str, note: &str) {
        self.progress.lock().unwrap().push((done, total, note.to_owned()));
        if self.cancel_after.is_some_and(|most| done >= most) {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    fn log(&self, line: &str) {
        self.log.lock().unwrap().push(line.to_owned());
    }

    fn measure(&self, name: &str, value: f64) {
        self.measures.lock().unwrap().insert(name.to_owned(), value);
    }
}

/// A folder in which stages run, and what they gave.
pub struct Lab {
    pub folder: tempfile::TempDir,
    pub outputs: BTreeMap<String, PathBuf>,
    pub ear: Ear,
    /// What stages keep from one to the next.
    pub warm: Warm,
    /// Whether results are to repeat bit for bit.
    pub strict: bool,
    /// Whether the network is off limits.
    pub offline: bool,
}

impl Lab {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            outputs: BTreeMap::new(),
            ear: Ear::default(),
            warm: Warm::default(),
            strict: false,
            offline: true,
        }
    }

    /// Runs the stages of a pipeline's text, but for those whose name has run before.
    pub fn run(&mut self, text: &str) -> Result<(), StageError> {
        let file = self.folder.path().join("pipeline.toml");
        let pipeline = Pipeline::parse(text, &file, &Kinds::new(qapipe_stages::KINDS), &[]).unwrap_or_else(|e| panic!("{e}"));
        for stage in &pipeline.stages {
            if !self.outputs.contains_key(&format!("{}.{}", stage.name, stage.outputs[0].name)) {
                self.stage(&pipeline, stage)?;
            }
        }
        Ok(())
    }

    fn stage(&mut self, pipeline: &Pipeline, stage: &StageSpec) -> Result<(), StageError> {
        let request = self.request(pipeline, stage);
        let cx = StageCx { request: &request, reporter: &self.ear, cancel: &self.ear.cancel };
        match stage.kind.place_of(&stage.values) {
            Place::Here => stage.kind.run(&cx)?,
            Place::Worker => qapipe_worker::kinds::runner(stage.kind.name()).unwrap().run(&cx, &self.warm)?,
        }
        for output in &stage.outputs {
            self.outputs.insert(format!("{}.{}", stage.name, output.name), request.outputs[&output.name].clone());
        }
        Ok(())
    }

    pub fn request(&self, pipeline: &Pipeline, stage: &StageSpec) -> Request {
        let input = |source: &Source| match source {
            Source::Path(path) => pipeline.resolve(path),
            Source::Stage { index, output } => self.outputs[&format!("{}.{output}", pipeline.stages[*index].name)].clone(),
        };
        let of = |path: PathBuf| {
            let tree = qapipe_cache::Tree::of_folder(&path).map(|tree| tree.digest());
            Input { digest: tree.unwrap_or_else(|_| qapipe_cache::Digest::of_bytes(b"a file")), path, from: None }
        };
        let inputs = stage.inputs.iter().map(|spec| (spec.param.clone(), of(input(&spec.source)))).collect();
        let place = |name: &str| self.folder.path().join(format!("{}.{name}", stage.name));
        for output in &stage.outputs {
            let _ = std::fs::remove_dir_all(place(&output.name));
        }
        let scratch = place("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        Request {
            pipeline: pipeline.name.clone(),
            stage: stage.name.clone(),
            kind: stage.kind.name().to_owned(),
            values: stage.values.clone(),
            inputs,
            outputs: stage.outputs.iter().map(|output| (output.name.clone(), place(&output.name))).collect(),
            folder: pipeline.folder.clone(),
            scratch,
            seed: stage.seed,
            device: "cpu".into(),
            threads: 1,
            offline: self.offline,
            strict: self.strict,
            rows: self.folder.path().join("rows"),
            trainings: self.folder.path().join("trainings"),
            anew: false,
        }
    }

    pub fn path(&self, output: &str) -> &Path {
        &self.outputs[output]
    }

    pub fn bytes(&self, output: &str, file: &str) -> Vec<u8> {
        std::fs::read(self.path(output).join(file)).unwrap()
    }
}

/// The sample, a tiny BERT, and the windows; `shape` goes into its `config`.
pub fn tiny(shape: &str, limits: &str) -> String {
    format!(
        r#"
        name = "tiny"
        seed = 13
        [stages.sample]
        kind = "dataset"
        source = "sample"
        {limits}
        [stages.base]
        kind = "checkpoint"
        vocabulary = "@sample"
        vocab_size = 2000
        config = {{ hidden_size = 64, num_hidden_layers = 2, num_attention_heads = 4, intermediate_size = 128, max_position_embeddings = 128{shape} }}
        [stages.features]
        kind = "tokenize"
        dataset = "@sample"
        model = "@base"
        max_length = 128
        stride = 32
        "#
    )
}

/// A fine-tune stage.
pub fn fine_tune(name: &str, train: &str, more: &str) -> String {
    format!("\n[stages.{name}]\nkind = \"fine-tune\"\nmodel = \"@base\"\ndata = \"@features\"\ntrain = {{ {train} }}\n{more}\n")
}

/// An evaluate stage.
pub fn evaluate(name: &str, model: &str, more: &str) -> String {
    format!("\n[stages.{name}]\nkind = \"evaluate\"\nmodel = \"@{model}\"\ndata = \"@features\"\n{more}\n")
}

/// The sample, a tiny model that writes, and the texts; `config` is its shape.
pub fn tiny_writer(config: &str, limits: &str) -> String {
    format!(
        r#"
        name = "tiny"
        seed = 13
        [stages.sample]
        kind = "dataset"
        source = "sample"
        {limits}
        [stages.base]
        kind = "checkpoint"
        vocabulary = "@sample"
        vocab_size = 2000
        config = {{ {config} }}
        [stages.features]
        kind = "tokenize"
        dataset = "@sample"
        model = "@base"
        max_length = 160
        stride = 32
        "#
    )
}

/// A T5 that learns the sample in seconds.
pub const TINY_T5: &str = r#"model_type = "t5", d_model = 64, d_kv = 16, d_ff = 128, num_layers = 2, num_heads = 4, dropout_rate = 0.0, feed_forward_proj = "gated-gelu", tie_word_embeddings = false"#;

/// A Mamba that learns the sample in seconds.
pub const TINY_MAMBA: &str = r#"model_type = "mamba", hidden_size = 64, num_hidden_layers = 2, state_size = 8"#;

/// The strong LSTM, small.
pub const TINY_LSTM: &str = r#"model_type = "lstm", hidden_size = 32, word_size = 32, attention = "bidaf", head = "span", exact_match = true, character_vocab_size = 60, character_filters = 16, dropout_rate = 0.0"#;

/// A BERT that learns the sample in seconds.
pub const TINY_BERT: &str = r#"model_type = "bert", hidden_size = 64, num_hidden_layers = 2, num_attention_heads = 4, intermediate_size = 128, max_position_embeddings = 160"#;

/// A stage of a method on `model`, with the features.
pub fn method(name: &str, kind: &str, model: &str, more: &str) -> String {
    let data = if matches!(kind, "quantize" | "export") { "" } else { "data = \"@features\"\n" };
    format!("\n[stages.{name}]\nkind = \"{kind}\"\nmodel = \"@{model}\"\n{data}{more}\n")
}

/// What a model says of two small inputs.
pub fn logits(model: &AnyModel) -> Tensor {
    let _guard = tch::no_grad_guard();
    match model {
        AnyModel::Reader(model) => {
            let ids: [&[u32]; 2] = [&[2, 10, 11, 3, 20, 21, 22, 3], &[2, 12, 3, 23, 24, 3]];
            let packed = Packed::from_sequences(&[(ids[0], 4), (ids[1], 3)], Device::Cpu).unwrap();
            model.forward(&packed, &mut Forward::inference()).unwrap().start
        }
        AnyModel::Writer(model) => {
            let pairs = Pairs::collate(model.form(), &[(&[5, 6, 7, 8], &[9, 1]), (&[15, 16], &[19, 20, 1])]).unwrap();
            model.logits(&pairs, &mut Forward::inference()).unwrap()
        }
    }
}
