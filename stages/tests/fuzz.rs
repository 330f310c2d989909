//! Damaged pipelines, data, tokenizers and word vectors: refused with an error, or read as what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

#[path = "common/parquet.rs"]
mod parquet_file;

use std::path::{Path, PathBuf};

use qapipe_engine::{Kinds, Override, Pipeline};
use qapipe_fuzz::{Hunt, PeakAlloc};
use qapipe_stages::tokenizer::{self, Casing};
use qapipe_stages::{KINDS, squad_json, squad_parquet, vectors};

#[global_allocator]
static METER: PeakAlloc = PeakAlloc;

const WORDS: &[&str] = &[
    "[stages.x]\n",
    "kind = \"command\"\n",
    "[matrix]\n",
    "exclude = [{}]",
    "include = [\"p.toml\"]\n",
    "[vars]\n",
    "${vars.x}",
    "${matrix.a}",
    "@x",
    "@x[a=1].y",
    "= ",
    "''' ",
    "\"\"\"",
    "seed = ",
    "inf",
    "nan",
    "1979-05-27",
    "hints = { threads = 1 }",
    "targets = []",
    "{ }",
    "[[stages]]",
];

/// Much of the language in a few lines: damage to it gets far.
const SMALL: &str = r#"seed = 1
include = [{ file = "quickstart.toml", name = "q", vars = { squad = "sample" } }]
targets = ["b[n=1]"]
[vars]
x = "${matrix.n}"
[matrix]
n = [1, 2]
m = ["a", "b"]
exclude = [{ n = 1, m = "a" }]
include = [{ n = 3, m = "c" }]
[stages.a]
kind = "command"
run = ["sh", "-c", "echo ${vars.x} > {out.y}"]
outputs = { y = "out/${matrix.n}-${matrix.m}" }
[stages.b]
kind = "command"
run = ["cat", "{in.x}", "{out.z}"]
inputs = { x = "@a[m=b].y" }
outputs = ["z"]
"#;

fn house(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn pipelines() -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(house("pipelines")).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).chain([SMALL.as_bytes().to_vec()]).collect()
}

/// What a pipeline is, or the first thing that is wrong with it; every error can be shown.
fn said(text: &str, overrides: &[Override]) -> String {
    match Pipeline::parse(text, &house("pipelines/p.toml"), &Kinds::new(KINDS), overrides) {
        Ok(pipeline) => format!("{} stages", if pipeline.stages.len() > 1 { "several" } else { "few" }),
        Err(diagnostics) => diagnostics.0.iter().map(|diagnostic| (diagnostic.position(), diagnostic.message.clone()).1).take(1).collect(),
    }
}

#[test]
fn pipelines_of_any_text() {
    let hunt = Hunt { name: "pipelines", corpus: pipelines(), words: WORDS, factor: 4000, base: 256 << 20 };
    hunt.run(|bytes| said(&String::from_utf8_lossy(bytes), &[]));
}

#[test]
fn overrides() {
    let text = std::fs::read_to_string(house("pipelines/quickstart.toml")).unwrap();
    let corpus = [
        "seed=7",
        "vars.squad=/data/squad",
        "stages.tuned.train.lr=1e-4",
        "matrix.rank=[4,8]",
        "stages.tuned.train={ epochs = 2 }",
        "numerics=strict",
    ];
    let words = &["stages.", "vars.", "tuned", "train", "epochs", "=", "[", "]", "{", "}", "\"", "squad", "scores", "dev"];
    let hunt =
        Hunt { name: "overrides", corpus: corpus.map(|text| text.as_bytes().to_vec()).to_vec(), words, factor: 20_000, base: 64 << 20 };
    hunt.run(|bytes| {
        let change = String::from_utf8_lossy(bytes);
        let changes: Vec<Override> = [change.parse().ok(), Override::sweep(&change).ok()].into_iter().flatten().collect();
        changes.iter().map(|change| said(&text, std::slice::from_ref(change))).collect()
    });
}

#[test]
fn squad() {
    let good = r#"{"version":"v2.0","data":[{"title":"T","paragraphs":[{"context":"Zoé sat. The cat sat.","qas":[{"id":"a","question":"Who?","answers":[{"text":"Zoé","answer_start":0}],"is_impossible":false},{"id":"b","question":"Why?","answers":[],"plausible_answers":[{"text":"cat","answer_start":13}],"is_impossible":true}]}]}]}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.json");
    let words = &["null", "\"answers\":", "\"qas\":[", "\"\\ud800\"", "[{", "}]", "\"context\":", "true", "\u{feff}"];
    let hunt = Hunt { name: "squad", corpus: vec![good.as_bytes().to_vec()], words, factor: 400, base: 1 << 20 };
    hunt.run(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        let read = squad_json::read(&path);
        read.map_or_else(|error| error.to_string().replace(path.to_str().unwrap(), ""), |questions| format!("{:?}", questions.version))
    });
}

