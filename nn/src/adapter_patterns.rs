//! Numbers by the names of modules, as PEFT's `rank_pattern` and `alpha_pattern` give them.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// Regular expressions, each with a number for the modules whose name it fits: the whole name, or its end after a dot. The first counts, in
/// the file's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Patterns<T>(Vec<(Pattern, T)>);

/// A regular expression and its text.
#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    expression: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// PEFT's `get_pattern_key` has the same expression. Names of modules are ASCII.
    fn new(text: String) -> Result<Self, String> {
        match RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{text})$")).unicode(false).build() {
            Ok(expression) => Ok(Self { text, expression }),
            Err(_) => Err(format!("{text:?} is no regular expression")),
        }
    }
}

impl<T: Copy> Patterns<T> {
    /// The number of a module, where some pattern fits its name.
    pub(crate) fn get(&self, module: &str) -> Option<T> {
        self.0.iter().find(|(pattern, _)| pattern.expression.is_match(module.as_bytes())).map(|(_, number)| *number)
    }

    /// All numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = T> {
        self.0.iter().map(|(_, number)| *number)
    }
}

impl<T: Serialize> Serialize for Patterns<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(pattern, number)| map.serialize_entry(&pattern.text, number))?;
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patterns<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InOrder(std::marker::PhantomData))
    }
}

/// Reads patterns in the order in which they are written; null is none.
struct InOrder<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
    type Value = Patterns<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("numbers by patterns of module names")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Patterns(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut patterns = Vec::new();
        while let Some((text, number)) = map.next_entry()? {
            let pattern = Pattern::new(text).map_err(serde::de::Error::custom)?;
            patterns.push((pattern, number));
        }
        Ok(Patterns(patterns))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> Patterns<i64> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_first_pattern_that_fits_counts() {
        let numbers = patterns(r#"{"self.value": 1, "layer\\.[01]\\..*value": 2, "block.*": 3, "layer.7.key": 4}"#);
        assert_eq!(numbers.get("layer.0.self.value"), Some(1));
        assert_eq!(numbers.get("x.layer.1.other.value"), Some(2));
        assert_eq!(numbers.get("block.3.q"), Some(3));
        assert_eq!(numbers.get("layer.7.key"), Some(4));
        for other in ["layer.2.other.value", "self.values", "myself.value", "key"] {
            assert_eq!(numbers.get(other), None, "{other}");
        }
    }

    #[test]
    fn they_are_written_in_their_order_and_null_is_none() {
        let text = r#"{"z":1,"a":2}"#;
        assert_eq!(serde_json::to_string(&patterns(text)).unwrap(), text);
        assert_eq!(patterns("null"), Patterns::default());
        assert!(serde_json::from_str::<Patterns<i64>>(r#"{"(": 1}"#).unwrap_err().to_string().contains("is no regular expression"));
    }
}
