//! A cell of a matrix: one value for each axis that a stage depends on.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use qapipe_cache::Digest;
use serde_json::Value;

use crate::name::shown;
use crate::raw::{self, Node, Raw};
use crate::source::Origin;

/// Most letters of a value in a name.
const LONGEST: usize = 32;
/// Most letters of a cell in the name of a stage: with the names of pipeline and stage it still makes a file's name.
const WIDEST: usize = 64;

/// One value of an axis.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) axis: Arc<str>,
    /// The value in a form that equal values share: `3` for 3.0 too.
    key: String,
    /// The value as it stands in names.
    label: String,
    pub(crate) node: Node,
}

impl Setting {
    /// A value of an axis; nothing if it is no text, number, or truth value.
    pub(crate) fn new(axis: &Arc<str>, node: Node) -> Option<Self> {
        Some(Self { axis: Arc::clone(axis), key: key(&node)?, label: label(&node)?, node })
    }

    /// The value in a form that equal values share.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The value as it stands in names.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Sets it apart from another value whose label is the same.
    pub(crate) fn tell_apart(&mut self) {
        let digest = Digest::of_bytes(self.key.as_bytes()).short();
        self.label = format!("{}~{}", self.label, &digest[..4]);
    }

    /// Whether this value is asked for.
    pub(crate) fn is(&self, asked: &Asked<'_>) -> bool {
        self.label == asked.text || self.key == asked.key
    }
}

/// A value that is asked for: as it stands in names, or as it would be written.
pub(crate) struct Asked<'t> {
    pub(crate) text: &'t str,
    key: String,
}

impl<'t> Asked<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, key: key_of(text) }
    }
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.axis == other.axis
    }
}

impl Eq for Setting {}

impl Hash for Setting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.axis.hash(state);
        self.key.hash(state);
    }
}

/// The form that equal values share.
fn key(node: &Node) -> Option<String> {
    /// Up to here every whole number has a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    Some(match &node.value {
        Raw::Text(text) => Value::from(text.as_str()).to_string(),
        Raw::Float(number) if number.fract() == 0.0 && number.abs() < EXACT => format!("{:.0}", number + 0.0),
        _ => node.scalar_text()?,
    })
}

/// The same of a value that is written somewhere: what is no other value is a text.
pub(crate) fn key_of(text: &str) -> String {
    let node = raw::override_value(text.trim(), Origin::default(), 0);
    node.and_then(|node| key(&node)).unwrap_or_else(|| Value::from(text).to_string())
}

/// How a value stands in names: a number as TOML writes it; of a text, the end, with `_` for what a file's name or a list of settings cannot hold.
fn label(node: &Node) -> Option<String> {
    let text = node.scalar_text()?;
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || "_-.+:".contains(letter) { letter } else { '_' };
    let mut label: String = text.chars().map(safe).collect();
    label.drain(..label.len().saturating_sub(LONGEST));
    Some(if label.is_empty() { "_".to_owned() } else { label })
}

/// The values that make a stage one of a family, in the order of the axes. A stage that depends on no axis has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell(pub(crate) Vec<Arc<Setting>>);

impl Cell {
    /// Whether the stage depends on no axis.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The axes, in their order.
    pub fn axes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|setting| setting.axis.as_ref())
    }

    /// Each axis and its value.
    pub fn values(&self) -> impl Iterator<Item = (&str, Value)> {
        self.0.iter().map(|setting| (setting.axis.as_ref(), setting.node.to_json()))
    }

    pub(crate) fn get(&self, axis: &str) -> Option<&Arc<Setting>> {
        self.0.iter().find(|setting| *setting.axis == *axis)
    }

    /// Only these axes, in this order; those that it does not have are left out.
    pub(crate) fn project(&self, axes: &[Arc<str>]) -> Self {
        Self(axes.iter().filter_map(|axis| self.get(axis).cloned()).collect())
    }
}

/// `[rank=8,seed=1]`; nothing for a stage that depends on no axis. What is too long is cut, and told apart by a digest.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        let settings: Vec<String> = self.0.iter().map(|setting| format!("{}={}", setting.axis, setting.label)).collect();
        let text = settings.join(",");
        if text.len() <= WIDEST {
            return write!(f, "[{text}]");
        }
        let digest =
            Digest::of_bytes(self.0.iter().map(|setting| format!("{}={};", setting.axis, setting.key)).collect::<String>().as_bytes());
        write!(f, "[{}~{}]", &text[..WIDEST - 9], digest.short())
    }
}

/// The values of an axis, for messages: `4, 8, 16`.
pub(crate) fn listed<'s>(settings: impl Iterator<Item = &'s Setting>) -> String {
    const SHOWN: usize = 20;
    let labels: Vec<String> = settings.take(SHOWN + 1).map(|setting| shown(&setting.label)).collect();
    let more = if labels.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", labels[..labels.len().min(SHOWN)].join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::source::Span;

    fn setting(value: Raw) -> Setting {
        Setting::new(&"x".into(), Node::new(value, Span::default())).unwrap()
    }

    #[test]
    fn values_have_short_and_safe_names() {
        let label = |value: Raw| setting(value).label;
        assert_eq!(label(Raw::Int(8)), "8");
        assert_eq!([1e-3, 3e-5, 2.0].map(|number| label(Raw::Float(number))), ["0.001", "3e-5", "2.0"]);
        assert_eq!(label(Raw::Bool(true)), "true");
        assert_eq!(label(Raw::Text("nf4".to_owned())), "nf4");
        assert_eq!(label(Raw::Text("a/b [c]".to_owned())), "a_b__c_");
        assert_eq!(label(Raw::Text(String::new())), "_");
        assert_eq!(label(Raw::Text(format!("{}end", "é".repeat(90)))).len(), LONGEST);
    }

    #[test]
    fn a_cell_with_much_to_say_keeps_a_name_of_its_own() {
        let cell = |last: i64| {
            let axes = (0..4).map(|axis| (format!("axis_{axis}").into(), Raw::Text("x".repeat(30)))).chain([("n".into(), Raw::Int(last))]);
            Cell(axes.map(|(axis, value)| Arc::new(Setting::new(&axis, Node::new(value, Span::default())).unwrap())).collect()).to_string()
        };
        assert_eq!(cell(1).len(), WIDEST + 2);
        assert_ne!(cell(1), cell(2));
    }

    #[test]
    fn a_value_is_known_however_it_is_written() {
        let small = setting(Raw::Float(1e-3));
        assert!(["0.001", "1e-3", "1.0e-3"].iter().all(|text| small.is(&Asked::new(text))) && !small.is(&Asked::new("0.01")));
        assert!(setting(Raw::Float(3.0)).is(&Asked::new("3")) && setting(Raw::Int(3)).is(&Asked::new("3.0")));
        let path = setting(Raw::Text("models/bert".to_owned()));
        assert!(["models/bert", "\"models/bert\"", "models_bert"].iter().all(|text| path.is(&Asked::new(text))));
        assert_ne!(setting(Raw::Text("3".to_owned())), setting(Raw::Int(3)));
    }
}
