//! The dataset stage on good and bad input.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod common;
#[path = "common/parquet.rs"]
mod parquet_file;

use std::io::Write;
use std::path::Path;

use common::{Log, bytes, dataset, run_logged, shared};
use parquet_file::parquet;
use qapipe_engine::{ErrorClass, StageError, StageKind, Values};
use qapipe_stages::examples::{Examples, Info};
use qapipe_stages::kinds::Dataset;
use serde_json::{Value, json};

fn file(qas: &Value) -> Value {
    json!({ "version": "v2.0", "data": [{ "title": "T", "paragraphs": [{ "context": "Zoé saw 😀 the cat. The cat sat.", "qas": qas }] }] })
}

fn asked(id: &str, text: &str, start: i64) -> Value {
    json!({ "id": id, "question": "Who?", "answers": [{ "text": text, "answer_start": start }], "is_impossible": false })
}

fn none(id: &str) -> Value {
    json!({ "id": id, "question": "Why?", "answers": [], "is_impossible": true, "plausible_answers": [{ "text": "Zoé", "answer_start": 0 }] })
}

/// Runs the stage over one file as its train part.
fn load(content: &[u8], options: Value, folder: &Path) -> Result<Examples, StageError> {
    let path = folder.join("data.json");
    std::fs::write(&path, content).unwrap();
    let mut values = json!({ "train": "data.json" });
    values.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let out = folder.join("out");
    let _ = std::fs::remove_dir_all(&out);
    dataset(values, &[("train", &path)], &out).map(|data| Examples::open(&data.join("train.arrow")).unwrap())
}

fn refused(content: &Value, options: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = load(content.to_string().as_bytes(), options, folder.path()).unwrap_err();
    assert_eq!(error.class, ErrorClass::Failed);
    assert!(error.help.is_some(), "no help for: {error}");
    error.to_string()
}

#[test]
fn answers_count_code_points_and_plausible_ones_are_never_gold() {
    let folder = tempfile::tempdir().unwrap();
    let examples = load(file(&json!([asked("q1", "the cat", 10), none("q2")])).to_string().as_bytes(), json!({}), folder.path()).unwrap();
    assert_eq!(examples.golds(0).collect::<Vec<_>>(), ["the cat"]);
    assert_eq!(examples.starts(0), [10]);
    assert!(!examples.has_answer(1) && examples.impossible(1));
    assert_eq!((examples.contexts(), examples.len()), (1, 2));
    assert_eq!(Info::open(&folder.path().join("out/examples")).unwrap(), Info { name: "squad".to_owned(), version: "2.0".to_owned() });
}

#[test]
fn a_broken_shape_is_named_by_its_path() {
    let shape = |value: Value| refused(&value, json!({}));
    assert!(shape(json!([])).ends_with("data.json: the top level is a list, not an object"));
    assert!(shape(json!({ "version": "v2.0" })).ends_with("data.json: the top level has no `data`"));
    assert!(shape(json!({ "data": [{ "title": "T" }] })).ends_with("data[0] has no `paragraphs`"));
    assert!(
        shape(json!({ "data": [{ "paragraphs": [{ "context": 3, "qas": [] }] }] }))
            .ends_with("data[0].paragraphs[0].context is a number, not a text")
    );
    assert!(shape(file(&json!([none("q"), 7]))).ends_with("data[0].paragraphs[0].qas[1] is a number, not an object"));
    assert!(
        shape(file(&json!([{ "id": "q", "question": "?", "answers": [{ "text": "Zoé" }] }])))
            .ends_with("qas[0].answers[0] has no `answer_start`")
    );
    assert!(shape(file(&json!([asked("q", "Zoé", -1)]))).ends_with("qas[0].answers[0].answer_start is -1, not a whole number from 0"));
    let folder = tempfile::tempdir().unwrap();
    let text = |content: &[u8]| load(content, json!({}), folder.path()).unwrap_err().to_string();
    assert!(text(b"{\"data\": [").contains("data.json: not JSON: EOF while parsing a list at line 1 column 10"));
    assert!(text(b"\xff\xfe{").contains("byte 0 is not UTF-8"));
    assert!(text(b"").contains("not JSON"));
}

