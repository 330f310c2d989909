//! Loading and learning tokenizers.
#![allow(clippy::unwrap_used)]

mod common;

use common::{examples, question, shared};
use qapipe_stages::examples::{Examples, Part, write};
use qapipe_stages::tokenizer::{Casing, Reader, SPECIAL, check_size, learn, load, load_file, of_vocabulary};

#[test]
fn a_vocabulary_makes_the_same_tokenizer_as_the_whole_file() {
    let Some(model) = shared("models/minilm-l6") else { return };
    let whole = load(&model).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in ["vocab.txt", "tokenizer_config.json"] {
        std::fs::copy(model.join(file), folder.path().join(file)).unwrap();
    }
    let made = load(folder.path()).unwrap();
    for text in ["Élan vital, naïve — 中文 😀!", "[SEP] of [MASK]", "Zürich's  1,000\u{301} \u{7}units"] {
        let (one, two) = (whole.encode_char_offsets((text, "b"), true).unwrap(), made.encode_char_offsets((text, "b"), true).unwrap());
        assert_eq!(
            (one.get_ids(), one.get_offsets(), one.get_type_ids()),
            (two.get_ids(), two.get_offsets(), two.get_type_ids()),
            "{text}"
        );
    }
    // The file's own limits (128 tokens, padded) are gone.
    assert_eq!(whole.encode("a ".repeat(300), true).unwrap().len(), 302);
    assert_eq!(Reader::new(whole).unwrap().layout(), Reader::new(made).unwrap().layout());
}

#[test]
fn casing_is_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vocab.txt"), "[UNK]\n[CLS]\n[SEP]\nCat\ncat").unwrap();
    assert_eq!(load(folder.path()).unwrap().encode("Cat", false).unwrap().get_ids(), [4]);
    std::fs::write(folder.path().join("tokenizer_config.json"), "{\"do_lower_case\": false, \"other\": 1}").unwrap();
    assert_eq!(load(folder.path()).unwrap().encode("Cat", false).unwrap().get_ids(), [3]);
}

#[test]
fn bad_tokenizers_are_one_clear_error() {
    let error = |text: &str| of_vocabulary(text, Casing::default(), "vocab.txt").unwrap_err().to_string();
    assert_eq!(error("[UNK]\n[CLS]\na"), "vocab.txt: holds no [SEP]");
    assert_eq!(error("[UNK]\n[CLS]\na\na"), "vocab.txt:4: \"a\" stands there twice");
    let folder = tempfile::tempdir().unwrap();
    assert!(load(folder.path()).unwrap_err().to_string().ends_with("holds no tokenizer.json, no vocab.txt and no spiece.model"));
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, "{\"model\": 3}").unwrap();
    assert!(load_file(&file, Casing::default()).unwrap_err().to_string().contains("tokenizer.json: not a tokenizer"));
    let small = of_vocabulary("[UNK]\n[CLS]\n[SEP]\na", Casing::default(), "v").unwrap();
    assert!(check_size(&small, 4, "model").is_ok());
    let error = check_size(&small, 3, "model").unwrap_err().to_string();
    assert_eq!(error, "model: the vocabulary does not fit the model: the tokenizer gives ids up to 3 (\"a\"), the embedding has 3 rows");
}

#[test]
fn a_learnt_vocabulary_is_the_same_every_time_and_fits() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("train.arrow"), &qapipe_stages::sample::questions(Part::Train).rows).unwrap();
    let train = Examples::open(&folder.path().join("train.arrow")).unwrap();
    let learnt = learn(&train, 600).unwrap();
    assert_eq!(learnt.to_string(false).unwrap(), learn(&train, 600).unwrap().to_string(false).unwrap());
    assert!(learnt.get_vocab_size(true) <= 600 && learnt.get_vocab_size(true) > 550, "{}", learnt.get_vocab_size(true));
    for (id, piece) in (0..).zip(SPECIAL) {
        assert_eq!(learnt.token_to_id(piece), Some(id));
    }
    let unknown = learnt.token_to_id("[UNK]").unwrap();
    assert!((0..train.contexts()).all(|at| !learnt.encode(train.context_text(at), true).unwrap().get_ids().contains(&unknown)));
    assert_eq!(learnt.encode("town", false).unwrap().len(), 1);
    let folder = tempfile::tempdir().unwrap();
    let tiny = examples(folder.path(), &[question("q", "ab cd ab", "ab", &[])]);
    let error = learn(&tiny, 8).unwrap_err().to_string();
    assert_eq!(error, "a vocabulary of 8 has no room for the 4 characters of the text");
    assert_eq!(learn(&tiny, 100).unwrap().encode("ab cd", false).unwrap().get_tokens(), ["ab", "c", "##d"]);
}
