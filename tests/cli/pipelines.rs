//! The pipelines that come with qapipe, in the tiny form that the head of each gives: on the sample, in seconds.

use std::path::Path;

use crate::support::Project;

/// The commands at the head of a pipeline that run it on the sample, without `qapipe`.
fn tiny_commands(text: &str) -> Vec<Vec<String>> {
    let head = text.lines().take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let tiny = head.filter_map(|line| line.strip_prefix("qapipe ")).filter(|line| line.contains("vars.squad=sample"));
    tiny.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Runs the tiny form of one pipeline, and a second time, when there must be nothing to do.
fn runs(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(format!("pipelines/{name}.toml"))).unwrap();
    let commands = tiny_commands(&text);
    assert!(!commands.is_empty(), "{name}: its head gives no tiny run");
    let project = Project::of(&text);
    std::fs::create_dir(project.path("pipelines")).unwrap();
    std::fs::rename(project.path("pipeline.toml"), project.path(&format!("pipelines/{name}.toml"))).unwrap();
    for command in commands {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--device", "cpu", "--offline", "--jobs", "1"]).collect();
        let answer = project.qapipe(&words).code(0);
        assert!(answer.out.contains("(always abstain)"), "{}", answer.out);
        assert!(project.qapipe(&words).code(0).err.contains("nothing to do"));
    }
}

#[test]
fn bert_base() {
    runs("bert_base");
}

#[test]
fn bert_smp10() {
    runs("bert_smp10");
}

#[test]
fn bert_smp50_kd() {
    runs("bert_smp50_kd");
}

#[test]
fn lora_ranks() {
    runs("lora_ranks");
}

#[test]
fn t5_int8() {
    runs("t5_int8");
}

#[test]
fn t5_lora() {
    runs("t5_lora");
}

#[test]
fn t5_qlora() {
    runs("t5_qlora");
}

/// The study's twelve systems in small: one row of figures each, and shared stages once.
#[test]
fn study_mini() {
    let project = Project::of("");
    std::fs::create_dir(project.path("pipelines")).unwrap();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")).unwrap() {
        let file = entry.unwrap().path();
        std::fs::copy(&file, project.path("pipelines").join(file.file_name().unwrap())).unwrap();
    }
    let words = [
        "run",
        "pipelines/study_mini.toml",
        "--device",
        "cpu",
        "--offline",
        "--set",
        "vars.epochs=1",
        "--set",
        "vars.bert_epochs=1",
        "--set",
        "vars.prune_epochs=1",
    ];
    let answer = project.qapipe(&words).code(0);
    let systems = answer.out.lines().filter(|line| line.contains("scores") || line.contains("prompted")).count();
    assert_eq!(systems, 13, "{}", answer.out);
    assert_eq!(answer.err.matches("tiny").count(), 6, "three checkpoints of random weights, begun and done: {}", answer.err);
    assert!(project.qapipe(&words).code(0).err.contains("nothing to do"));
}

#[test]
fn t5_base() {
    runs("t5_base");
}

#[test]
fn mamba_nshot() {
    runs("mamba_nshot");
}

#[test]
fn lstm_bidaf() {
    runs("lstm_bidaf");
}

#[test]
fn lstm_fasttext() {
    runs("lstm_fasttext");
}

#[test]
fn lstm_glove() {
    runs("lstm_glove");
}

#[test]
fn lstm_random() {
    runs("lstm_random");
}

#[test]
fn lstm_self_attention() {
    runs("lstm_self_attention");
}