#[test]
fn an_answer_off_its_place_names_the_question() {
    let bad = file(&json!([asked("q1", "Zoé", 0), asked("q2", "the cat", 11)]));
    let message = refused(&bad, json!({}));
    assert!(
        message.ends_with(
            "data[0].paragraphs[0].qas[1]: question q2: the answer \"the cat\" is not at code point 11, where \"he cat.\" stands"
        ),
        "{message}"
    );
    let folder = tempfile::tempdir().unwrap();
    let dropped = load(bad.to_string().as_bytes(), json!({ "on_bad_answer": "drop" }), folder.path()).unwrap();
    assert_eq!((dropped.len(), dropped.id(0)), (1, "q1"));
    let moved = load(bad.to_string().as_bytes(), json!({ "on_bad_answer": "relocate" }), folder.path()).unwrap();
    assert_eq!(moved.starts(1), [10]);
    let strange = refused(&file(&json!([asked("q", "dog", 0)])), json!({ "on_bad_answer": "relocate" }));
    assert!(strange.ends_with("question q: the answer \"dog\" does not stand in the paragraph"), "{strange}");
    assert!(refused(&file(&json!([asked("q", "cat", 4_000_000_000)])), json!({})).contains("where \"\" stands"));
}

#[test]
fn contradictions_are_refused() {
    let both = json!([{ "id": "q", "question": "?", "answers": [{ "text": "Zoé", "answer_start": 0 }], "is_impossible": true }]);
    assert!(refused(&file(&both), json!({})).ends_with("question q: it is impossible, but has answers"));
    let neither = json!([{ "id": "q", "question": "?", "answers": [], "is_impossible": false }]);
    assert!(refused(&file(&neither), json!({})).ends_with("question q: it is not impossible, but has no answers"));
    assert!(refused(&file(&json!([none("q"), none("q")])), json!({})).ends_with("the train part has question q twice"));
    assert!(refused(&file(&json!([none("q")])), json!({ "version": "1.1" })).contains("question q of the train part has no answer"));
}

#[test]
fn what_a_file_is_its_content_says() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(&json!([asked("q1", "Zoé", 0), none("q2")])).to_string();
    let plain = load(text.as_bytes(), json!({}), folder.path()).unwrap();
    let first = bytes(&folder.path().join("out/examples"));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    load(&gz, json!({}), folder.path()).unwrap();
    assert_eq!(first, bytes(&folder.path().join("out/examples")));
    let cut = load(&gz[..gz.len() / 2], json!({}), folder.path()).unwrap_err();
    assert!(cut.to_string().contains("the gzip data is damaged or cut off"), "{cut}");
    let parquet = load(&parquet(), json!({}), folder.path()).unwrap();
    assert_eq!((plain.id(0), plain.context(0), plain.starts(0)), (parquet.id(0), parquet.context(0), parquet.starts(0)));
    assert!(parquet.impossible(1));
    let damaged = load(b"PAR1 but nothing else", json!({}), folder.path()).unwrap_err();
    assert!(damaged.to_string().contains("not a Parquet file that qapipe reads"), "{damaged}");
}

#[test]
fn a_folder_is_read_by_the_names_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("hub/plain_text");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("validation-00000-of-00001.parquet"), parquet()).unwrap();
    let source = folder.path().join("hub");
    let out = dataset(json!({ "source": "hub" }), &[("source", &source)], &folder.path().join("out")).unwrap();
    assert!(out.join("dev.arrow").exists() && !out.join("train.arrow").exists());
    std::fs::create_dir(source.join("other")).unwrap();
    std::fs::write(source.join("other/dev.parquet"), parquet()).unwrap();
    let error = dataset(json!({ "source": "hub" }), &[("source", &source)], &folder.path().join("out2")).unwrap_err();
    assert!(error.to_string().contains("dev files in two folders"), "{error}");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let error =
        dataset(json!({ "source": "empty" }), &[("source", &folder.path().join("empty"))], &folder.path().join("out3")).unwrap_err();
    assert_eq!(error.to_string(), "empty: no train and no dev or validation files");
}

