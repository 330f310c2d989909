//! How stages of a matrix are named: `lora` for all, `lora[rank=8]` for some, `lora[rank=8,seed=1]` for one.

/// A name and the values that it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector<'t> {
    /// What all stages of the family are called.
    pub(crate) family: &'t str,
    /// Axes and values, as written.
    pub(crate) settings: Vec<(&'t str, &'t str)>,
}

impl<'t> Selector<'t> {
    /// Takes a name apart; nothing if it is none.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let Some((family, rest)) = text.split_once('[') else { return Some(Self { family: text, settings: Vec::new() }) };
        let settings: Option<Vec<_>> = pieces(rest.strip_suffix(']')?).map(|piece| piece.split_once('=')).collect();
        let settings: Vec<_> = settings?.into_iter().map(|(axis, value)| (axis.trim(), value.trim())).collect();
        settings.iter().all(|(axis, value)| !axis.is_empty() && !value.is_empty()).then_some(Self { family, settings })
    }
}

/// What the stage of this name and all of its family are called.
#[must_use]
pub fn family(stage: &str) -> &str {
    stage.split('[').next().unwrap_or(stage)
}

/// A stage and its output in `STAGE` or `STAGE.OUTPUT`. Values may hold dots.
#[must_use]
pub fn stage_and_output(text: &str) -> (&str, Option<&str>) {
    let inside = text.find('[').and_then(|open| Some(open + closed(&text[open..])?)).unwrap_or(0);
    match text[inside..].find('.') {
        Some(dot) => (&text[..inside + dot], Some(&text[inside + dot + 1..])),
        None => (text, None),
    }
}

/// Where the bracket that a text begins with is closed.
fn closed(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte == b']' && !quoted
    })
}

/// The pieces between commas that do not stand in quotes.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(&str, Vec<(&str, &str)>)> {
        Selector::parse(text).map(|selector| (selector.family, selector.settings))
    }

    #[test]
    fn names_and_values() {
        assert_eq!(parsed("lora"), Some(("lora", vec![])));
        assert_eq!(parsed("lora[rank=8, lr=1e-3]"), Some(("lora", vec![("rank", "8"), ("lr", "1e-3")])));
        assert_eq!(parsed("a[x=\"1,2\",y=3]"), Some(("a", vec![("x", "\"1,2\""), ("y", "3")])));
        for wrong in ["a[", "a[]", "a[x]", "a[x=]", "a[=1]", "a[x=1", "a[x=1]b"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn outputs_stand_behind_the_values() {
        assert_eq!(stage_and_output("a"), ("a", None));
        assert_eq!(stage_and_output("a.model"), ("a", Some("model")));
        assert_eq!(stage_and_output("a[lr=0.1].model"), ("a[lr=0.1]", Some("model")));
        assert_eq!(stage_and_output("a[lr=0.1]"), ("a[lr=0.1]", None));
        assert_eq!(stage_and_output("a[x=\"].\"].y"), ("a[x=\"].\"]", Some("y")));
    }
}