#[test]
fn parquet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let hunt = Hunt {
        name: "parquet",
        corpus: vec![parquet_file::parquet()],
        words: &["PAR1", "question", "answers"],
        factor: 20_000,
        base: 64 << 20,
    };
    hunt.run(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        let read = squad_parquet::read(&path);
        read.map_or_else(
            |error| error.to_string().replace(path.to_str().unwrap(), ""),
            |questions| format!("{} rows", questions.rows.len() > 1),
        )
    });
}

/// Damage of which the library asserts that it is not there.
#[test]
fn a_parquet_file_that_makes_its_library_panic_is_a_damaged_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.parquet");
    let mut bytes = parquet_file::parquet();
    bytes.splice(158..158, *b"question");
    std::fs::write(&path, bytes).unwrap();
    let error = squad_parquet::read(&path).map(|questions| questions.rows.len()).unwrap_err();
    assert!(error.to_string().contains("the file is damaged"), "{error}");
}

/// Reads a tokenizer, and uses it where it can be read.
fn tokenized(folder: &Path) -> String {
    match tokenizer::load(folder) {
        Err(error) => error.to_string().replace(folder.to_str().unwrap(), ""),
        Ok(tokenizer) => {
            let encoded = tokenizer.encode("Zoé sat on the cat's mat 123 \u{1f600}.", true);
            encoded.map_or_else(|error| error.to_string(), |encoded| format!("{} ids", if encoded.len() > 8 { "many" } else { "few" }))
        }
    }
}

#[test]
fn a_decoder_that_makes_its_library_panic_is_a_mistake_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n";
    let whole = tokenizer::of_vocabulary(vocabulary, Casing::default(), "vocab").unwrap().to_string(false).unwrap();
    let mut whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    whole["decoder"] = 7.into();
    std::fs::write(folder.path().join("tokenizer.json"), whole.to_string()).unwrap();
    let error = tokenizer::load(folder.path()).map(drop).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json: not a tokenizer: "), "{error}");
}

#[test]
fn tokenizers() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\nsat\n##s\n.\nz\n##oe\n";
    let whole = tokenizer::of_vocabulary(vocabulary, Casing::default(), "vocab").unwrap().to_string(false).unwrap();
    let words = &[
        "\"type\":",
        "\"WordPiece\"",
        "\"BPE\"",
        "\"Unigram\"",
        "\"vocab\":",
        "\"normalizer\":",
        "\"Precompiled\"",
        "null",
        "\"id\":",
        "[]",
        "{}",
    ];
    let path = folder.path().join("tokenizer.json");
    let hunt =
        Hunt { name: "tokenizers", corpus: vec![whole.into_bytes(), vocabulary.as_bytes().to_vec()], words, factor: 2000, base: 4 << 20 };
    hunt.run(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        tokenized(folder.path())
    });
}

#[test]
fn pieces() {
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(house("stages/tests/fixtures/spiece/spiece.model")).unwrap();
    let hunt = Hunt { name: "pieces", corpus: vec![good], words: &["\u{2581}", "<unk>", "</s>"], factor: 2000, base: 4 << 20 };
    hunt.run(|bytes| {
        std::fs::write(folder.path().join("spiece.model"), bytes).unwrap();
        tokenized(folder.path())
    });
}

#[test]
fn word_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors");
    let good =
        ["model.vec", "words.bin", "model.bin"].map(|name| std::fs::read(house("stages/tests/fixtures/vectors").join(name)).unwrap());
    let corpus = good.into_iter().chain([b"the 0.1 0.2\ncat 0.3 -1e-3\n".to_vec()]).collect();
    let hunt = Hunt { name: "vectors", corpus, words: &["nan", "1e39", " ", "\n", "</s>"], factor: 400, base: 4 << 20 };
    hunt.run(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        let found = vectors::find(&path, &["the".to_owned(), "cat".to_owned()], &|_, _| Ok(()));
        found.map_or_else(
            |error| error.to_string().replace(path.to_str().unwrap(), ""),
            |found| format!("{} known", found.known_count() > 0),
        )
    });
}