#[test]
fn a_subset_is_chosen_by_ids_and_a_smaller_one_is_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Value> = (0..50).map(|at| none(&format!("q{at}"))).collect();
    let ids = |rows: &[Value], options: Value| -> Vec<String> {
        let examples = load(file(&json!(rows)).to_string().as_bytes(), options, folder.path()).unwrap();
        (0..examples.len()).map(|row| examples.id(row).to_owned()).collect()
    };
    let ten = ids(&rows, json!({ "limit_train": 10 }));
    assert_eq!(ten.len(), 10);
    let five = ids(&rows, json!({ "limit_train": 5 }));
    assert!(five.iter().all(|id| ten.contains(id)));
    assert_ne!(ten, ids(&rows, json!({ "limit_train": 10, "subset_seed": 1 })));
    let reversed: Vec<Value> = rows.iter().rev().cloned().collect();
    let mut back = ids(&reversed, json!({ "limit_train": 10 }));
    back.reverse();
    assert_eq!(ten, back);
}

#[test]
fn questions_in_both_parts_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.json");
    std::fs::write(&path, file(&json!([none("q")])).to_string()).unwrap();
    let log = Log::default();
    run_logged(
        &Dataset,
        json!({ "train": "both.json", "dev": "both.json" }),
        &[("train", &path), ("dev", &path)],
        &folder.path().join("out"),
        &log,
    )
    .unwrap();
    assert!(log.0.lock().unwrap().iter().any(|line| line.starts_with("warning: 1 questions of dev are in train")));
}

#[test]
fn the_sample_is_always_the_same_and_a_third_unanswerable() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| dataset(json!({ "source": "sample" }), &[], &folder.path().join(name)).unwrap();
    let data = load("one");
    assert_eq!(bytes(&data), bytes(&load("two")));
    assert_eq!(Info::open(&data).unwrap(), Info { name: "sample".to_owned(), version: "2.0".to_owned() });
    let open = |name: &str| Examples::open(&data.join(name)).unwrap();
    let (train, dev) = (open("train.arrow"), open("dev.arrow"));
    assert_eq!((train.len(), dev.len()), (1200, 240));
    for part in [&train, &dev] {
        let without = (0..part.len()).filter(|&row| !part.has_answer(row)).count();
        assert_eq!(3 * without, part.len());
        for row in 0..part.len() {
            let words = part.context(row).split_whitespace().count();
            assert!((25..=80).contains(&words), "{words} words");
            // The answer stands there once: no question has two places to point at.
            part.golds(row).for_each(|gold| assert_eq!(part.context(row).matches(gold).count(), 1, "{gold}: {}", part.context(row)));
        }
    }
    let contexts: std::collections::HashSet<&str> = (0..train.contexts()).map(|at| train.context_text(at)).collect();
    assert!((0..dev.contexts()).all(|at| !contexts.contains(dev.context_text(at))));
}

#[test]
fn one_file_is_not_taken_for_both_parts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.json"), "{\"version\": \"v2.0\", \"data\": []}").unwrap();
    let error = dataset(json!({ "source": "all.json" }), &[("source", &folder.path().join("all.json"))], &folder.path().join("out"));
    assert!(error.is_err_and(|error| error.message.contains("cannot be all parts") && error.help.is_some()));
}

#[test]
fn values_that_make_no_data_set_are_refused_before_running() {
    let check = |values: Value| Dataset.check(&Values(values.as_object().unwrap().clone()));
    assert_eq!(check(json!({})).unwrap_err().message, "no data is given");
    assert_eq!(check(json!({ "source": "sample", "dev": "x" })).unwrap_err().param, "dev");
    assert_eq!(check(json!({ "dev": "x", "limit_train": 3 })).unwrap_err().message, "there is no `train` to limit");
    assert!(check(json!({ "dev": "x", "limit_dev": 3 })).is_ok());
}

#[test]
fn the_whole_train_set_loads() {
    let Some(train) = shared("data/squad/train-v2.0.json.gz") else { return };
    let folder = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let data = dataset(json!({ "train": "x" }), &[("train", &train)], folder.path()).unwrap();
    eprintln!("loaded in {:.2} s", started.elapsed().as_secs_f64());
    let examples = Examples::open(&data.join("train.arrow")).unwrap();
    assert_eq!(examples.len(), 128_476);
    assert_eq!((0..examples.len()).filter(|&row| examples.has_answer(row)).count(), 87_599);
}

