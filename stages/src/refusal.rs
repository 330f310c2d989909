//! Words that say that there is no answer.

use crate::metric::normalize;

/// Whole answers that mean none, as the metric compares texts.
const WHOLE: [&str; 12] = [
    "",
    "unanswerable",
    "not answerable",
    "no answer",
    "there is no answer",
    "idk",
    "not given",
    "not mentioned",
    "not stated",
    "not enough information",
    "cannot be determined",
    "it is not known",
];

/// Beginnings of answers that mean none.
const BEGINNINGS: [&str; 6] =
    ["i dont know", "i do not know", "im not sure", "question is unanswerable", "question cannot be answered", "context does not"];

/// Whether a text is no answer but says, in one of the usual ways, that there is none.
#[must_use]
pub fn is(text: &str) -> bool {
    let text = normalize(text);
    let begins = |beginning: &str| text.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    WHOLE.contains(&text.as_str()) || BEGINNINGS.iter().any(|beginning| begins(beginning))
}

#[cfg(test)]
mod tests {
    use super::is;

    #[test]
    fn refusals_are_told_from_answers() {
        for text in ["I don't know.", "i dont know the answer", "Unanswerable", "", " The question is unanswerable.", "No answer"] {
            assert!(is(text), "{text}");
        }
        for text in ["Norway", "none", "I don't knowingly", "no answers were found by the police", "unknown soldier"] {
            assert!(!is(text), "{text}");
        }
    }
}
