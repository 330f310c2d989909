//! A training and its scores, end to end: what an edit of the pipeline computes again.

use crate::support::{Answer, Project};

/// The sample, a model that is too small to learn much, a short training. Every window fits into 160 tokens.
const TINY: &str = r#"name = "tiny"
seed = 13

[stages.sample]
kind = "dataset"
source = "sample"
limit_train = 48
limit_dev = 16

[stages.base]
kind = "checkpoint"
vocabulary = "@sample"
vocab_size = 600
config = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 16, max_position_embeddings = 256 }

[stages.features]
kind = "tokenize"
dataset = "@sample"
model = "@base"
max_length = 160
stride = 32

[stages.tuned]
kind = "fine-tune"
model = "@base"
data = "@features"
train = { epochs = 1, lr = 1e-3, batch = 16 }

[stages.scores]
kind = "evaluate"
model = "@tuned"
data = "@features"
latency = 2
"#;

fn run(project: &Project) -> Answer {
    project.qapipe(&["run", "--json"]).code(0)
}

/// The stages that a run computed, sorted.
fn computed(project: &Project) -> Vec<String> {
    let mut stages = run(project).stages("finished");
    stages.sort();
    stages
}

#[test]
fn a_second_run_computes_nothing_and_an_edit_only_what_hangs_on_it() {
    let project = Project::of(TINY);
    assert_eq!(computed(&project), ["base", "features", "sample", "scores", "tuned"]);
    let again = project.qapipe(&["run"]).code(0);
    assert_eq!((again.out.as_str(), again.err.as_str()), ("", "nothing to do: 5 stages cached\n"));

    project.edit("lr = 1e-3", "lr = 2e-3");
    assert_eq!(computed(&project), ["scores", "tuned"]);

    // Windows hang on the length only where a text is longer.
    project.edit("max_length = 160", "max_length = 200");
    let edited = run(&project);
    assert_eq!(edited.stages("finished"), ["features"]);
    assert!(edited.events().iter().any(|event| event["event"] == "finished" && event["unchanged"] == true));

    project.edit("lr = 2e-3", "lr = 1e-3");
    project.edit("max_length = 200", "max_length = 160");
    assert!(run(&project).stages("started").is_empty());
}

#[test]
fn hints_compute_nothing_again_and_a_seed_does() {
    let project = Project::of(TINY);
    run(&project);
    project.edit("batch = 16 }", "batch = 16 }\nhints = { micro_batch_tokens = 512 }");
    assert!(computed(&project).is_empty());
    project.edit("seed = 13", "seed = 14");
    let computed = computed(&project);
    assert!(computed.contains(&"tuned".to_owned()) && !computed.contains(&"features".to_owned()), "{computed:?}");
}

#[test]
fn strict_numerics_key_results_by_what_numbers_hang_on() {
    let project = Project::of(&TINY.replace("seed = 13", "seed = 13\nnumerics = \"strict\""));
    project.qapipe(&["run", "-q", "base"]).code(0);
    let listed = project.qapipe(&["cache", "ls", "--json"]).code(0).json()["results"].clone();
    let base = listed.as_array().unwrap().iter().find(|record| record["stage"] == "base").unwrap().clone();
    let key = base["key"].as_str().unwrap();
    let record: serde_json::Value = serde_json::from_str(&project.read(&format!(".qapipe/records/{}/{key}.json", &key[..2]))).unwrap();
    let device = record["facets"]["device"].as_str().unwrap_or_else(|| panic!("{record}"));
    assert!(device.contains("libtorch 2.11"), "{device}");
}

#[cfg(feature = "report")]
#[test]
fn the_table_has_quality_cost_and_the_line_to_beat() {
    let project = Project::of(TINY);
    let shown = project.qapipe(&["run"]).code(0).out;
    assert!(shown.contains("EXACT") && shown.contains("(always abstain)"), "{shown}");
    let rows = project.qapipe(&["results", "--json"]).code(0).json()["rows"].clone();
    let scores = rows.as_array().unwrap().iter().find(|row| row["stage"] == "scores").unwrap();
    for figure in ["exact", "f1", "abstain_exact", "parameters", "bytes", "resident_bytes", "train_seconds", "latency_p50_ms", "throughput"]
    {
        assert!(scores[figure].as_f64().is_some_and(f64::is_finite), "{figure}: {scores}");
    }
    assert_eq!((&scores["device"], &scores["energy_joules"]), (&"cpu".into(), &serde_json::Value::Null));

    // The same key, other costs.
    project.qapipe(&["run", "--force", "scores"]).code(0);
    let again = project.qapipe(&["results", "--json"]).code(0).json()["rows"].clone();
    let again = again.as_array().unwrap().iter().find(|row| row["stage"] == "scores").unwrap().clone();
    assert_eq!((&again["key"], &again["exact"]), (&scores["key"], &scores["exact"]));
    assert_ne!(again["evaluate_seconds"], scores["evaluate_seconds"]);
}

/// Replaces the base model by a folder of its own in which one tensor is not numbers.
fn poison(project: &Project) {
    project.qapipe(&["run", "-q", "base"]).code(0);
    project.qapipe(&["get", "base.model", "-o", "."]).code(0);
    let weights = project.path("model/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 64..].chunks_exact_mut(4).for_each(|number| number.copy_from_slice(&f32::NAN.to_le_bytes()));
    std::fs::write(weights, bytes).unwrap();
    let text = project.read("pipeline.toml");
    let (before, after) = (text.find("vocabulary").unwrap(), text.find("[stages.features]").unwrap());
    project.write("pipeline.toml", &format!("{}source = \"model\"\n\n{}", &text[..before], &text[after..]));
}

#[test]
fn a_training_that_leaves_the_numbers_fails_says_where_and_is_not_kept() {
    let project = Project::of(TINY);
    poison(&project);
    let answer = project.qapipe(&["run"]).code(1);
    assert!(answer.err.contains("failed    tuned") && answer.err.contains("is NaN at step 1"), "{}", answer.err);
    assert!(!answer.err.contains("panicked"), "{}", answer.err);
    let plan = project.qapipe(&["plan", "--json"]).code(0).json();
    let decisions: Vec<&str> = plan["stages"].as_array().unwrap().iter().map(|stage| stage["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["cached", "cached", "cached", "run", "maybe"]);
}

#[test]
fn a_checkpoint_that_does_not_fit_is_one_clear_error_each() {
    let project = Project::of("[stages.base]\nkind = \"checkpoint\"\nsource = \"model\"\n");
    let fails = |name: &str, content: &[u8], said: &str| {
        std::fs::write(project.path("model").join(name), content).unwrap();
        let answer = project.qapipe(&["run"]).code(1);
        assert!(answer.err.contains(said) && !answer.err.contains("panicked"), "{}", answer.err);
    };
    project.write(
        "model/config.json",
        r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}"#,
    );
    project.write("model/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n");
    fails("pytorch_model.bin", b"\x80\x02}q\x00.", "is a pickle");
    fails("model.safetensors", &u64::MAX.to_le_bytes(), "model.safetensors");
    let lying = br#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,400]}}"#;
    let mut bytes = (lying.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(lying);
    fails("model.safetensors", &bytes, "model.safetensors");
}
