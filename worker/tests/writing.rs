//! Models that write: training, answers, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use common::{Lab, TINY_BERT, TINY_MAMBA, TINY_T5, evaluate, fine_tune, tiny_writer};
use qapipe_stages::tables::{MetricsRow, PredictionRow, read_table};

fn metrics(lab: &Lab, stage: &str) -> MetricsRow {
    let rows: Vec<MetricsRow> = read_table(lab.path(&format!("{stage}.metrics"))).unwrap();
    rows.into_iter().next().unwrap()
}

#[test]
fn a_tiny_t5_learns_to_answer() {
    let mut lab = Lab::new();
    let train = "epochs = 20, lr = 3e-3, batch = 16, warmup = 0.05, weight_decay = 0.0";
    let text = tiny_writer(TINY_T5, "") + &fine_tune("tuned", train, "") + &evaluate("scores", "tuned", "latency = 3");
    lab.run(&text).unwrap();
    let row = metrics(&lab, "scores");
    assert!(row.exact.unwrap() > row.abstain_exact.unwrap() + 8.0, "{row:?}");
    assert!(row.has_answer_exact.unwrap() > 20.0 && row.best_f1.unwrap() >= row.f1.unwrap(), "{row:?}");
    assert!(row.flops.unwrap() > 1e6 && row.latency_p50_ms.unwrap() > 0.0);
}

/// A tiny T5, as it comes, asked by prompts.
fn asking(limits: &str, prompt: &str) -> String {
    tiny_writer(TINY_T5, limits)
        + &format!("[stages.asked]\nkind = \"prompt\"\nmodel = \"@base\"\ndata = \"@sample\"\nmax_answer_length = 4\n{prompt}\n")
        + "[stages.scores]\nkind = \"evaluate\"\npredictions = \"@asked\"\ndata = \"@sample\"\n"
}

fn line(lab: &Lab, word: &str) -> String {
    lab.ear.log.lock().unwrap().iter().rev().find(|line| line.contains(word)).cloned().unwrap_or_default()
}

#[test]
fn prompts_give_an_answer_a_question_and_every_answer_is_kept() {
    let mut lab = Lab::new();
    lab.run(&asking("limit_dev = 20", "shots = 2")).unwrap();
    let first: Vec<PredictionRow> = read_table(lab.path("asked.predictions")).unwrap();
    assert_eq!(first.len(), 20);
    assert!(line(&lab, "answered before").starts_with("20 questions, 0 of them"));
    assert_eq!(metrics(&lab, "scores").total, Some(20));
    assert!(lab.ear.measures.lock().unwrap().contains_key("throughput"));
    // Ten more questions cost ten questions; the examples, and so the prompts, are the same.
    let again = asking("limit_dev = 30", "shots = 2").replace("[stages.asked]", "[stages.more]").replace("@asked", "@more");
    lab.outputs.remove("sample.examples");
    lab.run(&again).unwrap();
    assert!(line(&lab, "answered before").starts_with("30 questions, 20 of them"));
    let more: Vec<PredictionRow> = read_table(lab.path("more.predictions")).unwrap();
    let of = |id: &str| more.iter().find(|row| row.id == id).cloned();
    assert!(first.iter().all(|row| of(&row.id).as_ref() == Some(row)));
    // Other words are other prompts.
    lab.run(&again.replace("[stages.more]", "[stages.other]").replace("@more", "@other").replace("shots = 2", "shots = 0")).unwrap();
    assert!(line(&lab, "answered before").starts_with("30 questions, 0 of them"));
}

#[test]
fn an_asking_that_was_cut_off_goes_on_where_it_was() {
    let mut lab = Lab::new();
    let text = asking("limit_dev = 12", "shots = 0\nhints = { batch_tokens = 400 }");
    lab.run(&tiny_writer(TINY_T5, "limit_dev = 12")).unwrap();
    lab.ear.cancel_after = Some(1);
    assert!(lab.run(&text).is_err());
    let known = lab.ear.progress.lock().unwrap().last().unwrap().0;
    assert!((1..12).contains(&known), "{known}");
    (lab.ear.cancel_after, lab.ear.cancel) = (None, false.into());
    lab.run(&text).unwrap();
    assert_eq!(line(&lab, "answered before"), format!("12 questions, {known} of them answered before"));
    // The answers are those of an asking that was not cut off.
    let mut whole = Lab::new();
    whole.run(&text).unwrap();
    let rows = |lab: &Lab| read_table::<PredictionRow>(lab.path("asked.predictions")).unwrap();
    assert!(rows(&lab).iter().zip(rows(&whole)).all(|(one, other)| one.prediction == other.prediction && one.id == other.id));
}

