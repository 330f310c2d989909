//! What a parameter accepts, in words.

use crate::param::{Accepts, Ty};

/// What a type accepts, in words: `number, 0 to 1`, `one of a | b`, `@model or path`.
pub fn ty_text(ty: &Ty) -> String {
    match *ty {
        Ty::Bool => "true or false".to_owned(),
        Ty::Int { min, max } => {
            let bound = |bound: i64, none: i64| (bound != none).then(|| bound.to_string());
            bounded("whole number", bound(min, i64::MIN), bound(max, i64::MAX))
        }
        Ty::Float { min, max } => {
            let bound = |bound: f64| (bound.is_finite() && bound.abs() < f64::MAX).then(|| bound.to_string());
            bounded("number", bound(min), bound(max))
        }
        Ty::Str => "text".to_owned(),
        Ty::Choice(words) => format!("one of {}", words.join(" | ")),
        Ty::Path { hub: false } => "path".to_owned(),
        Ty::Path { hub: true } => "path or hub:REPO[@REVISION]".to_owned(),
        Ty::Ref(accepts) => reference(accepts),
        Ty::RefOrPath(accepts) => format!("{} or path", reference(accepts)),
        Ty::List(item) => format!("list of {}", part(item)),
        Ty::Map(item) => format!("table of {}", part(item)),
        Ty::Table(params) => format!("table with {}", params.iter().map(|param| param.name).collect::<Vec<_>>().join(", ")),
        Ty::OneOf(types) => types.iter().map(ty_text).collect::<Vec<_>>().join(", or "),
    }
}

/// The same with its article, as it stands after "wants".
pub(crate) fn wanted(ty: &Ty) -> String {
    match ty {
        Ty::Int { .. } | Ty::Float { .. } | Ty::Path { .. } | Ty::List(_) | Ty::Map(_) | Ty::Table(_) => format!("a {}", ty_text(ty)),
        Ty::OneOf(types) => types.iter().map(wanted).collect::<Vec<_>>().join(", or "),
        _ => ty_text(ty),
    }
}

fn part(ty: &Ty) -> String {
    let text = ty_text(ty);
    if text.contains(' ') { format!("({text})") } else { text }
}

fn bounded(what: &str, min: Option<String>, max: Option<String>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("{what}, {min} to {max}"),
        (Some(min), None) => format!("{what}, {min} or more"),
        (None, Some(max)) => format!("{what}, {max} or less"),
        (None, None) => what.to_owned(),
    }
}

fn reference(accepts: Accepts) -> String {
    match accepts.types {
        [] => "@stage".to_owned(),
        types => types.iter().map(|artifact| format!("@{artifact}")).collect::<Vec<_>>().join(" or "),
    }
}
