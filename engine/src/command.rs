//! The kind of stage that runs any program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::artifact::{ArtifactType, OutputSpec};
use crate::child;
use crate::context::{Request, StageCx};
use crate::error::StageError;
use crate::group::Group;
use crate::kind::{Invalid, StageKind};
use crate::param::{Accepts, Param, Ty};
use crate::placeholder::{Piece, pieces};
use crate::tail::Tail;
use crate::values::Values;

/// Runs any program: its inputs are files or other stages' outputs, its outputs are what it writes to the paths it is given.
pub struct Command;

const ANYTHING: Accepts = Accepts { types: &[], part: &[] };

const PARAMS: &[Param] = &[
    Param::required(
        "run",
        Ty::List(&Ty::Str),
        "The program and its arguments; no shell. `{in.NAME}` and `{out.NAME}` stand for the paths of inputs and outputs.",
    ),
    Param::optional("inputs", Ty::Map(&Ty::RefOrPath(ANYTHING)), "What it reads, by name: `@stage`, `@stage.output`, or a file or folder."),
    Param::required(
        "outputs",
        Ty::OneOf(&[Ty::List(&Ty::Str), Ty::Map(&Ty::Str)]),
        "What it writes: names, or names with a path in the pipeline's folder where the result is put as well (and put back when altered).",
    ),
    Param::optional("env", Ty::Map(&Ty::Str), "Environment variables to set."),
];

#[derive(Deserialize)]
struct Given {
    run: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

impl StageKind for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Runs any program on files and other stages' outputs.\n\n\
         The program runs in the pipeline's folder, without a shell and with nothing on its standard input, in a process group of its own that \
         ends with the stage. It has to write every output to \
         the path that `{out.NAME}` stands for; the result is kept when it ends with exit code 0. List every file that it reads, its own \
         script included, under `inputs`: an edit of a file that is not listed is not noticed."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, values: &Values) -> Vec<OutputSpec> {
        match values.get("outputs") {
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).map(|name| OutputSpec::new(name, ArtifactType::FILE)).collect()
            }
            Some(Value::Object(places)) => {
                let spec = |(name, place): (&String, &Value)| OutputSpec {
                    place: place.as_str().map(Into::into),
                    ..OutputSpec::new(name, ArtifactType::FILE)
                };
                places.iter().map(spec).collect()
            }
            _ => Vec::new(),
        }
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        let outputs = self.outputs(values);
        if outputs.is_empty() {
            return Err(Invalid::new("outputs", "a command needs at least one output"));
        }
        let run: Vec<&str> = values.get("run").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if run.first().is_none_or(|program| program.is_empty()) {
            return Err(Invalid::new("run", "there is no program to run"));
        }
        if run[0].rsplit('/').next() == Some("setsid") && !run[1..].iter().any(|word| ["-w", "--wait"].contains(word)) {
            let help = "leave it out: a command has a process group of its own, which ends with its stage; or write `setsid --wait`";
            return Err(Invalid::new("run", "`setsid` would end at once, before the program that it starts").help(help));
        }
        let inputs = values.get("inputs").and_then(Value::as_object).into_iter().flat_map(|inputs| inputs.keys());
        let names =
            Names { inputs: inputs.map(String::as_str).collect(), outputs: outputs.iter().map(|output| output.name.as_str()).collect() };
        run.iter().try_for_each(|word| names.check(word))
    }

    fn run(&self, cx: &StageCx<'_>) -> Result<(), StageError> {
        let given: Given = cx.values()?;
        let words = given.run.iter().map(|word| expand(word, cx.request)).collect::<Result<Vec<_>, _>>()?;
        let Some((program, arguments)) = words.split_first() else { return Err(StageError::bug("empty command")) };
        let mut process = Process::new(program);
        process.args(arguments).envs(&given.env).current_dir(&cx.request.folder).stdin(Stdio::null());
        leave_inputs_alone(&mut process, &given.env);
        execute(process, program, cx)
    }
}

/// Python would write `__pycache__` into an input folder that it imports from, and so change the input of the stage that runs. Compiled
/// modules that are there already it still reads: with `PYTHONPYCACHEPREFIX` it would compile even its own library anew in every stage.
fn leave_inputs_alone(process: &mut Process, given: &BTreeMap<String, String>) {
    const WRITES_NONE: &str = "PYTHONDONTWRITEBYTECODE";
    const WRITES_ELSEWHERE: &str = "PYTHONPYCACHEPREFIX";
    let elsewhere = std::env::var_os(WRITES_ELSEWHERE).is_some_and(|folder| !folder.is_empty());
    if !elsewhere && ![WRITES_NONE, WRITES_ELSEWHERE].iter().any(|name| given.contains_key(*name)) {
        process.env(WRITES_NONE, "1");
    }
}

fn execute(mut process: Process, program: &str, cx: &StageCx<'_>) -> Result<(), StageError> {
    let group = Group::start(&mut process).map_err(|error| {
        StageError::failed(format!("cannot start `{program}`: {error}"))
            .help("is it installed, and on PATH or given relative to the pipeline's folder?")
    })?;
    let mut tail = Tail::default();
    let status = child::attend(
        group,
        cx.cancel,
        |group| group.signal(Signal::TERM),
        |_, line| {
            tail.push(line);
            cx.reporter.log(line);
        },
    );
    let status = status.map_err(|error| StageError::failed(format!("cannot wait for `{program}`: {error}")))?;
    child::wait_for_the_same(status, cx.cancel);
    cx.checkpoint()?;
    if status.success() {
        return Ok(());
    }
    Err(StageError::failed(format!("`{program}` failed: {}{}", child::ending(status), tail.text())))
}

/// What placeholders may name.
struct Names<'a> {
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
}

impl Names<'_> {
    fn check(&self, word: &str) -> Result<(), Invalid> {
        pieces(word).into_iter().try_for_each(|piece| match piece {
            Piece::Text(_) => Ok(()),
            Piece::In(name) => check_name("in", name, &self.inputs),
            Piece::Out(name) => check_name("out", name, &self.outputs),
        })
    }
}

fn check_name(side: &str, name: &str, there: &[&str]) -> Result<(), Invalid> {
    if there.contains(&name) {
        return Ok(());
    }
    let what = format!("{side}put");
    let help = if there.is_empty() { format!("there are no {what}s") } else { format!("{what}s: {}", there.join(", ")) };
    Err(Invalid::new("run", format!("`{{{side}.{name}}}` names no {what}")).help(help))
}

/// Replaces placeholders by paths.
fn expand(word: &str, request: &Request) -> Result<String, StageError> {
    pieces(word).into_iter().map(|piece| replacement(piece, request)).collect()
}

fn replacement<'a>(piece: Piece<'a>, request: &'a Request) -> Result<&'a str, StageError> {
    match piece {
        Piece::Text(text) => Ok(text),
        Piece::In(name) => {
            let input = request.inputs.get(&format!("inputs.{name}")).ok_or_else(|| StageError::bug(format!("no input {name}")))?;
            path_text(input.path.strip_prefix(&request.folder).unwrap_or(&input.path))
        }
        Piece::Out(name) => path_text(request.outputs.get(name).ok_or_else(|| StageError::bug(format!("no output {name}")))?),
    }
}

fn path_text(path: &Path) -> Result<&str, StageError> {
    path.to_str().ok_or_else(|| StageError::failed(format!("the path {} is not UTF-8", path.display())))
}