/// Windows in small batches, an evaluation of them, and what its answers were.
const BATCHES: &str = "latency = 0\nhints = { batch_tokens = 500 }";

fn answers(lab: &Lab, stage: &str) -> Vec<(String, Option<f64>, Option<f64>)> {
    let rows: Vec<PredictionRow> = read_table(lab.path(&format!("{stage}.predictions"))).unwrap();
    rows.into_iter().map(|row| (row.id, row.score, row.na_score)).collect()
}

#[test]
fn an_evaluation_that_was_cut_off_goes_on_where_it_was() {
    for (strict, config) in [(false, TINY_T5), (true, TINY_T5), (true, TINY_BERT)] {
        let begun = tiny_writer(config, "limit_train = 32\nlimit_dev = 30") + &fine_tune("tuned", "steps = 1, batch = 8", "");
        let text = begun.clone() + &evaluate("scores", "tuned", BATCHES);
        let mut lab = Lab { strict, ..Lab::new() };
        lab.run(&begun).unwrap();
        lab.ear.progress.lock().unwrap().clear();
        lab.ear.cancel_after = Some(1);
        assert!(lab.run(&text).is_err());
        let (done, total, _) = lab.ear.progress.lock().unwrap().last().cloned().unwrap();
        assert!(done > 0 && done < total, "{done} of {total}");
        (lab.ear.cancel_after, lab.ear.cancel) = (None, false.into());
        lab.run(&text).unwrap();
        let told = line(&lab, "answered before");
        assert!(told.starts_with("30 questions, ") && !told.contains(" 0 of them"), "{told}");
        let row = metrics(&lab, "scores");
        assert!(
            row.exact.is_some() && row.evaluate_seconds.is_none() && row.throughput.is_none(),
            "what was not measured is null: {row:?}"
        );
        let mut whole = Lab { strict, ..Lab::new() };
        whole.run(&text).unwrap();
        assert!(metrics(&whole, "scores").throughput.is_some());
        assert_eq!(answers(&lab, "scores"), answers(&whole, "scores"), "bit for bit: {strict}");
    }
}

#[test]
fn an_evaluation_of_more_questions_asks_these_alone() {
    let begun = tiny_writer(TINY_BERT, "limit_train = 32\nlimit_dev = 20") + &fine_tune("tuned", "steps = 1, batch = 8", "");
    let mut lab = Lab::new();
    lab.run(&(begun.clone() + &evaluate("few", "tuned", BATCHES))).unwrap();
    assert_eq!(line(&lab, "answered before"), "20 questions, 0 of them answered before");
    let more = begun.replace("limit_dev = 20", "limit_dev = 30");
    ["sample.examples", "features.features"].iter().for_each(|output| drop(lab.outputs.remove(*output)));
    lab.run(&(more.clone() + &evaluate("more", "tuned", BATCHES))).unwrap();
    assert_eq!(line(&lab, "answered before"), "30 questions, 20 of them answered before");
    // Another threshold asks nothing; another model, and more spans, ask all.
    for (name, model, how, known) in
        [("sure", "tuned", "null_threshold = 5.0", 30), ("other", "again", "", 0), ("wide", "tuned", "n_best = 3", 0)]
    {
        let again = fine_tune("again", "steps = 2, batch = 8", "");
        lab.run(&(more.clone() + &again + &evaluate(name, model, &format!("{how}\n{BATCHES}")))).unwrap();
        assert_eq!(line(&lab, "answered before"), format!("30 questions, {known} of them answered before"), "{name}");
    }
}

#[test]
fn another_margin_asks_nothing_anew() {
    let mut lab = Lab::new();
    let margin = |name: &str, at: &str| asking("limit_dev = 8", &format!("shots = 1\nnull_threshold = {at}")).replace("asked", name);
    let rows = |lab: &Lab, name: &str| read_table::<PredictionRow>(lab.path(&format!("{name}.predictions"))).unwrap();
    lab.run(&margin("never", "1e9")).unwrap();
    lab.outputs.remove("scores.metrics");
    lab.run(&margin("always", "-1e9")).unwrap();
    assert_eq!(line(&lab, "answered before"), "8 questions, 8 of them answered before");
    let (never, always) = (rows(&lab, "never"), rows(&lab, "always"));
    assert!(never.iter().all(|row| Some(&row.prediction) == row.candidate.as_ref()));
    assert!(always.iter().all(|row| row.prediction.is_empty()));
    let sure = |rows: &[PredictionRow]| rows.iter().map(|row| (row.candidate.clone(), row.na_score)).collect::<Vec<_>>();
    assert_eq!(sure(&never), sure(&always));
}

