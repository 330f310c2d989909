//! Windows against those of the Python package.
#![allow(clippy::unwrap_used)]

mod common;

use common::{bytes, dataset, examples, question, run, shared};
use qapipe_stages::Error;
use qapipe_stages::examples::Part;
use qapipe_stages::features::{Features, Info, InfoForm};
use qapipe_stages::tokenizer::{Casing, Reader, of_vocabulary};
use qapipe_stages::windows::{Shape, cut};
use serde_json::json;

/// What `scripts/window_digest.py` prints for dev-v2.0 with the tokenizer of minilm-l6, at 384 tokens with an overlap of 128.
const WINDOWS: usize = 12_134;
const DIGEST: &str = "e6d849f9396698b50f608a62724037a89321051c43e284c3feffca5f000dbd6f";

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd\ne\nf\ng\nwho\n?\n##b\n##c\ncafe\n.";

fn reader() -> Reader {
    Reader::new(of_vocabulary(VOCABULARY, Casing::default(), "test").unwrap()).unwrap()
}

fn quiet(_done: usize, _total: usize) -> Result<(), Error> {
    Ok(())
}

#[test]
fn equal_those_of_python_on_dev() {
    let (Some(dev), Some(model)) = (shared("data/squad/dev-v2.0.json.gz"), shared("models/minilm-l6")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(json!({ "dev": "dev" }), &[("dev", &dev)], &folder.path().join("data")).unwrap();
    run(&qapipe_stages::kinds::Tokenize, json!({}), &[("dataset", &data), ("model", &model)], &folder.path().join("out")).unwrap();
    let features = Features::open(&folder.path().join("out/features"), Part::Dev).unwrap();
    assert_eq!(features.len(), WINDOWS);
    let mut digest = blake3::Hasher::new();
    for row in 0..features.len() {
        let ids = features.ids(row);
        let (starts, ends) = features.offsets(row);
        let length = |items: &[u32]| u32::try_from(items.len()).unwrap();
        let mut numbers = vec![length(ids)];
        numbers.extend(ids);
        numbers.extend([features.context_start(row), length(starts)]);
        numbers.extend(starts.iter().zip(ends).flat_map(|(&start, &end)| [start, end]));
        for number in numbers {
            digest.update(&number.to_le_bytes());
        }
    }
    assert_eq!(digest.finalize().to_hex().as_str(), DIGEST);
    let info = Info::open(&folder.path().join("out/features")).unwrap();
    let spans = InfoForm::Spans { pad_id: Some(0), cls_id: 101, sep_id: 102, segments: true };
    assert_eq!((info.vocab_size, info.form), (30522, spans));
}

#[test]
fn labels_point_at_the_answer() {
    let Some(mini) = shared("data/squad/eval-mini.json.gz") else { return };
    let Some(model) = shared("models/minilm-l6") else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(json!({ "train": "x" }), &[("train", &mini)], &folder.path().join("data")).unwrap();
    run(
        &qapipe_stages::kinds::Tokenize,
        json!({ "max_length": 128, "stride": 64 }),
        &[("dataset", &data), ("model", &model)],
        &folder.path().join("out"),
    )
    .unwrap();
    let features = Features::open(&folder.path().join("out/features"), Part::Train).unwrap();
    let (mut labelled, mut answered) = (0, 0);
    for example in 0..features.examples().len() {
        let rows = features.windows_of(example);
        assert!(!rows.is_empty());
        let found = rows.filter(|&row| features.label(row) != (0, 0)).inspect(|&row| {
            let (start, end) = features.label(row);
            let (starts, ends) = features.offsets(row);
            let at = |position: u32| (position - features.context_start(row)) as usize;
            let text =
                qapipe_stages::python::slice(features.examples().context(example), starts[at(start)] as usize, ends[at(end)] as usize);
            let gold = features.examples().golds(example).next().unwrap();
            assert!(text.contains(gold), "{text:?} is not {gold:?}");
            labelled += 1;
        });
        answered += usize::from(found.count() > 0);
    }
    assert!(labelled >= answered && answered > 1400, "{labelled} {answered}");
}

#[test]
fn overlap_and_end_at_the_last_token() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [question("q", "a b c d e f g a b c", "  \u{1f}who?", &[("e f", 8)])];
    let examples = examples(folder.path(), &rows);
    // [CLS] who ? [SEP] + 5 + [SEP]: windows of five, of which two are shared.
    let (windows, offsets) = cut(&reader(), &examples, Shape { max_length: 10, stride: 2, max_query_length: None }, &quiet).unwrap();
    assert_eq!(windows.first, [0, 3, 6]);
    assert_eq!(windows.ids.lengths, [10, 10, 9]);
    assert_eq!(&windows.ids.items[..10], [2, 12, 13, 3, 5, 6, 7, 8, 9, 3]);
    // Only the middle window holds all of the answer.
    assert_eq!((windows.start.as_slice(), windows.end.as_slice()), ([0, 5, 0].as_slice(), [0, 6, 0].as_slice()));
    assert_eq!(offsets.starts.items, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
}

#[test]
fn offsets_count_code_points() {
    let folder = tempfile::tempdir().unwrap();
    let examples = examples(folder.path(), &[question("q", "😀 Café. b", "who", &[("Café", 2)])]);
    let (windows, offsets) = cut(&reader(), &examples, Shape { max_length: 64, stride: 8, max_query_length: None }, &quiet).unwrap();
    assert_eq!(offsets.starts.items, [0, 2, 6, 8]);
    assert_eq!(offsets.ends.items, [1, 6, 7, 9]);
    assert_eq!((windows.start[0], windows.end[0]), (4, 4));
}

#[test]
fn a_question_too_long_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let examples = examples(folder.path(), &[question("q7", "a b c d e f g a b c", "who who who who who who who", &[])]);
    let shape = Shape { max_length: 12, stride: 4, max_query_length: None };
    let error = cut(&reader(), &examples, shape, &quiet).unwrap_err();
    assert_eq!(
        error.to_string(),
        "question q7 has 7 tokens: in a window of 12 that leaves 2 for the paragraph, too few for an overlap of 4"
    );
    let (windows, _) = cut(&reader(), &examples, Shape { max_query_length: Some(3), ..shape }, &quiet).unwrap();
    assert_eq!(windows.context_start[0], 5);
}

