//! The name that the user probably meant.

/// Longest word for which a nearest name is looked for, in bytes.
const LONGEST: usize = 100;

/// The candidate closest to `word`, if one is close enough to be worth suggesting: at most a third of its letters differ,
/// or only case does. Of equally close ones the first wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len() > LONGEST || candidate.len().abs_diff(word.len()) > 4 * allowed {
            continue;
        }
        let distance = strsim::osa_distance(&lower, &candidate.to_lowercase());
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, name)| name)
}

/// Help for an unknown name: the nearest one, or else what there is.
pub(crate) fn suggest<'a>(word: &str, what: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    const SHOWN: usize = 20;
    if let Some(name) = nearest(word, candidates.clone()) {
        return Some(format!("did you mean `{name}`?"));
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    let rest = all.len().saturating_sub(SHOWN);
    match all.len() {
        0 => None,
        _ if rest > 0 => Some(format!("{what}: {}, and {rest} more", all[..SHOWN].join(", "))),
        _ => Some(format!("{what}: {}", all.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        assert_eq!(nearest("rnak", ["model", "rank"]), Some("rank"));
        assert_eq!(nearest("Rank", ["model", "rank"]), Some("rank"));
        assert_eq!(nearest("featurs", ["feature", "features"]), Some("feature"));
        assert_eq!(nearest("zebra", ["model", "rank"]), None);
        assert_eq!(nearest("", ["a"]), None);
        assert_eq!(nearest(&"x".repeat(101), ["x"]), None);
    }

    #[test]
    fn help_names_what_there_is() {
        assert_eq!(suggest("q", "stages", ["one", "two"]).as_deref(), Some("stages: one, two"));
        assert_eq!(suggest("oen", "stages", ["one", "two"]).as_deref(), Some("did you mean `one`?"));
        assert_eq!(suggest("q", "stages", []), None);
    }
}
