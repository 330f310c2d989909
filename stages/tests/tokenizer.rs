//! Loading and learning tokenizers.
#![allow(clippy::unwrap_used)]

mod common;

use common::{examples, question, shared};
use qapipe_stages::examples::{Examples, Part, write};
use qapipe_stages::tokenizer::{
    Casing, Reader, SPECIAL, SPECIAL_WORDS, check_size, count_words_of, digest, frequent_words, learn, load, load_file, of_vocabulary,
    of_words, whole_words,
};

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

#[test]
fn a_sentencepiece_model_gives_the_ids_of_t5s_own_tokenizer() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spiece");
    let tokenizer = load(&folder).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
    assert!(rows.len() > 5);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let encoding = tokenizer.encode(text, true).unwrap();
        assert_eq!(serde_json::json!(encoding.get_ids()), row["ids"], "{text:?}");
        assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), row["back"].as_str().unwrap());
    }
}

#[test]
fn a_damaged_sentencepiece_model_is_one_clear_error() {
    let bytes = std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spiece/spiece.model")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let broken = |bytes: &[u8]| {
        std::fs::write(folder.path().join("spiece.model"), bytes).unwrap();
        load(folder.path()).err().map(|error| error.to_string())
    };
    assert!(broken(b"").is_some_and(|error| error.contains("not a SentencePiece model")));
    assert!(broken(b"PK\x03\x04 something else").is_some_and(|error| error.contains("not a SentencePiece model")));
    for cut in (1..bytes.len()).step_by(97) {
        // Whatever is left of it: an error or a smaller vocabulary, and no panic.
        let _ = broken(&bytes[..cut]);
    }
}

fn listed(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn whole_words_are_learnt_by_their_count() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [question("a", "The cat saw the Cat.", "Who saw?", &[]), question("b", "The cat saw the Cat.", "a b", &[])];
    let part = examples(folder.path(), &rows);
    let counts =
        |lower| count_words_of(&part, lower).unwrap().into_iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>();
    assert_eq!(counts(true), ["cat 2", "saw 2", "the 2", ". 1", "? 1", "a 1", "b 1", "who 1"]);
    assert_eq!(counts(false), ["saw 2", ". 1", "? 1", "Cat 1", "The 1", "Who 1", "a 1", "b 1", "cat 1", "the 1"]);
    let learnt = of_words(&frequent_words(&part, 7, true).unwrap(), true).unwrap();
    assert_eq!(learnt.get_vocab_size(true), 7);
    for (id, piece) in (0..).zip(SPECIAL_WORDS.into_iter().chain(["cat", "saw", "the"])) {
        assert_eq!(learnt.token_to_id(piece), Some(id));
    }
    assert_eq!(learnt.encode("THE dog saw", false).unwrap().get_ids(), [6, 1, 5]);
    assert_eq!(frequent_words(&part, 1000, true).unwrap().len(), 8);
    let error = frequent_words(&part, 4, true).unwrap_err().to_string();
    assert_eq!(error, "a vocabulary of 4 has no room for words beside the 4 special pieces");
    let empty = examples(&folder.path().join("none"), &[]);
    assert_eq!(frequent_words(&empty, 9, true).unwrap_err().to_string(), "there is no text to learn a vocabulary from");
}

#[test]
fn a_tokenizer_of_words_survives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for lower in [true, false] {
        let made = of_words(&listed(&["Éclair", "éclair", "3", "5", ".", "-", "東京"]), lower).unwrap();
        made.save(folder.path().join("tokenizer.json"), false).unwrap();
        let loaded = load(folder.path()).unwrap();
        assert_eq!(digest(&made).unwrap(), digest(&loaded).unwrap());
        let text = ("Éclair?", "3.5-東京");
        let (one, two) = (made.encode_char_offsets(text, true).unwrap(), loaded.encode_char_offsets(text, true).unwrap());
        assert_eq!((one.get_ids(), one.get_offsets()), (two.get_ids(), two.get_offsets()));
        assert_eq!(two.get_ids(), [2, if lower { 5 } else { 4 }, 1, 3, 6, 8, 7, 9, 10, 3]);
        assert_eq!(two.get_type_ids(), [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
        let reader = Reader::new(loaded).unwrap();
        assert_eq!((&reader.layout().before[..], &reader.layout().between[..], &reader.layout().after[..]), (&[2][..], &[3][..], &[3][..]));
        assert!(reader.layout().segments);
    }
    let digests = [true, false].map(|lower| digest(&of_words(&listed(&["a"]), lower).unwrap()).unwrap());
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn words_know_where_they_stand_in_code_points() {
    let reader = Reader::new(of_words(&listed(&["naïve"]), true).unwrap()).unwrap();
    let text = "Naïve—İx  costs $1,000.5\u{0}; well-known 中文 (e\u{301}t)";
    let tokens = reader.tokens(text).unwrap();
    let characters: Vec<char> = text.chars().collect();
    let spans =
        tokens.starts.iter().zip(&tokens.ends).map(|(&start, &end)| characters[start as usize..end as usize].iter().collect::<String>());
    let spans: Vec<String> = spans.collect();
    assert_eq!(
        spans,
        ["Naïve", "—", "İx", "costs", "$", "1", ",", "000", ".", "5", ";", "well", "-", "known", "中文", "(", "e\u{301}t", ")"]
    );
    assert_eq!(tokens.ids[..2], [4, 1]);
    assert_eq!(reader.tokens(" \u{7}").unwrap().ids, [0_u32; 0]);
}

#[test]
fn lists_of_words_are_checked_and_can_be_cleaned() {
    let error = |words: &[&str]| of_words(&listed(words), true).unwrap_err().to_string();
    assert_eq!(error(&["a", "b", "a"]), "the vocabulary of words: \"a\" stands there twice, or is a special piece");
    assert_eq!(error(&["[SEP]"]), "the vocabulary of words: \"[SEP]\" stands there twice, or is a special piece");
    assert_eq!(error(&["a", ""]), "the vocabulary of words: word 2 is empty");
    let words = || listed(&["The", "the", "U.S.", "", "[PAD]", "</s>", "naïve", ".", "THE"]);
    assert_eq!(whole_words(words(), true).unwrap(), ["the", "naïve", "."]);
    assert_eq!(whole_words(words(), false).unwrap(), ["The", "the", "naïve", ".", "THE"]);
    assert!(of_words(&whole_words(words(), true).unwrap(), true).is_ok());
}
