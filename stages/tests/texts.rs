//! Texts for models that write: what stands in them, how paragraphs are cut, what is to be answered, and examples in prompts.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;
use std::sync::Arc;

use qapipe_stages::examples::{self, Answer, Examples, Part, Question};
use qapipe_stages::features::{Info, InfoForm};
use qapipe_stages::form::Form;
use qapipe_stages::prompts::{Prompting, shots};
use qapipe_stages::sample;
use qapipe_stages::template::Template;
use qapipe_stages::text_features::Texts;
use qapipe_stages::texts::{TextMaker, Wording};
use qapipe_stages::tokenizer::{TextTokenizer, learn_bytes};
use qapipe_stages::windows::Shape;
use qapipe_stages::{KINDS, text_features};
use serde_json::json;

use common::run;

fn sample_of(part: Part, folder: &Path) -> Examples {
    let path = folder.join(part.file());
    examples::write(&path, &sample::questions(part).rows).unwrap();
    Examples::open(&path).unwrap()
}

/// A byte-level tokenizer of the sample with T5's special tokens.
fn tokenizer(form: Form) -> TextTokenizer {
    let folder = tempfile::tempdir().unwrap();
    let train = sample_of(Part::Train, folder.path());
    TextTokenizer::new(learn_bytes(&train, 800, &["<pad>", "</s>", "<unk>"], Some("</s>")).unwrap(), form, 1).unwrap()
}

fn wording(form: Form) -> Wording {
    Wording { template: Template::parse(form.template()).unwrap(), no_answer: form.no_answer().to_owned(), max_target: 32 }
}

fn question(context: &str, answer: Option<&str>) -> Question {
    let start = |answer: &str| u32::try_from(context[..context.find(answer).unwrap()].chars().count()).unwrap();
    Question {
        id: "q".into(),
        title: Arc::from("t"),
        context: Arc::from(context),
        question: "  Where is Élan?".into(),
        answers: answer.map(|answer| Answer { text: answer.into(), start: start(answer) }).into_iter().collect(),
        impossible: answer.is_none(),
    }
}

/// Sources and targets of some questions, as text.
fn made(form: Form, questions: &[Question], max_length: u32, stride: u32) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.arrow");
    examples::write(&path, questions).unwrap();
    let examples = Examples::open(&path).unwrap();
    let (tokenizer, wording) = (tokenizer(form), wording(form));
    let maker = TextMaker::new(&tokenizer, &wording, Shape { max_length, stride, max_query_length: None }).unwrap();
    let pairs = maker.make(&examples, &|_, _| Ok(())).unwrap();
    text_features::write(folder.path(), Part::Dev, pairs).unwrap();
    std::fs::copy(&path, folder.path().join("dev.examples.arrow")).unwrap();
    let texts = Texts::open(folder.path(), Part::Dev).unwrap();
    (0..texts.len()).map(|row| (tokenizer.text(texts.source(row)).unwrap(), tokenizer.text(texts.target(row)).unwrap())).collect()
}

