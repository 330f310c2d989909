//! Tables of stages in which large families of a matrix stay readable.

use std::collections::{BTreeSet, HashMap};

use qapipe_engine::family;

/// A family of up to this many stages is listed in full.
const FEW: usize = 5;

/// What stands in one row of a table.
pub(crate) struct Group<'a, T> {
    /// The stage's name, or the family's: `lora ×9 [rank,seed]`, `lora ×3 of 9 [rank,seed]`.
    pub(crate) label: String,
    /// One stage, or those of a family that are in one state.
    pub(crate) members: Vec<&'a T>,
}

/// The rows of a table in the order of their first stages. Of a large family, those in one state share a row, unless all are to be seen.
pub(crate) fn grouped<'a, T>(stages: &'a [T], name: impl Fn(&T) -> &str, state: impl Fn(&T) -> &str, all: bool) -> Vec<Group<'a, T>> {
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for stage in stages {
        *sizes.entry(family(name(stage))).or_default() += 1;
    }
    let mut groups: Vec<Group<'a, T>> = Vec::new();
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    for stage in stages {
        let family = family(name(stage));
        if all || sizes[family] <= FEW || family.len() == name(stage).len() {
            groups.push(Group { label: name(stage).to_owned(), members: vec![stage] });
            continue;
        }
        let place = *places.entry((family, state(stage))).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Group { label: String::new(), members: Vec::new() });
        }
        groups[place].members.push(stage);
    }
    for group in groups.iter_mut().filter(|group| group.label.is_empty()) {
        let first = name(group.members[0]);
        group.label = if group.members.len() == 1 { first.to_owned() } else { label(first, group.members.len(), sizes[family(first)]) };
    }
    groups
}

fn label(first: &str, count: usize, size: usize) -> String {
    let inside = first.split_once('[').map_or("", |(_, inside)| inside.trim_end_matches(']'));
    let axes: Vec<&str> = inside.split(',').filter_map(|setting| Some(setting.split_once('=')?.0)).collect();
    let of = if count < size { format!(" of {size}") } else { String::new() };
    format!("{} ×{count}{of} [{}]", family(first), axes.join(","))
}

/// What all say alike, or else that they differ.
pub(crate) fn common(texts: impl Iterator<Item = String>) -> String {
    let texts: BTreeSet<String> = texts.collect();
    match texts.len() {
        0 | 1 => texts.into_iter().next().unwrap_or_default(),
        _ => "for several reasons, which --verbose shows".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(stages: &[(&str, &str)], all: bool) -> Vec<String> {
        grouped(stages, |stage| stage.0, |stage| stage.1, all).into_iter().map(|group| group.label).collect()
    }

    #[test]
    fn a_large_family_is_a_row_for_each_state() {
        let names: Vec<String> = (0..6).map(|rank| format!("lora[rank={rank},seed=1]")).collect();
        let mut stages: Vec<(&str, &str)> = vec![("base", "run")];
        stages.extend(names.iter().map(|name| (name.as_str(), "run")));
        assert_eq!(labels(&stages, false), ["base", "lora ×6 [rank,seed]"]);
        stages[3].1 = "cached";
        stages[4].1 = "cached";
        assert_eq!(labels(&stages, false), ["base", "lora ×4 of 6 [rank,seed]", "lora ×2 of 6 [rank,seed]"]);
        assert_eq!(labels(&stages, true).len(), 7);
        assert_eq!(labels(&stages[..6], false).len(), 6, "few stages are listed");
    }
}
