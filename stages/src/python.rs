//! What Python calls a space, a word and a character, where Rust's answer differs: data and metric were defined in Python.

use std::sync::LazyLock;

use regex::Regex;

/// Letters and numbers outside of ASCII: what Python's `str.isalnum` accepts. Marks are not among them, unlike in Rust's
/// `char::is_alphanumeric` and in `\w` of the regex crate.
#[expect(clippy::expect_used, reason = "a constant pattern, which a test compiles")]
static ALPHANUMERIC: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}]$").expect("a valid pattern"));

/// Whether `str.isspace` holds: Rust's white space, and the separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Whether `\w` of Python's `re` matches: letters, numbers and the underscore.
pub fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    // Rust's notion is wider: it answers for most characters.
    c.is_alphanumeric() && ALPHANUMERIC.is_match(c.encode_utf8(&mut [0; 4]))
}

/// `str.split()`: the runs between white space.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|token| !token.is_empty())
}

/// `str.lstrip()`.
pub fn trim_start(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

/// Byte ranges of the maximal runs of word characters: what stands between two `\b`.
pub fn words(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut chars = text.char_indices().peekable();
    std::iter::from_fn(move || {
        while chars.peek().is_some_and(|&(_, c)| !is_word(c)) {
            chars.next();
        }
        let &(start, _) = chars.peek()?;
        while chars.peek().is_some_and(|&(_, c)| is_word(c)) {
            chars.next();
        }
        Some((start, chars.peek().map_or(text.len(), |&(end, _)| end)))
    })
}

/// Byte position of the code point with this number; the text's length for one past the last; nothing beyond.
pub fn byte_of(text: &str, code_point: usize) -> Option<usize> {
    if text.is_ascii() {
        return (code_point <= text.len()).then_some(code_point);
    }
    text.char_indices().map(|(at, _)| at).chain(std::iter::once(text.len())).nth(code_point)
}

/// `text[start:end]` in code points; empty where there is nothing.
pub fn slice(text: &str, start: usize, end: usize) -> &str {
    match (byte_of(text, start), byte_of(text, end).or(Some(text.len()))) {
        (Some(start), Some(end)) if start < end => &text[start..end],
        _ => "",
    }
}
