//! `qapipe kinds`: the kinds of stages and their parameters, from the tables that checking uses.

use qapipe_engine::{Default, Param, Place, Role, StageKind, Ty, Values, accepted, slurm, ty_text};
use serde_json::{Value, json};

use super::session::Session;
use crate::args;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::human::plain;
use crate::kinds::{kinds, summary};
use crate::printer::{BOLD, DIM, NAME, PLAIN, styled};

pub(super) fn run(args: &args::Kinds, session: &Session) -> Result<(), Failure> {
    let printer = &session.printer;
    match args.kind {
        Some(kind) if printer.json => printer.json(&to_json(kind.0)),
        Some(kind) => printer.data(&explained(kind.0)),
        None if printer.json => printer.json(&json!({ "kinds": kinds().iter().map(to_json).collect::<Vec<_>>() })),
        None => printer.data(&list()),
    }
}

/// All kinds, a line each.
fn list() -> String {
    let mut grid = Grid::new(&["KIND", "WHAT IT DOES"]);
    kinds().iter().for_each(|kind| grid.row([(kind.name().to_owned(), NAME), (summary(kind).to_owned(), PLAIN)]));
    format!("{}\n`qapipe kinds KIND` explains one with all of its parameters.\n", grid.to_text(""))
}

/// A kind's help: what it does, what it gives, what it takes.
fn explained(kind: &dyn StageKind) -> String {
    let mut text = format!("{}\n", styled(BOLD, kind.name()));
    for line in kind.doc().lines().flat_map(|line| wrapped(line, WIDTH - 2)) {
        text.push_str(format!("  {line}").trim_end());
        text.push('\n');
    }
    let outputs = kind.outputs(&Values::default());
    if !outputs.is_empty() {
        let outputs: Vec<String> = outputs.iter().map(|output| format!("{} ({})", output.name, output.artifact)).collect();
        text.push_str(&format!("\n{} {}\n", styled(BOLD, "Gives:"), outputs.join(", ")));
    }
    let (params, hints): (Vec<Param>, Vec<Param>) = accepted(kind).into_iter().partition(|param| param.role == Role::Param);
    section(&mut text, "Parameters:", &params);
    section(&mut text, "Hints (under `hints = { … }`; they change how fast or where, never the result):", &hints);
    section(&mut text, "Job (under `slurm = { … }`; with --executor slurm, instead of what `[slurm]` in qapipe.toml says):", slurm::PARAMS);
    text
}

/// Letters in a line of help.
const WIDTH: usize = 110;

fn section(text: &mut String, title: &str, params: &[Param]) {
    if params.is_empty() {
        return;
    }
    text.push_str(&format!("\n{}\n", styled(BOLD, title)));
    params.iter().for_each(|param| describe(text, param, 2));
}

/// A parameter with its type and default, its doc below, and below that the keys of a table.
fn describe(text: &mut String, param: &Param, indent: usize) {
    let blank = " ".repeat(indent);
    let keys = if let Ty::Table(keys) = param.ty { keys } else { &[] };
    let ty = if keys.is_empty() { ty_text(&param.ty) } else { "table".to_owned() };
    let default = default_text(&param.default).map(|default| format!("  {}", styled(DIM, &format!("[{default}]")))).unwrap_or_default();
    text.push_str(&format!("{blank}{}  {ty}{default}\n", styled(NAME, param.name)));
    for line in wrapped(param.doc, WIDTH - indent - 4) {
        text.push_str(&format!("{blank}    {line}\n"));
    }
    keys.iter().for_each(|key| describe(text, key, indent + 4));
}

fn default_text(default: &Default) -> Option<String> {
    match default {
        Default::Required => Some("required".to_owned()),
        Default::Absent | Default::Table => None,
        Default::Bool(truth) => Some(format!("default: {truth}")),
        Default::Int(number) => Some(format!("default: {number}")),
        Default::Float(number) => Some(format!("default: {}", plain(*number))),
        Default::Str(word) => Some(format!("default: {word:?}")),
    }
}

/// A text in lines of at most so many letters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn to_json(kind: &'static dyn StageKind) -> Value {
    let outputs: Vec<Value> =
        kind.outputs(&Values::default()).iter().map(|output| json!({ "name": output.name, "type": output.artifact.0 })).collect();
    let worker = kind.place() == Place::Worker;
    let params: Vec<Value> = accepted(kind).iter().map(param_json).collect();
    json!({
        "name": kind.name(), "kind_version": kind.version(), "doc": kind.doc(), "seeded": kind.seeded(), "worker": worker,
        "outputs": outputs, "params": params,
    })
}

fn param_json(param: &Param) -> Value {
    let default = match param.default {
        Default::Required | Default::Absent => Value::Null,
        Default::Bool(truth) => json!(truth),
        Default::Int(number) => json!(number),
        Default::Float(number) => json!(number),
        Default::Str(word) => json!(word),
        Default::Table => json!({}),
    };
    let keys = if let Ty::Table(keys) = param.ty { keys.iter().map(param_json).collect() } else { Vec::new() };
    json!({
        "name": param.name, "type": ty_text(&param.ty), "required": matches!(param.default, Default::Required), "default": default,
        "hint": param.role == Role::Hint, "doc": param.doc, "keys": keys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_breaks_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
    }

    #[test]
    fn every_kind_and_parameter_is_explained() {
        for kind in kinds().iter() {
            let text = anstream::adapter::strip_str(&explained(kind)).to_string();
            assert!(!summary(kind).is_empty(), "{}", kind.name());
            for param in accepted(kind) {
                assert!(text.contains(&format!("  {}  ", param.name)) && !param.doc.is_empty(), "{} {}", kind.name(), param.name);
            }
        }
    }
}
