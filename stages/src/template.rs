//! The text around a question and a paragraph.

/// What a text is made of, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Words that are always the same.
    Words(String),
    /// Something of the question at hand; with a space before it, or not.
    Slot(Slot, bool),
}

/// What differs from question to question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The question.
    Question,
    /// The paragraph, or a window of it.
    Context,
    /// The title of the article.
    Title,
}

impl Slot {
    const ALL: [(&'static str, Self); 3] = [("question", Self::Question), ("context", Self::Context), ("title", Self::Title)];
}

impl Template {
    /// Takes a text with `{question}`, `{context}` and `{title}` in it apart.
    ///
    /// # Errors
    /// With what is wrong, as a lowercase fragment: a brace without its other half, a slot that is not known, a slot twice, no question.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((words, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| "a `{` has no `}`".to_owned())?;
            pieces.extend(joined(words, slot(name)?));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Words(rest.to_owned()));
        }
        if pieces.iter().any(|piece| matches!(piece, Piece::Words(words) if words.contains('}'))) {
            return Err("a `}` has no `{`".to_owned());
        }
        let template = Self(pieces);
        if let Some((name, _)) = Slot::ALL.iter().find(|(_, slot)| template.count(*slot) > 1) {
            return Err(format!("{{{name}}} stands there twice"));
        }
        if template.has(Slot::Question) { Ok(template) } else { Err("{question} is missing".to_owned()) }
    }

    /// Its pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether something has a place in it.
    #[must_use]
    pub fn has(&self, slot: Slot) -> bool {
        self.count(slot) > 0
    }

    /// Whether it ends with a space or a line break, so that an answer can follow at once.
    #[must_use]
    pub fn ends_open(&self) -> bool {
        matches!(self.0.last(), Some(Piece::Words(words)) if words.ends_with(char::is_whitespace))
    }

    /// The text for a question.
    #[must_use]
    pub fn fill(&self, fill: impl Fn(Slot) -> String) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Words(words) => words.clone(),
            Piece::Slot(slot, true) => format!(" {}", fill(*slot)),
            Piece::Slot(slot, false) => fill(*slot),
        };
        self.0.iter().map(piece).collect()
    }

    fn count(&self, wanted: Slot) -> usize {
        self.0.iter().filter(|piece| matches!(piece, Piece::Slot(slot, _) if *slot == wanted)).count()
    }
}

/// The slot of a name.
fn slot(name: &str) -> Result<Slot, String> {
    let unknown = || format!("{{{name}}} is not known; {{question}}, {{context}} and {{title}} are");
    Slot::ALL.iter().find(|(known, _)| *known == name).map(|&(_, slot)| slot).ok_or_else(unknown)
}

/// Words before a slot, and the slot. A space between them goes to the slot: tokenizers take it to the word that follows.
fn joined(words: &str, slot: Slot) -> impl Iterator<Item = Piece> {
    let (words, space) = words.strip_suffix(' ').map_or((words, false), |words| (words, true));
    let words = (!words.is_empty()).then(|| Piece::Words(words.to_owned()));
    words.into_iter().chain([Piece::Slot(slot, space)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_goes_to_the_slot_that_follows() {
        let template = Template::parse("question: {question} context: {context}").unwrap_or_else(|e| unreachable!("{e}"));
        let words = |words: &str| Piece::Words(words.to_owned());
        let wanted = [words("question:"), Piece::Slot(Slot::Question, true), words(" context:"), Piece::Slot(Slot::Context, true)];
        assert_eq!(template.pieces(), wanted);
        assert_eq!(template.fill(|slot| format!("{slot:?}")), "question: Question context: Context");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &str| Template::parse(text).err().unwrap_or_default();
        assert_eq!(wrong("{context}"), "{question} is missing");
        assert!(wrong("{question} {answer}").starts_with("{answer} is not known"));
        assert_eq!(wrong("{question} {question}"), "{question} stands there twice");
        assert_eq!(wrong("{question"), "a `{` has no `}`");
        assert_eq!(wrong("question} {question}"), "a `}` has no `{`");
    }

    #[test]
    fn an_open_end_is_seen() {
        let open = |text: &str| Template::parse(text).is_ok_and(|template| template.ends_open());
        assert!(open("{question}\n") && !open("{question}") && !open("Q: {question}\nA:"));
    }
}
