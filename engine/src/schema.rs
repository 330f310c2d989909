//! The JSON schema of a pipeline file, made from the kinds' parameter tables.

use serde_json::{Map, Value, json};

use crate::check::{COMMON_SEED, hints, takes_seed};
use crate::kind::StageKind;
use crate::kinds::Kinds;
use crate::param::{Default, Param, Role, Ty};
use crate::slurm;
use crate::ty_text::ty_text;

/// What a name looks like.
const NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9_-]{0,79}$";

/// The JSON schema (draft 2020-12) of a pipeline file, for editors: one definition a kind.
pub fn schema(kinds: &Kinds) -> Value {
    let mut definitions = Map::new();
    definitions.insert(
        "variable".to_owned(),
        json!({ "type": "string", "pattern": r"^\$\{(vars|matrix)\.[^}]+\}$", "description": "A variable." }),
    );
    definitions.insert("stage".to_owned(), stage(kinds));
    definitions.extend(kinds.iter().map(|kind| (format!("kind.{}", kind.name()), definition(kind))));
    let var = var();
    let name = json!({ "type": "string", "pattern": NAME, "description": "Name of the pipeline; the file's name if absent." });
    let mut seed = or_variable(json!({ "type": "integer", "minimum": 0 }));
    seed["default"] = json!(0);
    seed["description"] = json!("Seed of every stage that has none of its own.");
    let numerics = json!({
        "enum": ["default", "strict"], "default": "default",
        "description": "With strict, results repeat bit for bit on the same device, and the device is part of what they are made from.",
    });
    let targets = json!({
        "type": "array", "minItems": 1, "items": { "type": "string" },
        "description": "Stages that are meant where none is named; all if absent.",
    });
    let names = json!({ "pattern": NAME });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qapipe pipeline",
        "type": "object",
        "additionalProperties": false,
        "anyOf": [{ "required": ["stages"] }, { "required": ["include"] }],
        "properties": {
            "name": name,
            "include": include(),
            "seed": seed,
            "numerics": numerics,
            "targets": targets,
            "vars": { "type": "object", "description": "Values for ${vars.NAME}.", "propertyNames": names, "additionalProperties": var },
            "matrix": matrix(),
            "stages": { "type": "object", "propertyNames": names, "minProperties": 1, "additionalProperties": { "$ref": "#/$defs/stage" } },
        },
        "$defs": definitions,
    })
}

/// The value of a variable.
fn var() -> Value {
    json!({ "type": ["string", "number", "boolean", "array"] })
}

/// Axes, and which of their combinations there are.
fn matrix() -> Value {
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    let values = json!({ "type": "array", "minItems": 1, "items": scalar });
    let some = json!({ "type": "object", "minProperties": 1, "additionalProperties": { "anyOf": [scalar, values] } });
    let whole = json!({ "type": "object", "minProperties": 1, "additionalProperties": scalar });
    let mut axis = or_variable(values);
    axis["description"] = json!("Values for ${matrix.AXIS}.");
    json!({
        "type": "object",
        "description": "Axes: a stage that hangs on some of them exists once for each combination of their values.",
        "propertyNames": { "pattern": NAME },
        "properties": {
            "exclude": { "type": "array", "items": some, "description": "Cells to leave out: all that have these values." },
            "include": { "type": "array", "items": whole, "description": "Cells to add: a value for every axis, which may be new." },
        },
        "additionalProperties": axis,
    })
}

/// Other pipelines whose stages join the graph.
fn include() -> Value {
    let file = json!({ "type": "string", "minLength": 1, "description": "Path of the pipeline file, relative to this one." });
    let in_full = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["file"],
        "properties": {
            "file": file,
            "name": { "type": "string", "pattern": NAME, "description": "What its stages' names begin with; its own name if absent." },
            "vars": {
                "type": "object", "description": "Variables of the file, set to other values.",
                "propertyNames": { "pattern": NAME }, "additionalProperties": var(),
            },
        },
    });
    json!({
        "type": "array",
        "items": { "anyOf": [file, in_full] },
        "description": "Pipelines whose stages join this one's, as NAME-STAGE. Stages that are made from the same are one.",
    })
}

