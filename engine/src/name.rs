//! What may be a name: of a pipeline, a stage, an output, a variable, a key of a table that the user fills.

use crate::source::Problem;

/// Longest name, in bytes: two of them and a key still make a file name.
const LONGEST: usize = 80;

/// Whether a text may be a name, which makes it safe as part of a file name and of a dotted path.
pub(crate) fn is_name(text: &str) -> bool {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !text.is_empty() && text.len() <= LONGEST && !text.starts_with('-') && text.as_bytes().iter().all(inside)
}

/// The error for a text that is no name; `what` says of what: `stage`, `output`.
pub(crate) fn no_name(what: &str, text: &str) -> Problem {
    let problem = Problem::new(format!("`{}` cannot be the name of {what}", shown(text)));
    if text.len() > LONGEST {
        return problem.label(format!("names have at most {LONGEST} letters"));
    }
    problem.label("names are made of letters a to z, digits, `_` and `-`, and do not begin with `-`")
}

/// User's text as it may stand in a message: escaped, and cut when long.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut letters = text.chars();
    let mut shown: String = letters.by_ref().take(MOST).flat_map(escape).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

fn escape(letter: char) -> Box<dyn Iterator<Item = char>> {
    if letter.is_control() { Box::new(letter.escape_default()) } else { Box::new(std::iter::once(letter)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_file_names() {
        for good in ["a", "s0_1", "fine-tune", "4bit", "_x"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "..", ".", "a/b", "a b", "é", "a.b", "a\0", "a\n"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name(&"a".repeat(LONGEST)) && !is_name(&"a".repeat(LONGEST + 1)));
    }

    #[test]
    fn messages_stay_on_one_short_line() {
        assert_eq!(shown("a\nb"), "a\\nb");
        assert_eq!(shown(&"é".repeat(200)).chars().count(), 81);
    }
}
