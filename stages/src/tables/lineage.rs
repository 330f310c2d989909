//! Where a result comes from: the columns that every collected table begins with.

use std::collections::BTreeMap;

use qapipe_cache::Record;
use qapipe_engine::{Cell, GPU_SHARED, Pipeline, Source};

use super::{MetricsRow, table};

table! {
    /// Which stage a row comes from, and what its model was made of.
    Lineage {
        /// Name of the pipeline.
        pipeline: String,
        /// Name of the stage.
        stage: String,
        /// The axes of the matrix that the stage depends on, with its values, as JSON: `{"rank":8}`; null without any.
        axes: Option<String>,
        /// Fingerprint of the stage, as 64 hexadecimal digits.
        key: String,
        /// Where the model came from first: a hub repository, a folder, or `new` for random weights; null without a model.
        base_model: Option<String>,
        /// The kinds of stage that made the model out of the base model, in order, joined by ` + `; null without a model or any.
        method: Option<String>,
        /// Seed of the last training, or of the stage itself where nothing was trained.
        seed: u64,
    }
}

/// The stages that made a stage's model, from the checkpoint on.
pub(super) struct Chain {
    stages: Vec<usize>,
    base: Option<String>,
    costs: Costs,
    answering: Answering,
}

/// What a stage told of its answering, where another one scored its answers.
#[derive(Default)]
struct Answering {
    cost: BTreeMap<String, f64>,
    facts: BTreeMap<String, String>,
}

impl Answering {
    fn of(record: &Record) -> Self {
        let mut cost = record.cost.clone();
        if is_shared(record) {
            cost.retain(|name, _| !matches!(name.as_str(), "evaluate_seconds" | "throughput" | "energy_joules"));
        }
        Self { cost, facts: record.provenance.clone() }
    }

    /// Fills what a row does not know.
    #[allow(clippy::cast_possible_truncation)]
    fn fill(&self, row: MetricsRow) -> MetricsRow {
        let cost = |name: &str| self.cost.get(name).copied();
        let fact = |name: &str| self.facts.get(name).cloned();
        MetricsRow {
            device: row.device.or_else(|| fact("device")),
            dtype: row.dtype.or_else(|| fact("dtype")),
            parameters: row.parameters.or(cost("parameters").map(|count| count as i64)),
            bytes: row.bytes.or(cost("bytes").map(|count| count as i64)),
            resident_bytes: row.resident_bytes.or(cost("resident_bytes").map(|count| count as i64)),
            evaluate_seconds: row.evaluate_seconds.or(cost("evaluate_seconds")),
            peak_memory_bytes: row.peak_memory_bytes.or(cost("peak_memory_bytes")),
            energy_joules: row.energy_joules.or(cost("energy_joules")),
            throughput: row.throughput.or(cost("throughput")),
            ..row
        }
    }
}

#[derive(Default)]
struct Costs {
    seconds: Option<f64>,
    memory: Option<f64>,
    energy: Option<f64>,
    /// Whether times and energy of any of the trainings are no measure of it: then there is no sum either.
    shared: bool,
}

impl Chain {
    /// Follows `model` inputs, or answers that a stage gave, up from a stage.
    pub(super) fn of<'r>(pipeline: &Pipeline, stage: usize, record: &dyn Fn(usize) -> Option<&'r Record>) -> Self {
        let mut chain = Self { stages: Vec::new(), base: None, costs: Costs::default(), answering: Answering::default() };
        let mut at = stage;
        loop {
            let spec = &pipeline.stages[at];
            if spec.kind.name() == "checkpoint" {
                chain.base = Some(spec.values.text("source").unwrap_or("new").to_owned());
                break;
            }
            match spec.kind.name() {
                "evaluate" => {}
                "prompt" => {
                    chain.stages.push(at);
                    chain.answering = record(at).map(Answering::of).unwrap_or_default();
                }
                _ => {
                    chain.stages.push(at);
                    chain.costs.add(record(at));
                }
            }
            let from = |param: &str| spec.inputs.iter().find(|input| input.param == param).map(|input| &input.source);
            // A student that is made of its teacher's layers has no other model.
            let model = from("model").or_else(|| from("predictions")).or_else(|| from("teacher"));
            // References make no circles in a checked pipeline.
            let Some(Source::Stage { index, .. }) = model else { break };
            at = *index;
        }
        chain.stages.reverse();
        chain
    }

    /// The costs of the whole chain, where a row has none: of training, seconds and energy add up, of memory the most counts.
    pub(super) fn add_costs(&self, row: MetricsRow) -> MetricsRow {
        let row = self.answering.fill(row);
        MetricsRow {
            train_seconds: row.train_seconds.or(self.costs.seconds.filter(|_| !self.costs.shared)),
            train_peak_memory_bytes: row.train_peak_memory_bytes.or(self.costs.memory),
            train_energy_joules: row.train_energy_joules.or(self.costs.energy.filter(|_| !self.costs.shared)),
            ..row
        }
    }
}