/// A stage of any kind: the kind decides which definition holds.
fn stage(kinds: &Kinds) -> Value {
    let names: Vec<&str> = kinds.iter().map(StageKind::name).collect();
    let branches: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let is_this = json!({ "properties": { "kind": { "const": kind.name() } }, "required": ["kind"] });
            json!({ "if": is_this, "then": { "$ref": format!("#/$defs/kind.{}", kind.name()) } })
        })
        .collect();
    json!({
        "type": "object",
        "required": ["kind"],
        "properties": { "kind": { "enum": names, "description": "What the stage does." } },
        "allOf": branches,
    })
}

fn definition(kind: &'static dyn StageKind) -> Value {
    let mut params: Vec<Param> = kind.params().iter().filter(|param| param.role == Role::Param).copied().collect();
    if takes_seed(kind) {
        params.push(COMMON_SEED);
    }
    let mut definition = object(&params);
    if let Some(properties) = definition["properties"].as_object_mut() {
        properties.insert("kind".to_owned(), json!({ "const": kind.name() }));
        let mut hints = object(&hints(kind));
        hints["description"] = json!("What changes how fast or where, never the result.");
        properties.insert("hints".to_owned(), hints);
        let mut slurm = object(slurm::PARAMS);
        slurm["description"] = json!("What the stage's job asks a cluster for, instead of what `[slurm]` in qapipe.toml says.");
        properties.insert("slurm".to_owned(), slurm);
    }
    definition["description"] = json!(kind.doc());
    definition
}

/// A table with declared keys.
fn object(params: &[Param]) -> Value {
    let properties: Map<String, Value> = params.iter().map(|param| (param.name.to_owned(), property(param))).collect();
    let required: Vec<&str> = params.iter().filter(|param| matches!(param.default, Default::Required)).map(|param| param.name).collect();
    let mut object = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn property(param: &Param) -> Value {
    let mut property = value(&param.ty);
    property["description"] = json!(format!("{} ({})", param.doc, ty_text(&param.ty)));
    let default = match param.default {
        Default::Required | Default::Absent => return property,
        Default::Bool(truth) => json!(truth),
        Default::Int(number) => json!(number),
        Default::Float(number) => json!(number),
        Default::Str(text) => json!(text),
        Default::Table => json!({}),
    };
    property["default"] = default;
    property
}

/// What a type accepts. Where it is not a text already, a variable may stand for it.
fn value(ty: &Ty) -> Value {
    match *ty {
        Ty::Str => json!({ "type": "string" }),
        Ty::Path { .. } | Ty::RefOrPath(_) => json!({ "type": "string", "minLength": 1 }),
        Ty::Ref(_) => json!({ "type": "string", "pattern": r"^@|\$\{" }),
        Ty::Bool => or_variable(json!({ "type": "boolean" })),
        Ty::Int { min, max } => {
            let mut number = json!({ "type": "integer" });
            bound(&mut number, "minimum", (min != i64::MIN).then(|| json!(min)));
            bound(&mut number, "maximum", (max != i64::MAX).then(|| json!(max)));
            or_variable(number)
        }
        Ty::Float { min, max } => {
            let mut number = json!({ "type": "number" });
            bound(&mut number, "minimum", (min > f64::MIN).then(|| json!(min)));
            bound(&mut number, "maximum", (max < f64::MAX).then(|| json!(max)));
            or_variable(number)
        }
        Ty::Choice(words) => json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": r"\$\{" }] }),
        Ty::List(item) => or_variable(json!({ "type": "array", "items": value(item) })),
        Ty::Map(item) => json!({ "type": "object", "propertyNames": { "pattern": NAME }, "additionalProperties": value(item) }),
        Ty::Table(params) => object(params),
        Ty::OneOf(types) => json!({ "anyOf": types.iter().map(value).collect::<Vec<_>>() }),
    }
}

fn bound(number: &mut Value, key: &str, bound: Option<Value>) {
    if let Some(bound) = bound {
        number[key] = bound;
    }
}

fn or_variable(value: Value) -> Value {
    json!({ "anyOf": [value, { "$ref": "#/$defs/variable" }] })
}