/// A data set of files: questions to their paragraphs, without an answer where there is none.
fn squad(lab: &Lab, part: &str, rows: &[(&str, &str, Option<&str>)]) -> String {
    let question = |(number, (context, question, answer)): (usize, &(&str, &str, Option<&str>))| {
        let answers: Vec<serde_json::Value> = answer
            .iter()
            .map(|answer| serde_json::json!({"text": answer, "answer_start": context.find(answer).map(|at| context[..at].chars().count())}))
            .collect();
        let asked = serde_json::json!([{"id": format!("{part}-{number}"), "question": question, "answers": answers, "is_impossible": answer.is_none()}]);
        serde_json::json!({"title": format!("{part} {number}"), "paragraphs": [{"context": context, "qas": asked}]})
    };
    let data: Vec<serde_json::Value> = rows.iter().enumerate().map(question).collect();
    let path = lab.folder.path().join(format!("{part}.json"));
    std::fs::write(&path, serde_json::json!({"version": "v2.0", "data": data}).to_string()).unwrap();
    format!("{part} = \"{part}.json\"\n")
}

/// A pipeline on files instead of the sample; the vocabulary is still the sample's.
fn on_files(lab: &Lab, config: &str, train: &[(&str, &str, Option<&str>)], dev: &[(&str, &str, Option<&str>)]) -> String {
    let parts = squad(lab, "train", train) + &squad(lab, "dev", dev);
    let files = format!("[stages.files]\nkind = \"dataset\"\n{parts}\n[stages.base]");
    tiny_writer(config, "").replace("dataset = \"@sample\"", "dataset = \"@files\"").replace("[stages.base]", &files)
}

fn asked(more: &str) -> String {
    format!("\n[stages.asked]\nkind = \"prompt\"\nmodel = \"@base\"\ndata = \"@files\"\nmax_answer_length = 4\n{more}\n")
}

const TRAIN: &[(&str, &str, Option<&str>)] = &[("It lies in Ösel.", "Where is it?", Some("Ösel")), ("Nothing.", "Where is it?", None)];

#[test]
fn one_changed_question_costs_one_row() {
    let mut lab = Lab::new();
    let dev = [("It is old.", "What is old?", Some("It")), ("It is new.", "What is new?", Some("It")), ("東京 🏔️", "Where?", Some("東京"))];
    lab.run(&(on_files(&lab, TINY_MAMBA, TRAIN, &dev) + &asked("shots = 2"))).unwrap();
    let changed = [dev[0], ("It is new.", "What is so new?", Some("It")), dev[2]];
    lab.outputs.retain(|name, _| !name.starts_with("files") && !name.starts_with("asked") && !name.starts_with("features"));
    lab.run(&(on_files(&lab, TINY_MAMBA, TRAIN, &changed) + &asked("shots = 2"))).unwrap();
    assert_eq!(line(&lab, "answered before"), "3 questions, 2 of them answered before");
}

#[test]
fn a_tiny_mamba_learns_a_part_of_the_sample() {
    let mut lab = Lab::new();
    let questions = qapipe_stages::sample::questions(qapipe_stages::examples::Part::Train).rows;
    // From random weights so small a model learns no copying: it is asked what it has learnt.
    let rows: Vec<(&str, &str, Option<&str>)> = questions[..90]
        .iter()
        .map(|one| (&*one.context, one.question.as_str(), one.answers.first().map(|answer| answer.text.as_str())))
        .collect();
    let text = on_files(&lab, TINY_MAMBA, &rows, &rows)
        + &fine_tune("tuned", "epochs = 40, lr = 5e-3, batch = 15, weight_decay = 0.0, schedule = \"cosine\"", "")
        + &evaluate("scores", "tuned", "latency = 0");
    lab.run(&text).unwrap();
    let row = metrics(&lab, "scores");
    assert!(row.exact.unwrap() > row.abstain_exact.unwrap() + 30.0 && row.has_answer_exact.unwrap() > 50.0, "{row:?}");
}