impl Costs {
    fn add(&mut self, record: Option<&Record>) {
        let cost = |name: &str| record.and_then(|record| record.cost.get(name).copied());
        let sum = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        self.shared |= cost("train_seconds").is_some() && record.is_some_and(is_shared);
        self.seconds = sum(self.seconds, cost("train_seconds"));
        self.energy = sum(self.energy, cost("energy_joules"));
        self.memory = match (self.memory, cost("peak_memory_bytes")) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
}

/// Whether other stages ran on a stage's GPU beside it.
pub(super) fn is_shared(record: &Record) -> bool {
    record.cost.get(GPU_SHARED).is_some_and(|shared| *shared > 0.0)
}

/// A cell's values by their axes, as JSON; nothing for a stage that depends on no axis.
pub(super) fn axes(cell: &Cell) -> Option<String> {
    let values: serde_json::Map<String, serde_json::Value> = cell.values().map(|(axis, value)| (axis.to_owned(), value)).collect();
    (!values.is_empty()).then(|| serde_json::Value::Object(values).to_string())
}

/// The lineage of a stage's rows.
pub(super) fn lineage(pipeline: &Pipeline, stage: usize, record: &Record, chain: &Chain) -> Lineage {
    let spec = &pipeline.stages[stage];
    let kinds: Vec<&str> = chain.stages.iter().map(|&at| pipeline.stages[at].kind.name()).collect();
    let trained = chain.stages.iter().rev().find(|&&at| pipeline.stages[at].kind.seeded());
    Lineage {
        pipeline: pipeline.name.clone(),
        stage: spec.name.clone(),
        axes: axes(&spec.cell),
        key: record.fingerprint.to_string(),
        base_model: chain.base.clone(),
        method: (chain.base.is_some() && !kinds.is_empty()).then(|| kinds.join(" + ")),
        seed: trained.map_or(spec.seed, |&at| pipeline.stages[at].seed),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use qapipe_engine::Kinds;

    use super::*;

    /// A base model that is tuned and taught to a student, which is scored; and the place of the last stage.
    fn study(student: &str) -> (Pipeline, usize) {
        let text = format!(
            r#"
            [stages.sample]
            kind = "dataset"
            source = "sample"
            [stages.base]
            kind = "checkpoint"
            source = "hub:some/model"
            [stages.other]
            kind = "checkpoint"
            source = "hub:another/model"
            [stages.features]
            kind = "tokenize"
            dataset = "@sample"
            model = "@base"
            [stages.tuned]
            kind = "fine-tune"
            model = "@base"
            data = "@features"
            [stages.small]
            kind = "distil"
            teacher = "@tuned"
            data = "@features"
            {student}
            [stages.scores]
            kind = "evaluate"
            model = "@small"
            data = "@features"
            "#
        );
        let pipeline = Pipeline::parse(&text, Path::new("study.toml"), &Kinds::new(crate::KINDS), &[]).unwrap();
        let at = pipeline.index("scores").unwrap();
        (pipeline, at)
    }

    /// The kinds that made the model of a stage, from the base model on.
    fn made_of(student: &str) -> (Option<String>, Vec<&'static str>) {
        let (pipeline, at) = study(student);
        let chain = Chain::of(&pipeline, at, &|_| None);
        (chain.base, chain.stages.iter().map(|&at| pipeline.stages[at].kind.name()).collect())
    }

    /// The record of a training.
    fn trained(shared: bool) -> Record {
        let shared = shared.then_some((GPU_SHARED, 1.0));
        let cost = [("train_seconds", 10.0), ("energy_joules", 100.0), ("peak_memory_bytes", 1e9)].into_iter().chain(shared);
        Record {
            format: qapipe_cache::RECORD_FORMAT,
            fingerprint: qapipe_cache::Digest::of_bytes(b"training"),
            kind: "fine-tune".into(),
            stage: "tuned".into(),
            pipeline: "study".into(),
            run: "1".into(),
            outputs: BTreeMap::new(),
            facets: BTreeMap::new(),
            cost: cost.map(|(name, value)| (name.to_owned(), value)).collect(),
            provenance: BTreeMap::new(),
        }
    }

    #[test]
    fn times_of_a_training_beside_others_on_its_gpu_are_null_and_so_are_sums_with_them() {
        let (pipeline, at) = study("layers = [0, 2]");
        let (alone, shared) = (trained(false), trained(true));
        let costs = |first: &Record, second: &Record| {
            let record = |stage: usize| match pipeline.stages[stage].name.as_str() {
                "tuned" => Some(first),
                "small" => Some(second),
                _ => None,
            };
            let row = Chain::of(&pipeline, at, &record).add_costs(MetricsRow::default());
            (row.train_seconds, row.train_energy_joules, row.train_peak_memory_bytes)
        };
        assert_eq!(costs(&alone, &alone), (Some(20.0), Some(200.0), Some(1e9)));
        assert_eq!(costs(&shared, &alone), (None, None, Some(1e9)), "memory is counted by process");
    }

    #[test]
    fn times_of_answering_beside_others_are_null() {
        let row = MetricsRow { exact: Some(50.0), throughput: Some(9.0), latency_p50_ms: Some(1.0), ..MetricsRow::default() };
        assert_eq!(row.without_times(), MetricsRow { exact: Some(50.0), ..MetricsRow::default() });
        let asked = Record { cost: BTreeMap::from([("throughput".into(), 3.0), (GPU_SHARED.into(), 1.0)]), ..trained(false) };
        assert_eq!(Answering::of(&asked).fill(MetricsRow::default()).throughput, None);
    }

    #[test]
    fn a_student_comes_from_its_own_model_or_from_its_teachers_layers() {
        assert_eq!(made_of("layers = [0, 2]"), (Some("hub:some/model".to_owned()), vec!["fine-tune", "distil"]));
        assert_eq!(made_of("model = \"@other\""), (Some("hub:another/model".to_owned()), vec!["distil"]));
    }
}