#[test]
fn equal_data_gives_equal_bytes_whatever_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    examples(&data, &[question("q", "a b c d", "who?", &[("c", 4)]), question("r", "a b c d", "who", &[])]);
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("vocab.txt"), VOCABULARY).unwrap();
    let tokenize = |name: &str, options: serde_json::Value| {
        run(&qapipe_stages::kinds::Tokenize, options, &[("dataset", &data), ("model", &model)], &folder.path().join(name)).unwrap();
        bytes(&folder.path().join(name).join("features"))
    };
    let first = tokenize("one", json!({}));
    assert_eq!(
        first.keys().map(String::as_str).collect::<Vec<_>>(),
        [
            "dev.arrow",
            "dev.contexts.arrow",
            "dev.examples.arrow",
            "info.json",
            "train.arrow",
            "train.contexts.arrow",
            "train.examples.arrow"
        ]
    );
    assert_eq!(first, tokenize("two", json!({ "max_length": 200, "stride": 20, "max_query_length": 60 })));
    assert_ne!(first, tokenize("three", json!({ "max_query_length": 1 })));
    assert_eq!(first["train.examples.arrow"], bytes(&data)["train.arrow"]);
}

#[test]
fn a_damaged_file_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    examples(folder.path(), &[question("q", "a", "who", &[])]);
    let path = folder.path().join("dev.arrow");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 5, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = qapipe_stages::examples::Examples::open(&path).unwrap_err().to_string();
        assert!(error.contains("dev.arrow: not a table that qapipe reads"), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn a_changed_byte_never_panics(at in proptest::prelude::any::<proptest::sample::Index>(), byte in proptest::prelude::any::<u8>()) {
        let folder = tempfile::tempdir().unwrap();
        examples(folder.path(), &[question("q", "a", "who", &[])]);
        let path = folder.path().join("dev.arrow");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        std::fs::write(&path, bytes).unwrap();
        let _ = qapipe_stages::examples::Examples::open(&path);
    }
}

#[test]
fn examples_are_no_features() {
    let folder = tempfile::tempdir().unwrap();
    examples(folder.path(), &[question("q", "a", "who", &[])]);
    let error = Features::open(folder.path(), Part::Dev).unwrap_err();
    assert_eq!(error.to_string(), "the data is an examples table, a model reads a features table");
    std::fs::remove_file(folder.path().join("dev.arrow")).unwrap();
    assert_eq!(Features::open(folder.path(), Part::Dev).unwrap_err().to_string(), "the features have no dev part");
}