#[test]
fn a_tiny_mamba_learns_answers_and_where_there_is_none() {
    let mut lab = Lab::new();
    let rows = [
        ("Ösel is an old town. It lies by the sea.", "What is Ösel?", Some("an old town")),
        ("Ösel is an old town. It lies by the sea.", "Where does it lie?", Some("by the sea")),
        ("Ösel is an old town. It lies by the sea.", "Who lives there?", None),
        ("The ship was built in 1850.", "When was it built?", Some("1850")),
        ("The ship was built in 1850.", "Who built it?", None),
    ];
    let text = on_files(&lab, TINY_MAMBA, &rows, &rows)
        + &fine_tune("tuned", "epochs = 60, lr = 5e-3, batch = 5, weight_decay = 0.0, schedule = \"cosine\"", "")
        + &evaluate("scores", "tuned", "latency = 3");
    lab.run(&text).unwrap();
    let row = metrics(&lab, "scores");
    assert_eq!((row.exact, row.no_answer_exact), (Some(100.0), Some(100.0)), "{row:?}");
    assert!(row.flops.unwrap() > 1e5 && row.latency_p50_ms.unwrap() > 0.0);
}

#[test]
fn strange_questions_end_in_answers_or_in_a_message() {
    let words = "wide 東京🏔️ ".repeat(200);
    let dev =
        [("", "", None), ("   ", "Where is  it?", None), (words.as_str(), "  What\tis it\u{2028}?", Some("wide")), ("a", "\u{0}{}", None)];
    for config in [TINY_T5, TINY_MAMBA] {
        let mut lab = Lab::new();
        let all_answered = &TRAIN[..1];
        let text = on_files(&lab, config, all_answered, &dev) + &fine_tune("tuned", "steps = 2, batch = 2", "");
        lab.run(&(text + &evaluate("scores", "tuned", "latency = 2") + &asked("shots = 1\nmax_length = 4096") + "no_answer = \"\"\n"))
            .unwrap();
        for stage in ["scores.predictions", "asked.predictions"] {
            assert_eq!(read_table::<PredictionRow>(lab.path(stage)).unwrap().len(), 4, "{stage}");
        }
        let empty =
            lab.run(&(on_files(&lab, config, all_answered, &dev) + &asked("shots = 0\ncontext = false").replace("asked", "bare"))).err();
        assert!(empty.is_none(), "{empty:?}");
        let nothing = asked("shots = 0\ntemplate = \"{question}\"\ncontext = false").replace("asked", "nothing");
        let told = lab.run(&(on_files(&lab, config, all_answered, &dev) + &nothing)).err().map(|error| error.message);
        let wanted = (config == TINY_MAMBA).then(|| "question dev-0: the prompt is empty".to_owned());
        assert_eq!(told, wanted);
        let many = lab.run(&(on_files(&lab, config, all_answered, &dev) + &asked("shots = 2").replace("asked", "many"))).unwrap_err();
        assert!(many.message.contains("1 examples with an answer"), "{many:?}");
    }
}

#[test]
fn a_model_that_writes_the_words_for_no_answer_abstains() {
    let mut lab = Lab::new();
    let train = [("It lies in Ösel.", "Where is it?", None), ("Nothing.", "Where is it?", None)];
    for config in [TINY_T5, TINY_MAMBA] {
        let text = on_files(&lab, config, &train, &train).replace("stride = 32", "stride = 32\nno_answer = \"Nowhere in here!\"")
            + &fine_tune("tuned", "epochs = 60, lr = 3e-3, batch = 2, weight_decay = 0.0", "")
            + &evaluate("scores", "tuned", "null_threshold = 1e6");
        lab.outputs.clear();
        lab.run(&text).unwrap();
        let rows: Vec<PredictionRow> = read_table(lab.path("scores.predictions")).unwrap();
        assert!(rows.iter().all(|row| row.prediction.is_empty() && row.candidate.as_deref() == Some("")), "{rows:?}");
    }
}

#[test]
fn the_first_prompt_is_shown_in_the_usual_words_of_the_family() {
    let dev = [("It is old.", " What is old?", Some("It"))];
    for (config, more, shown) in [
        (TINY_MAMBA, "shots = 1", "It lies in Ösel.\n\nQ: Where is it?\nA: Ösel\n\nIt is old.\n\nQ: What is old?\nA:"),
        (TINY_MAMBA, "shots = 0\ncontext = false\nheader = \"Say.\"", "Say.\n\nQ: What is old?\nA:"),
        (
            TINY_T5,
            "shots = 1\nseparator = \" \"",
            "question: Where is it? context: It lies in Ösel. answer: Ösel question: What is old? context: It is old. answer:",
        ),
        (TINY_T5, "shots = 0", "question: What is old? context: It is old."),
    ] {
        let mut lab = Lab::new();
        lab.run(&(on_files(&lab, config, TRAIN, &dev) + &asked(more))).unwrap();
        assert_eq!(line(&lab, "the first prompt"), format!("the first prompt:\n{shown}"));
    }
}

