//! A variable's value replaced by another, which has to be of the same sort.

use crate::name::shown;
use crate::raw::{Node, Raw};
use crate::source::Problem;

/// The new value as the variable takes it; `place` says in messages where the old one stands.
///
/// # Errors
/// Where it is of another sort: text, a number, true or false, a list.
pub(crate) fn fit(name: &str, old: &Node, mut new: Node, place: &str) -> Result<Node, Problem> {
    let made_from_others = old.as_text().is_some_and(|text| text.contains("${"));
    let is_text = matches!(old.value, Raw::Text(_)) && new.as_text().is_none() && !new.is_broken();
    match (&old.value, &new.value) {
        _ if made_from_others => {}
        _ if is_text && new.text.is_some() => new.value = Raw::Text(new.text.take().unwrap_or_default()),
        #[expect(clippy::cast_precision_loss, reason = "the variable is a number")]
        (Raw::Float(_), Raw::Int(number)) => new.value = Raw::Float(*number as f64),
        _ if sort(&old.value) != sort(&new.value) && !old.is_broken() && !new.is_broken() => {
            let what = format!("variable `{}` is {} in {place}", shown(name), sort(&old.value));
            return Err(Problem::new(what).label(new.describe()));
        }
        _ => {}
    }
    new.text = None;
    Ok(new)
}

fn sort(value: &Raw) -> &'static str {
    match value {
        Raw::Text(_) => "text",
        Raw::Int(_) | Raw::Float(_) => "a number",
        Raw::Bool(_) => "true or false",
        Raw::List(_) => "a list",
        Raw::Table(_) | Raw::Broken => "a table",
    }
}