/// Articles with paragraphs of one fact each: `(title, [(who, where)])`. Each paragraph has an answerable and an unanswerable question.
fn towns(articles: &[(&str, &[(&str, &str)])]) -> Value {
    let paragraph = |title: &str, (who, town): &(&str, &str)| {
        let context = format!("{who} lived in {town} for years.");
        let start = context.find(town).unwrap();
        json!({ "context": context, "qas": [
            { "id": format!("{title}-{who}"), "question": format!("Where did {who} live?"), "answers": [{ "text": town, "answer_start": start }] },
            { "id": format!("{title}-{who}-why"), "question": "Why?", "answers": [], "is_impossible": true },
        ] })
    };
    let article = |(title, paragraphs): &(&str, &[(&str, &str)])| json!({ "title": title, "paragraphs": paragraphs.iter().map(|fact| paragraph(title, fact)).collect::<Vec<_>>() });
    json!({ "data": articles.iter().map(article).collect::<Vec<_>>() })
}

/// As many articles as letters, each with two towns of its own.
fn many() -> Value {
    let names: Vec<[String; 5]> = ('A'..='T')
        .map(|letter| {
            [format!("Title {letter}"), format!("Mr {letter}x"), format!("{letter}ville"), format!("Ms {letter}y"), format!("{letter}burg")]
        })
        .collect();
    let facts: Vec<[(&str, &str); 2]> = names.iter().map(|[_, a, b, c, d]| [(a.as_str(), b.as_str()), (c.as_str(), d.as_str())]).collect();
    let articles: Vec<(&str, &[(&str, &str)])> =
        names.iter().zip(&facts).map(|([title, ..], facts)| (title.as_str(), facts.as_slice())).collect();
    towns(&articles)
}

fn rows(content: &Value, options: Value) -> Examples {
    load(content.to_string().as_bytes(), options, tempfile::tempdir().unwrap().path()).unwrap()
}

fn ids(examples: &Examples) -> Vec<&str> {
    (0..examples.len()).map(|row| examples.id(row)).collect()
}

fn answerable(examples: &Examples) -> usize {
    (0..examples.len()).filter(|&row| examples.has_answer(row)).count()
}

/// Runs the stage over a file as its train part, and gives what it said.
fn logged(content: &Value, options: Value) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.json");
    std::fs::write(&path, content.to_string()).unwrap();
    let mut values = json!({ "train": "data.json" });
    values.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let log = Log::default();
    run_logged(&Dataset, values, &[("train", &path)], &folder.path().join("out"), &log).unwrap();
    log.0.into_inner().unwrap()
}

#[test]
fn negatives_ask_again_of_a_paragraph_of_another_article() {
    let examples = rows(&many(), json!({ "negatives_train": 1.0 }));
    assert_eq!((examples.len(), answerable(&examples)), (120, 40));
    for row in (0..examples.len()).filter(|&row| examples.id(row).ends_with("#negative")) {
        // It stands after the question that it is made from.
        let source = row - 1;
        assert_eq!(examples.id(row), format!("{}#negative", examples.id(source)));
        assert_eq!(examples.question(row), examples.question(source));
        assert!(examples.impossible(row) && !examples.has_answer(row) && examples.has_answer(source));
        assert_ne!(examples.title(row), examples.title(source));
        let gold = examples.golds(source).next().unwrap();
        assert!(!examples.context(row).contains(gold), "{gold}: {}", examples.context(row));
        // The title is the paragraph's.
        let owner = (0..examples.len()).find(|&other| examples.context(other) == examples.context(row) && examples.has_answer(other));
        assert_eq!(examples.title(row), examples.title(owner.unwrap()));
    }
    assert_eq!(ids(&examples).iter().filter(|id| id.ends_with("#negative")).count(), 40);
    let again = rows(&many(), json!({ "negatives_train": 1.0 }));
    let other = rows(&many(), json!({ "negatives_train": 1.0, "subset_seed": 1 }));
    let contexts = |examples: &Examples| (0..examples.len()).map(|row| examples.context(row).to_owned()).collect::<Vec<_>>();
    assert_eq!(contexts(&examples), contexts(&again));
    assert_ne!(contexts(&examples), contexts(&other));
}

