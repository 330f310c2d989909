//! Reading word vectors: GloVe text, fastText text and binary models, against what fastText itself answers.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use qapipe_stages::Error;
use qapipe_stages::vectors::{Found, find, words};

const GLOVE: &str = "the 0.5 -1 2e-1\n. . . 1 2 3\nriver 4 5 6\nthe 9 9 9\nRiver 7 8 9\n";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors").join(name)
}

fn listed(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Looks for words in a file of these bytes.
fn look(bytes: &[u8], wanted: &[&str]) -> Result<Found, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("v");
    std::fs::write(&file, bytes).unwrap();
    find(&file, &listed(wanted), &|_, _| Ok(()))
}

/// The message of the error that a file of these bytes gives, without the folder's name.
fn error(bytes: &[u8]) -> String {
    let message = look(bytes, &["the"]).unwrap_err().to_string();
    message.rsplit_once("/v:").map(|(_, rest)| rest.to_owned()).unwrap()
}

fn rows(found: &Found) -> Vec<&[f32]> {
    found.values.chunks(found.dimension).collect()
}

#[test]
fn glove_text_gives_exact_words_before_lower_case_and_the_first_of_two() {
    for bytes in [GLOVE.as_bytes().to_vec(), gzip(GLOVE.as_bytes()), GLOVE.replace('\n', "\r\n").into_bytes()] {
        let found = look(&bytes, &["River", "THE", ". . .", "none", "river", "the", "RIVER", "the"]).unwrap();
        let the = [0.5, -1.0, 0.2];
        let (lower, upper) = ([4.0, 5.0, 6.0], [7.0, 8.0, 9.0]);
        assert_eq!(rows(&found), [&upper, &the, &[1.0, 2.0, 3.0], &[0.0; 3], &lower, &the, &lower, &the]);
        assert_eq!(found.known, [true, true, true, false, true, true, true, true]);
        assert_eq!((found.dimension, found.known_count(), found.by_subwords), (3, 7, 0));
    }
}