#[test]
fn a_prompt_that_is_too_long_is_named() {
    let mut lab = Lab::new();
    let error = lab.run(&asking("limit_dev = 5", "shots = 0\nmax_length = 20")).unwrap_err();
    assert!(error.message.contains("the prompt has") && error.message.contains("max_length is 20"), "{error:?}");
    let error = Lab::new().run(&asking("limit_dev = 5", "shots = 40\nmax_length = 200")).unwrap_err();
    assert!(error.message.contains("0 examples with an answer"), "{error:?}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let mut lab = Lab::new();
    let bert = common::tiny("", "") + "[stages.asked]\nkind = \"prompt\"\nmodel = \"@base\"\ndata = \"@sample\"\n";
    let error = lab.run(&bert).unwrap_err();
    assert!(error.message.contains("points at answers, it does not write"), "{error:?}");
    // Windows of a BERT for a T5.
    let config = TINY_T5;
    let both = common::tiny("", "")
        + &format!("[stages.writer]\nkind = \"checkpoint\"\nvocabulary = \"@sample\"\nvocab_size = 2000\nconfig = {{ {config} }}\n")
        + &fine_tune("tuned", "epochs = 1", "").replace("model = \"@base\"", "model = \"@writer\"");
    let error = lab.run(&both).unwrap_err();
    assert!(error.message.contains("windows to point into"), "{error:?}");
    // In an evaluation, and the other way round.
    let error = lab.run(&(both[..both.find("[stages.tuned]").unwrap()].to_owned() + &evaluate("scores", "writer", ""))).unwrap_err();
    assert!(error.message.contains("windows to point into"), "{error:?}");
    let texts = both[..both.find("[stages.tuned]").unwrap()].to_owned()
        + "[stages.texts]\nkind = \"tokenize\"\ndataset = \"@sample\"\nmodel = \"@writer\"\n"
        + &fine_tune("tuned", "epochs = 1", "").replace("@features", "@texts");
    let error = lab.run(&texts).unwrap_err();
    assert!(error.message.contains("texts to answer"), "{error:?}");
}

#[test]
fn texts_of_an_encoder_with_a_decoder_are_none_for_a_language_model() {
    let writer = |name: &str, config: &str| {
        format!("\n[stages.{name}]\nkind = \"checkpoint\"\ntokenizer = \"tokenizer.json\"\nconfig = {{ {config} }}\n")
    };
    for (own, other, told) in
        [(TINY_T5, TINY_MAMBA, "the model is a language model"), (TINY_MAMBA, TINY_T5, "the model is an encoder with a decoder")]
    {
        let mut lab = Lab::new();
        lab.run(&tiny_writer(own, "limit_train = 20\nlimit_dev = 5")).unwrap();
        std::fs::copy(lab.path("base.model").join("tokenizer.json"), lab.folder.path().join("tokenizer.json")).unwrap();
        let text = tiny_writer(own, "limit_train = 20\nlimit_dev = 5") + &writer("other", other);
        for stage in [evaluate("scores", "other", ""), fine_tune("tuned", "steps = 1", "").replace("@base", "@other")] {
            let error = lab.run(&(text.clone() + &stage)).unwrap_err();
            assert!(error.message.contains(told), "{error:?}");
        }
    }
}

#[test]
fn training_twice_gives_the_same_bytes_and_micro_batches_the_same_answers() {
    let train = "steps = 4, lr = 1e-3, batch = 8";
    let mut lab = Lab::new();
    let text = tiny_writer(TINY_T5, "limit_train = 60\nlimit_dev = 10");
    lab.run(&(text.clone() + &fine_tune("one", train, "") + &fine_tune("two", train, ""))).unwrap();
    assert_eq!(lab.bytes("one.model", "model.safetensors"), lab.bytes("two.model", "model.safetensors"));
    lab.run(&(text + &fine_tune("pieces", train, "hints = { micro_batch_tokens = 200 }"))).unwrap();
    let weights = |stage: &str| qapipe_nn::Weights::open(&lab.path(&format!("{stage}.model")).join("model.safetensors")).unwrap();
    let (whole, pieces) = (weights("one"), weights("pieces"));
    for name in whole.names() {
        let difference = (whole.floats(name).unwrap() - pieces.floats(name).unwrap()).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{name}: {difference}");
    }
}