#[test]
fn a_share_of_the_questions_gets_negatives_and_a_smaller_one_is_part_of_it() {
    let marked = |share: f64| -> Vec<String> {
        let examples = rows(&many(), json!({ "negatives_train": share }));
        ids(&examples).into_iter().filter(|id| id.ends_with("#negative")).map(str::to_owned).collect()
    };
    let (quarter, half) = (marked(0.25), marked(0.5));
    assert_eq!((quarter.len(), half.len(), marked(0.0).len()), (10, 20, 0));
    assert!(quarter.iter().all(|id| half.contains(id)));
}

#[test]
fn no_negative_holds_the_answer_in_any_form() {
    // The other article says Rome in other ways: in capitals, within a word, with an article, with points in it. One paragraph does not.
    let content = towns(&[
        ("One", &[("Ann", "the U.S. Rome")]),
        (
            "Two",
            &[("Ben", "THE U.S. ROME"), ("Cid", "a us rome"), ("Dan", "Old U.S.  Rome, Italy"), ("Eve", "Paris"), ("Flo", "nu.s. rome")],
        ),
    ]);
    for seed in 0..20 {
        let examples = rows(&content, json!({ "negatives_train": 1.0, "subset_seed": seed }));
        let row = ids(&examples).iter().position(|id| *id == "One-Ann#negative").unwrap();
        assert_eq!(examples.context(row), "Eve lived in Paris for years.", "seed {seed}");
    }
}

#[test]
fn every_gold_answer_counts() {
    let mut content = towns(&[("One", &[("Ann", "Rome")]), ("Two", &[("Ben", "Oslo"), ("Cid", "Bonn")])]);
    let answers =
        json!([{ "text": "Rome", "answer_start": 13 }, { "text": "Ann", "answer_start": 0 }, { "text": "in", "answer_start": 10 }]);
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"] = answers;
    let log = logged(&content, json!({ "negatives_train": 1.0 }));
    let warning = "warning: 1 answerable questions of train got no negative: every other paragraph holds one of their answers";
    assert!(log.contains(&"train: 2 synthetic negatives".to_owned()) && log.contains(&warning.to_owned()), "{log:?}");
}

#[test]
fn a_paragraph_of_the_same_article_is_the_last_resort() {
    let content = towns(&[("One", &[("Ann", "Rome"), ("Ben", "Oslo")]), ("Two", &[("Cid", "New Rome")])]);
    let examples = rows(&content, json!({ "negatives_train": 1.0 }));
    let context = |id: &str| examples.context(ids(&examples).iter().position(|other| *other == id).unwrap());
    assert_eq!(context("One-Ann#negative"), "Ben lived in Oslo for years.");
    assert_eq!(context("One-Ben#negative"), "Cid lived in New Rome for years.");
}

#[test]
fn negatives_make_a_data_set_of_version_2() {
    let mut content = towns(&[("One", &[("Ann", "Rome")]), ("Two", &[("Ben", "Oslo")])]);
    content["version"] = json!("1.1");
    for article in content["data"].as_array_mut().unwrap() {
        article["paragraphs"][0]["qas"].as_array_mut().unwrap().truncate(1);
    }
    let version = |options: Value| {
        let folder = tempfile::tempdir().unwrap();
        load(content.to_string().as_bytes(), options, folder.path()).unwrap();
        Info::open(&folder.path().join("out/examples")).unwrap().version
    };
    assert_eq!(version(json!({})), "1.1");
    assert_eq!(version(json!({ "negatives_train": 1.0 })), "2.0");
    assert_eq!(answerable(&rows(&content, json!({ "negatives_train": 1.0, "balance": "train" }))), 2);
    let message = refused(&content, json!({ "balance": "train" }));
    assert_eq!(message, "the train part cannot be balanced: none of its 2 questions is unanswerable");
    content["data"][0]["paragraphs"][0]["qas"][0]["id"] = json!("Two-Ben#negative");
    assert!(refused(&content, json!({ "negatives_train": 1.0 })).contains("question Two-Ben#negative twice"));
}