#[test]
fn a_seq2seq_text_is_worded_as_usual_and_ends_with_the_end() {
    let rows = made(Form::Seq2Seq, &[question("It lies in Ösel.", Some("Ösel"))], 200, 10);
    assert_eq!(rows, [("question: Where is Élan? context: It lies in Ösel.".to_owned(), "Ösel".to_owned())]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.arrow");
    examples::write(&path, &[question("It lies in Ösel.", None)]).unwrap();
    let (tokenizer, wording) = (tokenizer(Form::Seq2Seq), wording(Form::Seq2Seq));
    let maker = TextMaker::new(&tokenizer, &wording, Shape { max_length: 200, stride: 10, max_query_length: None }).unwrap();
    let pairs = maker.make(&Examples::open(&path).unwrap(), &|_, _| Ok(())).unwrap();
    assert_eq!(pairs.target.items, [1], "no answer is the end token alone");
    assert_eq!(pairs.source.items.last(), Some(&1));
}

#[test]
fn a_causal_text_goes_on_with_a_space() {
    let rows = made(
        Form::Causal,
        &[question("It lies in Ösel.", Some("Ösel")), Question { id: "r".into(), ..question("Nothing.", None) }],
        200,
        10,
    );
    assert_eq!(rows[0], ("It lies in Ösel.\n\nQ: Where is Élan?\nA:".to_owned(), " Ösel".to_owned()));
    assert_eq!(rows[1].1, " I don't know.");
}

#[test]
fn every_window_repeats_the_question_and_only_those_with_the_answer_have_it() {
    let words: Vec<String> = (0..120).map(|number| format!("w{number}")).collect();
    for form in [Form::Seq2Seq, Form::Causal] {
        let rows = made(form, &[question(&words.join(" "), Some("w60 w61"))], 120, 30);
        assert!(rows.len() > 3);
        for (source, target) in &rows {
            assert!(source.contains("Where is Élan?"));
            let holds = source.contains("w60 w61");
            assert_eq!(target.contains("w60 w61"), holds, "{source} -> {target}");
        }
        assert!(rows.iter().any(|(_, target)| target.contains("w60 w61")));
        for word in &words {
            assert!(rows.iter().any(|(source, _)| source.contains(word.as_str())), "{word} is in no window");
        }
    }
}

#[test]
fn a_question_without_room_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.arrow");
    examples::write(&path, &[question(&"long ".repeat(100), None)]).unwrap();
    let (tokenizer, wording) = (tokenizer(Form::Seq2Seq), wording(Form::Seq2Seq));
    let maker = TextMaker::new(&tokenizer, &wording, Shape { max_length: 30, stride: 25, max_query_length: None }).unwrap();
    let error = maker.make(&Examples::open(&path).unwrap(), &|_, _| Ok(())).unwrap_err().to_string();
    assert!(error.starts_with("question q: ") && error.contains("overlap of 25"), "{error}");
}

/// What comes of one question under a template, with so many tokens.
fn under(template: &str, form: Form, question: &Question, max_length: u32) -> Result<Vec<usize>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.arrow");
    examples::write(&path, std::slice::from_ref(question)).unwrap();
    let tokenizer = tokenizer(form);
    let wording = Wording { template: Template::parse(template).unwrap(), ..wording(form) };
    let maker = TextMaker::new(&tokenizer, &wording, Shape { max_length, stride: 4, max_query_length: None }).unwrap();
    let pairs = maker.make(&Examples::open(&path).unwrap(), &|_, _| Ok(())).map_err(|error| error.to_string())?;
    Ok(pairs.source.lengths.iter().map(|&length| length as usize).collect())
}

#[test]
fn no_text_is_longer_than_it_may_be() {
    let long = Question { question: "long ".repeat(50), ..question("Nothing.", None) };
    for (template, context) in [("Q: {question}\nA:", "Nothing."), ("{context}\nQ: {question}\nA:", "")] {
        let long = Question { context: Arc::from(context), ..long.clone() };
        let error = under(template, Form::Causal, &long, 40).unwrap_err();
        assert!(error.starts_with("question q: its text has ") && error.contains("max_length is 40"), "{error}");
    }
    let words: Vec<String> = (0..200).map(|number| format!("東京{number} 🏔️")).collect();
    for form in [Form::Seq2Seq, Form::Causal] {
        let lengths = under(form.template(), form, &question(&words.join(" "), None), 64).unwrap();
        assert!(lengths.len() > 10 && lengths.iter().all(|&length| length <= 64), "{lengths:?}");
    }
}

#[test]
fn empty_questions_and_paragraphs_are_texts_like_others_but_a_text_of_nothing_is_named() {
    let empty = Question { question: " ".into(), ..question("", None) };
    for form in [Form::Seq2Seq, Form::Causal] {
        assert_eq!(under(form.template(), form, &empty, 64).unwrap().len(), 1);
    }
    let error = under("{question}", Form::Causal, &empty, 64).unwrap_err();
    assert_eq!(error, "question q: its text is empty");
    assert_eq!(under("{question}", Form::Seq2Seq, &empty, 64).unwrap(), [1], "the end token alone");
}