#[test]
fn the_dimension_of_glove_text_is_told_by_its_first_row() {
    assert_eq!(look(b". . . 1 2\na 3 4\n", &["a", ". . ."]).unwrap().values, [3.0, 4.0, 1.0, 2.0]);
    assert_eq!(look(b"1990 1 2\na 3 4", &["1990", "a"]).unwrap().values, [1.0, 2.0, 3.0, 4.0]);
    // A space for a word, and no word at all.
    assert_eq!(look(b"  1 2\n 3 4\n\n", &[" ", ""]).unwrap().values, [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn text_that_is_no_utf8_goes_on() {
    let found = look(b"caf\xe9 1 2\nthe 3 4\n", &["the", "caf\u{fffd}"]).unwrap();
    assert_eq!(found.values, [3.0, 4.0, 1.0, 2.0]);
}

#[test]
fn words_come_in_the_files_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("v");
    std::fs::write(&file, GLOVE).unwrap();
    assert_eq!(words(&file, 10).unwrap(), ["the", ". . .", "river", "River"]);
    assert_eq!(words(&file, 2).unwrap(), ["the", ". . ."]);
    assert_eq!(words(&file, 0).unwrap(), [""; 0]);
    let all = words(&fixture("model.vec"), usize::MAX).unwrap();
    assert_eq!(all[..2], ["the", "."]);
    assert_eq!(words(&fixture("model.bin"), usize::MAX).unwrap(), all);
    assert_eq!(words(&fixture("model.bin"), 3).unwrap(), all[..3]);
    assert!(words(&fixture("labels.bin"), usize::MAX).unwrap().iter().all(|word| !word.starts_with("__label__")));
}

/// What fastText answers for the words of a model.
fn expected(model: &str) -> BTreeMap<String, Vec<f32>> {
    let all: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
    serde_json::from_value(all[model].clone()).unwrap()
}

#[test]
fn binary_models_give_what_fasttext_gives() {
    for (model, subwords) in [("model.bin", 10), ("words.bin", 0), ("labels.bin", 9)] {
        let expected = expected(model);
        let listed = words(&fixture(model), usize::MAX).unwrap();
        let asked: Vec<String> = expected.keys().cloned().collect();
        let found = find(&fixture(model), &asked, &|_, _| Ok(())).unwrap();
        for (at, word) in asked.iter().enumerate() {
            // fastText has no way by the lower case.
            let lower = word.to_lowercase();
            let same = if listed.contains(word) || !listed.contains(&lower) { word } else { &lower };
            let (row, wanted) = (rows(&found)[at], &expected[same]);
            assert!(row.iter().zip(wanted).all(|(one, two)| (one - two).abs() < 1e-6), "{model} {word}: {row:?} {wanted:?}");
            assert_eq!(found.known[at], wanted.iter().any(|&x| x != 0.0), "{model} {word}");
        }
        assert_eq!(found.by_subwords, subwords, "{model}");
        let packed = look(&gzip(&std::fs::read(fixture(model)).unwrap()), &asked.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(packed.unwrap(), found);
    }
}

#[test]
fn text_and_model_agree_on_the_words_of_both() {
    let all = words(&fixture("model.vec"), usize::MAX).unwrap();
    let [text, model] = ["model.vec", "model.bin"].map(|name| find(&fixture(name), &all, &|_, _| Ok(())).unwrap());
    assert_eq!((text.known_count(), text.dimension), (all.len(), 5));
    assert!(text.values.iter().zip(&model.values).all(|(one, two)| (one - two).abs() < 1e-4));
}

#[test]
fn version_11_reads_the_same_but_for_classifiers_without_ngrams() {
    let old = |name: &str| {
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        bytes[4] = 11;
        look(&bytes, &["seine", "seines"]).unwrap()
    };
    assert_eq!(old("model.bin"), look(&std::fs::read(fixture("model.bin")).unwrap(), &["seine", "seines"]).unwrap());
    assert_eq!(old("labels.bin").known, [true, false]);
}

#[test]
fn progress_counts_the_bytes_of_the_file_and_can_stop_the_work() {
    let text: String = (0..20_000).map(|at| format!("w{at} 1 2 3\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    for bytes in [text.clone().into_bytes(), gzip(text.as_bytes())] {
        let file = folder.path().join("v");
        std::fs::write(&file, &bytes).unwrap();
        let seen = RefCell::new(Vec::new());
        find(&file, &listed(&["w7"]), &|done, total| {
            seen.borrow_mut().push(done);
            assert_eq!(total, bytes.len() as u64);
            Ok(())
        })
        .unwrap();
        let seen = seen.into_inner();
        assert!(seen.len() > 3 && seen.is_sorted() && seen.last() == Some(&(bytes.len() as u64)), "{seen:?}");
        let stopped = find(&file, &listed(&["w7"]), &|_, _| Err(Error::Interrupted));
        assert!(matches!(stopped, Err(Error::Interrupted)));
    }
}

#[test]
fn broken_text_is_one_clear_error_with_its_line() {
    assert_eq!(error(b""), " the file is empty");
    assert_eq!(error(&gzip(b"")), " the file is empty");
    assert_eq!(error(b"the 1 2 3\nof 1 2\n"), "2: the vector of \"of\" has 2 numbers, the first row has 3");
    assert_eq!(error(b"the 1 2\nof 1 2 3\n"), "2: the vector of \"of\" has 3 numbers, the first row has 2");
    assert_eq!(error(b"2 3\nof 1 2\nthe 1 2\n"), "2: the vector of \"of\" has 2 numbers, the header says 3");
    assert_eq!(error(b"2 3\nof 1 2 3 4\nthe 1 2 3 4\n"), "2: the vector of \"of\" has 4 numbers, the header says 3");
    assert_eq!(error(b"3 2\nof 1 2\nthe 1 2\n"), " the header promises 3 words, the file holds 2");
    assert_eq!(error(b"3 0\n"), "1: not a file of word vectors: a word and its numbers are wanted");
    assert_eq!(error(b"3 4000000000\n"), "1: vectors of 4000000000 numbers: at most 16384 are supported");
    for bad in ["x", "nan", "inf", "-inf", "1,5", "1e99", "0x1", "1.2.3", ""] {
        let line = format!("of 1 2 3\nthe 1 {bad} 3\n");
        assert_eq!(error(line.as_bytes()), format!("2: {bad:?} is not a finite number, in the vector of \"the\""));
    }
    // Words that nobody asked for are held to the same, but for the closer look.
    assert_eq!(error(b"of 1 2 3\nto 1 nan 3\n"), "2: \"nan\" is not a finite number, in the vector of \"to\"");
}

#[test]
fn other_files_are_told_apart() {
    let none = "1: not a file of word vectors: a word and its numbers are wanted";
    assert_eq!(error(b"{\"data\": []}\n"), none);
    assert_eq!(error(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), none);
    assert_eq!(error(b"PK\x03\x04rest"), " a ZIP archive, where a file of vectors is wanted");
    assert_eq!(error(&vec![b'x'; 3 << 20]), "1: not a row of a file of vectors: longer than 1048576 bytes");
    let mut packed = gzip(GLOVE.repeat(2000).as_bytes());
    packed.truncate(packed.len() / 2);
    assert!(error(&packed).starts_with(" cut short or damaged"), "{}", error(&packed));
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(find(&folder.path().join("gone"), &[], &|_, _| Ok(())), Err(Error::Io { .. })));
    assert!(matches!(words(folder.path(), 1), Err(Error::Io { .. })));
}

#[test]
fn quantized_models_are_refused() {
    assert_eq!(error(&std::fs::read(fixture("labels.ftz")).unwrap()), " a quantized fastText model (.ftz)");
}

/// A model with one of its numbers of four bytes replaced: 0 magic, 1 version, 2 dimension, 10 buckets, 11 and 12 n-grams, 16 entries.
fn patched(number: usize, value: i32) -> Vec<u8> {
    let mut bytes = std::fs::read(fixture("model.bin")).unwrap();
    bytes[number * 4..][..4].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn damaged_models_are_one_clear_error() {
    assert_eq!(error(&patched(1, 13)), " a fastText model of version 13, only 11 and 12 are supported");
    assert_eq!(error(&patched(2, i32::MAX)), " a damaged fastText model: its dimension is 2147483647");
    assert_eq!(error(&patched(2, 0)), " a damaged fastText model: its dimension is 0");
    assert_eq!(error(&patched(2, 6)), " a damaged fastText model: its matrix is 88 x 5, not 88 x 6");
    assert_eq!(error(&patched(10, -1)), " a damaged fastText model: its number of buckets is -1");
    assert_eq!(error(&patched(10, i32::MAX)), " a damaged fastText model: its matrix is 88 x 5, not 2147483685 x 5");
    assert_eq!(error(&patched(16, i32::MAX)), " a damaged fastText model: 38 words and 0 labels in 2147483647 entries");
    let mut huge = patched(16, i32::MAX);
    huge[17 * 4..][..4].copy_from_slice(&i32::MAX.to_le_bytes());
    assert!(error(&huge).starts_with(" cut short or damaged"), "{}", error(&huge));
}

#[test]
fn a_cut_model_never_passes_for_a_whole_one() {
    let bytes = std::fs::read(fixture("model.bin")).unwrap();
    // The input matrix, 88 x 5, ends where the output's header (a flag and two sizes) and its 38 x 5 begin.
    let input_ends = bytes.len() - (1 + 16 + 38 * 5 * 4);
    let all = words(&fixture("model.bin"), usize::MAX).unwrap();
    let all: Vec<&str> = all.iter().map(String::as_str).chain(["rivers", "москве"]).collect();
    for cut in (4..input_ends - 88 * 5 * 4).step_by(7) {
        assert!(error(&bytes[..cut]).starts_with(" cut short or damaged"), "{cut}");
    }
    assert!(look(&bytes[..input_ends], &all).is_ok());
    let mut broken = bytes[..input_ends].to_vec();
    broken[input_ends - 50 * 20 - 20..].fill(0xff);
    assert!(look(&broken, &all).unwrap_err().to_string().contains("holds numbers that are not finite"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), model in any::<bool>(), at in 4_usize..600) {
        let mut whole = std::fs::read(fixture("model.bin")).unwrap();
        let held = bytes.len();
        whole[at..at + held].copy_from_slice(&bytes);
        let _ = look(if model { &whole } else { &bytes }, &["the", "rivers"]);
    }
}