#[test]
fn a_balanced_part_has_as_many_of_either_kind() {
    let qas: Vec<Value> = (0..30).map(|at| asked(&format!("a{at}"), "Zoé", 0)).chain((0..12).map(|at| none(&format!("n{at}")))).collect();
    let content = file(&json!(qas));
    let examples = rows(&content, json!({ "balance": "train" }));
    assert_eq!((examples.len(), answerable(&examples)), (24, 12));
    assert_ne!(ids(&examples), ids(&rows(&content, json!({ "balance": "train", "subset_seed": 5 }))));
    // All of the rarer kind stay, and what is taken of the other is in file order.
    assert_eq!(ids(&examples)[12..], (0..12).map(|at| format!("n{at}")).collect::<Vec<_>>());
    let numbers: Vec<u32> = ids(&examples)[..12].iter().map(|id| id[1..].parse().unwrap()).collect();
    assert!(numbers.is_sorted());
    // A count comes after, and takes of either kind alike.
    for limit in [1_usize, 6, 7] {
        let few = rows(&content, json!({ "balance": "train", "limit_train": limit }));
        assert_eq!((few.len(), answerable(&few)), (limit, limit.div_ceil(2)));
        assert!(ids(&few).iter().all(|id| ids(&examples).contains(id)));
    }
    // Dev only where it is asked for.
    assert_eq!(rows(&content, json!({ "balance": "none" })).len(), 42);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.json");
    std::fs::write(&path, content.to_string()).unwrap();
    let dev = |balance: &str| {
        let inputs = [("train", path.as_path()), ("dev", path.as_path())];
        let out = dataset(json!({ "train": "x", "dev": "x", "balance": balance }), &inputs, &folder.path().join(balance)).unwrap();
        [Examples::open(&out.join("train.arrow")).unwrap().len(), Examples::open(&out.join("dev.arrow")).unwrap().len()]
    };
    assert_eq!([dev("none"), dev("train"), dev("dev"), dev("both")], [[42, 42], [24, 42], [42, 24], [24, 24]]);
}

#[test]
fn articles_are_taken_by_title_and_by_number() {
    let titles = |options: Value| -> Vec<String> {
        let examples = rows(&many(), options);
        let mut found: Vec<String> = (0..examples.len()).map(|row| examples.title(row).to_owned()).collect();
        assert_eq!(found.len() % 4, 0, "whole articles");
        found.dedup();
        found
    };
    assert_eq!(titles(json!({ "articles_train": ["Title C", "Title A"] })), ["Title A", "Title C"]);
    let (three, five) = (titles(json!({ "limit_articles_train": 3 })), titles(json!({ "limit_articles_train": 5 })));
    assert_eq!((three.len(), five.len()), (3, 5));
    assert!(three.iter().all(|title| five.contains(title)) && three.is_sorted());
    assert_ne!(five, titles(json!({ "limit_articles_train": 5, "subset_seed": 1 })));
    let both = titles(json!({ "articles_train": ["Title C", "Title A", "Title B"], "limit_articles_train": 2 }));
    assert!(both.len() == 2 && both.iter().all(|title| ["Title A", "Title B", "Title C"].contains(&title.as_str())));
    let message = refused(&many(), json!({ "articles_train": ["Title A", "Title Z"] }));
    assert_eq!(message, "the train part has no article \"Title Z\"");
}

#[test]
fn the_order_is_articles_negatives_balance_count() {
    let options = json!({ "limit_articles_train": 4, "negatives_train": 1.0, "balance": "train", "limit_train": 10 });
    let examples = rows(&many(), options);
    // 4 articles: 8 answerable questions, 8 that are not, 8 negatives; balanced 8 and 8; 5 of either kind.
    assert_eq!((examples.len(), answerable(&examples), examples.titles()), (10, 5, 4));
    let four = rows(&many(), json!({ "limit_articles_train": 4, "negatives_train": 1.0 }));
    assert_eq!((four.len(), four.titles()), (24, 4));
    assert!(ids(&examples).iter().all(|id| ids(&four).contains(id)));
    assert!(ids(&examples).iter().any(|id| id.ends_with("#negative")));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.json");
    std::fs::write(&path, many().to_string()).unwrap();
    let options = json!({ "train": "x", "limit_articles_train": 15, "negatives_train": 0.7, "balance": "train", "limit_train": 30 });
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let out = folder.path().join(threads.to_string());
        bytes(&pool.install(|| dataset(options.clone(), &[("train", &path)], &out)).unwrap())
    };
    let one = with(1);
    assert!([2, 5, 16].into_iter().all(|threads| with(threads) == one));
}

