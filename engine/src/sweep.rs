//! `--sweep PATH=V1,V2`: an axis from outside.

use crate::matrix::RULES;
use crate::overrides::Override;
use crate::part::Part;
use crate::raw::{Node, Table};

/// For each override that sweeps, what its axis is called: the last word of its path, or all of it where that is the name of another axis too.
pub(crate) fn axes(parts: &[Part], overrides: &[Override]) -> Vec<Option<String>> {
    let sweeps = || overrides.iter().filter(|change| change.sweep);
    let in_files: Vec<&str> =
        parts.iter().filter_map(|part| part.root.get("matrix").and_then(Node::as_table)).flat_map(Table::keys).chain(RULES).collect();
    let name = |change: &Override| {
        let last = last(&change.path);
        let is_other = |other: &Override| self::last(&other.path) == last && other.path != change.path;
        let is_taken = in_files.contains(&last) || sweeps().any(is_other);
        let whole = change.path.strip_prefix("stages.").unwrap_or(&change.path);
        if is_taken { whole.to_owned() } else { last.to_owned() }
    };
    overrides.iter().map(|change| change.sweep.then(|| name(change))).collect()
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