#[test]
fn long_answers_are_cut_and_end_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.arrow");
    let long = "word ".repeat(60);
    examples::write(&path, &[question(&long, Some(long.trim()))]).unwrap();
    let (tokenizer, wording) = (tokenizer(Form::Seq2Seq), Wording { max_target: 7, ..wording(Form::Seq2Seq) });
    let maker = TextMaker::new(&tokenizer, &wording, Shape { max_length: 900, stride: 10, max_query_length: None }).unwrap();
    let pairs = maker.make(&Examples::open(&path).unwrap(), &|_, _| Ok(())).unwrap();
    assert_eq!((pairs.target.items.len(), pairs.target.items[6]), (7, 1));
}

#[test]
fn the_form_of_a_model_is_told_by_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let form = |config: &str| {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        Form::of(folder.path()).unwrap()
    };
    assert_eq!(form(r#"{"model_type": "t5"}"#), Form::Seq2Seq);
    assert_eq!(form(r#"{"model_type": "mamba"}"#), Form::Causal);
    assert_eq!(form(r#"{"d_model": 768, "n_layer": 24, "ssm_cfg": {}}"#), Form::Causal, "the authors' own form");
    assert_eq!(form(r#"{"d_model": 768, "n_layer": 24}"#), Form::Causal);
    assert_eq!(form(r#"{"model_type": "bert"}"#), Form::Spans);
}

#[test]
fn byte_level_pieces_give_every_text_back() {
    let tokenizer = tokenizer(Form::Causal);
    for text in ["plain", " leading", "Ösel – 東京 🏔️", "two\n\nlines ", "tab\there"] {
        assert_eq!(tokenizer.text(&tokenizer.ids(text).unwrap()).unwrap(), text);
    }
    let ends = tokenizer.ends(&["\n".to_owned()]).unwrap();
    assert!(ends.len() > 1 && ends[1..].iter().all(|&id| tokenizer.text(&[id]).unwrap().contains('\n')));
}

#[test]
fn the_model_decides_what_tokenize_makes() {
    let kind = KINDS.iter().copied().find(|kind| kind.name() == "tokenize").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (folder.path().join("data"), folder.path().join("model"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&model).unwrap();
    let train = sample_of(Part::Train, &data);
    examples::Info { name: "sample".into(), version: "2.0".into() }.write(&data).unwrap();
    let learnt = learn_bytes(&train, 600, &["<pad>", "</s>", "<unk>"], Some("</s>")).unwrap();
    std::fs::write(model.join("tokenizer.json"), learnt.to_string(false).unwrap()).unwrap();
    std::fs::write(model.join("config.json"), r#"{"model_type": "t5", "eos_token_id": 1}"#).unwrap();
    run(kind, json!({}), &[("dataset", &data), ("model", &model)], &folder.path().join("out")).unwrap();
    let info = Info::open(&folder.path().join("out/features")).unwrap();
    let wanted = InfoForm::Texts { form: Form::Seq2Seq, end_id: 1, no_answer: vec![1], no_answer_text: String::new() };
    assert_eq!((info.form, info.vocab_size), (wanted, 600));
    std::fs::write(model.join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
    let worded = json!({"template": "{question}"});
    let error = run(kind, worded, &[("dataset", &data), ("model", &model)], &folder.path().join("again")).unwrap_err();
    assert!(error.message.contains("template: the model points at answers"), "{error:?}");
    std::fs::write(model.join("config.json"), r#"{"model_type": "t5", "eos_token_id": 9999}"#).unwrap();
    let error = run(kind, json!({}), &[("dataset", &data), ("model", &model)], &folder.path().join("third")).unwrap_err();
    assert!(error.message.contains("no token 9999"), "{error:?}");
}

#[test]
fn examples_for_prompts_are_balanced_and_of_other_articles() {
    let folder = tempfile::tempdir().unwrap();
    let (train, dev) = (sample_of(Part::Train, folder.path()), sample_of(Part::Dev, folder.path()));
    for count in [0, 1, 4, 5] {
        let chosen = shots(&train, &dev, count, 13, &|_| Ok(true)).unwrap();
        let answered = chosen.iter().filter(|&&row| train.has_answer(row)).count();
        assert_eq!((chosen.len(), answered), (count, count - count / 2));
        let articles: std::collections::HashSet<&str> = chosen.iter().map(|&row| train.title(row)).collect();
        assert_eq!(articles.len(), count);
    }
    assert_eq!(shots(&train, &dev, 4, 13, &|_| Ok(true)).unwrap(), shots(&train, &dev, 4, 13, &|_| Ok(true)).unwrap());
    assert_ne!(shots(&train, &dev, 4, 13, &|_| Ok(true)).unwrap(), shots(&train, &dev, 4, 14, &|_| Ok(true)).unwrap());
    assert!(shots(&train, &train, 2, 13, &|_| Ok(true)).is_err(), "paragraphs that are asked about give no examples");
    let error = shots(&train, &dev, 3, 13, &|_| Ok(false)).unwrap_err().to_string();
    assert!(error.contains("0 examples with an answer and 0 without") && error.contains("2 and 1 are wanted"), "{error}");
}

/// Questions of some articles, one each: with an answer or without.
fn articles(folder: &Path, rows: &[(&str, bool)]) -> Examples {
    let row = |(number, &(title, answered)): (usize, &(&str, bool))| Question {
        id: format!("{title}-{number}"),
        title: Arc::from(title),
        ..question(&format!("Paragraph {number} of Ösel."), answered.then_some("Ösel"))
    };
    let path = folder.join(format!("{}.arrow", rows.len()));
    examples::write(&path, &rows.iter().enumerate().map(row).collect::<Vec<_>>()).unwrap();
    Examples::open(&path).unwrap()
}

#[test]
fn examples_for_prompts_come_from_other_articles_than_are_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let asked = sample_of(Part::Dev, folder.path());
    let known = asked.title(0);
    let train = articles(folder.path(), &[(known, true), ("a", true), (known, false), ("b", false), (known, true)]);
    let chosen = shots(&train, &asked, 2, 13, &|_| Ok(true)).unwrap();
    assert!(chosen.iter().all(|&row| train.title(row) != known), "{chosen:?}");
    assert!(shots(&train, &asked, 3, 13, &|_| Ok(true)).is_err());
    // A train part of one article has no others: there the paragraphs count.
    let single = articles(folder.path(), &[(known, true), (known, false)]);
    assert_eq!(shots(&single, &asked, 2, 13, &|_| Ok(true)).unwrap().len(), 2);
}

#[test]
fn examples_for_prompts_make_do_with_one_sort_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let asked = sample_of(Part::Dev, folder.path());
    let answered = articles(folder.path(), &[("a", true), ("b", true), ("c", true)]);
    assert_eq!(shots(&answered, &asked, 3, 13, &|_| Ok(true)).unwrap().len(), 3);
    let refused = articles(folder.path(), &[("a", false), ("b", false)]);
    assert_eq!(shots(&refused, &asked, 0, 13, &|_| Ok(true)).unwrap(), Vec::<usize>::new());
    let error = shots(&refused, &asked, 2, 13, &|_| Ok(true)).unwrap_err().to_string();
    assert!(error.contains("0 examples with an answer and 1 without"), "{error}");
}

#[test]
fn a_prompt_is_its_header_the_examples_and_the_question() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.arrow");
    examples::write(&path, &[question("It lies in Ösel.", Some("Ösel")), Question { id: "r".into(), ..question("Empty.", None) }]).unwrap();
    let examples = Examples::open(&path).unwrap();
    let prompting = Prompting {
        header: "Answer.".into(),
        template: Template::parse("{context}\nQ: {question}\nA:").unwrap(),
        separator: "\n\n".into(),
        no_answer: "I don't know.".into(),
    };
    let shots = [prompting.shot(&examples, 0), prompting.shot(&examples, 1)];
    let whole = prompting.prompt(&shots, &prompting.question(&examples, 0));
    let wanted = "Answer.\n\nIt lies in Ösel.\nQ: Where is Élan?\nA: Ösel\n\nEmpty.\nQ: Where is Élan?\nA: I don't know.\n\nIt lies in Ösel.\nQ: Where is Élan?\nA:";
    assert_eq!(whole, wanted);
}