#[test]
fn selections_that_make_no_sense_are_refused_before_running() {
    let check = |values: Value| Dataset.check(&Values(values.as_object().unwrap().clone())).map_err(|e| (e.param, e.message));
    let refused = |values: Value, param: &str, message: &str| {
        assert_eq!(check(values), Err((param.to_owned(), message.to_owned())));
    };
    for name in ["articles_dev", "limit_articles_dev", "limit_dev"] {
        refused(json!({ "train": "x", name: 1 }), name, "there is no `dev` to limit");
    }
    refused(json!({ "train": "x", "negatives_dev": 0.5 }), "negatives_dev", "there is no `dev` to add to");
    refused(json!({ "train": "x", "balance": "both" }), "balance", "there is no `dev` to balance");
    refused(json!({ "dev": "x", "balance": "train" }), "balance", "there is no `train` to balance");
    refused(json!({ "train": "x", "articles_train": [] }), "articles_train", "no article is named");
    let unanswerable = "version 1.1 knows no unanswerable questions";
    refused(json!({ "train": "x", "version": "1.1", "negatives_train": 1.0 }), "negatives_train", unanswerable);
    refused(json!({ "source": "sample", "version": "1.1", "balance": "dev" }), "balance", unanswerable);
    let fine = json!({ "train": "x", "version": "1.1", "negatives_train": 0.0, "negatives_dev": 0.0, "balance": "none" });
    assert_eq!(check(fine), Ok(()));
    assert_eq!(check(json!({ "source": "sample", "negatives_dev": 1.0, "balance": "both", "limit_articles_train": 3 })), Ok(()));
}

#[test]
fn what_is_left_out_changes_no_fingerprint() {
    use qapipe_engine::{Kinds, Pipeline};
    let parsed = |more: &str| {
        let text = format!("[stages.a]\nkind = \"dataset\"\nsource = \"sample\"\n{more}");
        let pipeline = Pipeline::parse(&text, Path::new("p.toml"), &Kinds::new(qapipe_stages::KINDS), &[]).unwrap();
        pipeline.stage("a").unwrap().explicit.clone()
    };
    assert_eq!(parsed(""), parsed("balance = \"none\"\nnegatives_train = 0.0\nnegatives_dev = 0\n"));
    assert_ne!(parsed(""), parsed("balance = \"train\"\n"));
}

#[test]
fn negatives_of_the_whole_train_set_never_hold_their_answers() {
    let Some(train) = shared("data/squad/train-v2.0.json.gz") else { return };
    let folder = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let data = dataset(json!({ "train": "x", "negatives_train": 1.0, "balance": "train" }), &[("train", &train)], folder.path()).unwrap();
    eprintln!("made in {:.2} s", started.elapsed().as_secs_f64());
    let examples = Examples::open(&data.join("train.arrow")).unwrap();
    assert_eq!(2 * answerable(&examples), examples.len());
    let golds: std::collections::HashMap<&str, Vec<String>> =
        (0..examples.len()).map(|row| (examples.id(row), examples.golds(row).map(qapipe_stages::metric::normalize).collect())).collect();
    let contexts: Vec<String> = (0..examples.contexts()).map(|at| qapipe_stages::metric::normalize(examples.context_text(at))).collect();
    for row in 0..examples.len() {
        let Some(golds) = examples.id(row).strip_suffix("#negative").and_then(|id| golds.get(id)) else { continue };
        let context = &contexts[examples.context_index(row) as usize];
        assert!(golds.iter().all(|gold| gold.is_empty() || !context.contains(gold.as_str())), "{}", examples.id(row));
    }
}
