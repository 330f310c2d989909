//! The worker as the command sees it: lines in, lines out.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use common::{Lab, fine_tune, tiny};
use qapipe_engine::{CANCEL, ErrorClass, Kinds, Pipeline, Request, Say, StageError};
use qapipe_worker::serve::serve;

/// Input whose further lines come when the test sends them; it ends when the sender is dropped.
struct Pipe(Receiver<Vec<u8>>, Cursor<Vec<u8>>);

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let count = self.1.read(into)?;
            if count > 0 {
                return Ok(count);
            }
            match self.0.recv() {
                Ok(bytes) => self.1 = Cursor::new(bytes),
                Err(_) => return Ok(0),
            }
        }
    }
}

fn said(output: &[u8]) -> Vec<Say> {
    output.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// What a worker says, to someone who has no more to ask once so many stages are done.
struct Asking {
    output: Vec<u8>,
    sender: Option<Sender<Vec<u8>>>,
    stages: usize,
}

impl Write for Asking {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.output.extend_from_slice(bytes);
        // A line comes in one piece.
        let done = said(&self.output).iter().filter(|say| **say == Say::Done).count();
        if done == self.stages {
            self.sender = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Has requests served, the end of the input following when all are.
fn served(lines: &[&[u8]]) -> (bool, Vec<Say>) {
    let (sender, receiver) = channel();
    lines.iter().for_each(|line| sender.send(line.to_vec()).unwrap());
    let mut asking = Asking { output: Vec::new(), sender: Some(sender), stages: lines.len() };
    let finished = serve(BufReader::new(Pipe(receiver, Cursor::default())), &mut asking, Ok(()));
    (finished, said(&asking.output))
}

fn request(lab: &Lab, text: &str, stage: &str) -> Request {
    let pipeline = Pipeline::parse(text, &lab.folder.path().join("p.toml"), &Kinds::new(qapipe_stages::KINDS), &[]).unwrap();
    lab.request(&pipeline, pipeline.stage(stage).unwrap())
}

fn line(request: &Request) -> Vec<u8> {
    let mut line = serde_json::to_vec(request).unwrap();
    line.push(b'\n');
    line
}

#[test]
fn a_stage_runs_reports_and_is_done() {
    let mut lab = Lab::new();
    let text = tiny("", "limit_train = 32\nlimit_dev = 8") + &fine_tune("tuned", "epochs = 1, batch = 8", "");
    lab.run(&tiny("", "limit_train = 32\nlimit_dev = 8")).unwrap();
    let request = request(&lab, &text, "tuned");
    let (finished, said) = served(&[&line(&request)]);
    assert!(finished, "{said:?}");
    assert_eq!(said.last(), Some(&Say::Done));
    assert!(said.iter().any(|say| matches!(say, Say::Measure { name, value } if name == "train_seconds" && *value > 0.0)));
    assert!(said.iter().any(|say| matches!(say, Say::Progress { done, total, unit, .. } if done == total && unit == "examples")));
    assert!(said.iter().any(|say| matches!(say, Say::Log { .. })));
    let of_a_gpu = |say: &Say| matches!(say, Say::Measure { name, .. } if name == qapipe_engine::GPU_PEAK);
    assert!(!said.iter().any(of_a_gpu), "what was not measured is not told");
    assert!(request.outputs["model"].join("model.safetensors").is_file());
}

#[test]
fn stages_are_served_one_after_the_other_and_as_if_they_were_alone() {
    let mut lab = Lab::new();
    let begun = tiny("", "limit_train = 32\nlimit_dev = 8");
    let train = |name: &str| fine_tune(name, "epochs = 1, batch = 8", "");
    lab.run(&(begun.clone() + &train("alone"))).unwrap();
    let text = begun + &train("first") + &train("second");
    let (first, second) = (request(&lab, &text, "first"), request(&lab, &text, "second"));
    let (finished, said) = served(&[&line(&first), &line(&second)]);
    assert!(finished && said.iter().filter(|say| **say == Say::Done).count() == 2, "{said:?}");
    let weights = |folder: &std::path::Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    let alone = weights(lab.path("alone.model"));
    assert!(weights(&first.outputs["model"]) == alone && weights(&second.outputs["model"]) == alone);
}

#[test]
fn errors_are_said_with_their_class() {
    let error = |output: Vec<Say>| match output.into_iter().next_back() {
        Some(Say::Error { error }) => error,
        other => panic!("{other:?}"),
    };
    let (finished, output) = served(&[b"{ not json\n"]);
    assert!(!finished && error(output).class == ErrorClass::Bug);
    let lab = Lab::new();
    let text = "[stages.x]\nkind = \"checkpoint\"\nsource = \"nowhere\"\n";
    let missing = request(&lab, text, "x");
    let (finished, output) = served(&[&line(&missing)]);
    let found = error(output);
    assert!(!finished && found.class == ErrorClass::Failed && found.message.contains("nowhere"), "{found:?}");
    let (_, output) = served(&[&line(&Request { kind: "no-such".into(), ..missing })]);
    assert!(error(output).message.contains("no-such"));
}

#[test]
fn a_worker_of_another_build_says_so_and_does_nothing() {
    let mut output = Vec::new();
    assert!(!serve(BufReader::new(std::io::empty()), &mut output, Err(StageError::environment("another build"))));
    assert!(matches!(said(&output).as_slice(), [Say::Error { error }] if error.class == ErrorClass::Environment));
}

#[test]
fn a_cancel_line_and_the_end_of_the_input_both_stop_a_stage() {
    let limits = "limit_train = 200\nlimit_dev = 8";
    let mut lab = Lab::new();
    lab.run(&tiny("", limits)).unwrap();
    let text = tiny("", limits) + &fine_tune("long", "epochs = 10000, batch = 8", "");
    let first = line(&request(&lab, &text, "long"));
    let (sender, receiver) = channel();
    sender.send(first).unwrap();
    sender.send(format!("{CANCEL}\n").into_bytes()).unwrap();
    let mut output = Vec::new();
    let start = std::time::Instant::now();
    assert!(!serve(BufReader::new(Pipe(receiver, Cursor::default())), &mut output, Ok(())));
    assert!(matches!(said(&output).last(), Some(Say::Error { error }) if error.class == ErrorClass::Interrupted));
    assert!(start.elapsed().as_secs() < 30);
    drop(sender);
}
