//! Placeholders in the words of a command: `{in.NAME}` and `{out.NAME}`.

/// A stretch of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text that stays as it is, other braces included.
    Text(&'a str),
    /// The path of an input.
    In(&'a str),
    /// The path of an output.
    Out(&'a str),
}

/// Takes a word apart. A placeholder holds no further brace: of `{in.{in.x}` the first four letters are text.
pub(crate) fn pieces(word: &str) -> Vec<Piece<'_>> {
    if !word.as_bytes().contains(&b'{') {
        return text(word).into_iter().collect();
    }
    let mut pieces = Vec::new();
    // What is before `begin` is in `pieces`; what is between there and `at` is text.
    let (mut begin, mut at) = (0, 0);
    while let Some(open) = word[at..].find('{').map(|open| at + open) {
        at = open + 1;
        if let Some((placeholder, length)) = placeholder(&word[open..]) {
            pieces.extend(text(&word[begin..open]));
            pieces.push(placeholder);
            at = open + length;
            begin = at;
        }
    }
    pieces.extend(text(&word[begin..]));
    pieces
}

fn text(text: &str) -> Option<Piece<'_>> {
    (!text.is_empty()).then_some(Piece::Text(text))
}

/// The placeholder that begins with the brace at the start of a text, and its length.
fn placeholder(text: &str) -> Option<(Piece<'_>, usize)> {
    let inside = text[1..].split_once('}')?.0;
    if inside.contains('{') {
        return None;
    }
    let placeholder = match inside.split_once('.')? {
        ("in", name) => Piece::In(name),
        ("out", name) => Piece::Out(name),
        _ => return None,
    };
    Some((placeholder, inside.len() + 2))
}

#[cfg(test)]
mod tests {
    use super::Piece::{In, Out, Text};
    use super::*;

    #[test]
    fn placeholders_and_the_text_around_them() {
        assert_eq!(pieces("a {in.x}{out.y} b"), [Text("a "), In("x"), Out("y"), Text(" b")]);
        assert_eq!(pieces(""), []);
        assert_eq!(pieces("{in.a.b}{in.}"), [In("a.b"), In("")]);
    }

    #[test]
    fn other_braces_are_text() {
        for word in ["{a: 1}", "{}", "{in}", "{", "}", "{in.x", "{é.{", "}{", "{ in.x}", "{IN.x}"] {
            assert_eq!(pieces(word), [Text(word)], "{word}");
        }
        assert_eq!(pieces("{in.{in.x}"), [Text("{in."), In("x")]);
        assert_eq!(pieces("{{in.x}}"), [Text("{"), In("x"), Text("}")]);
    }
}
