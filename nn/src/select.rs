//! Which of a model's matrices a method touches.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a matrix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Maps states to states.
    Projection,
    /// Carries an LSTM from one token to the next, or into it.
    Recurrent,
    /// Makes one number of a state: too thin for any method but by name.
    Vector,
    /// Makes the model's answer: spared by methods, unless it is named.
    Head,
}

impl Role {
    /// What methods touch where no names are given.
    pub const USUAL: [Self; 2] = [Self::Projection, Self::Recurrent];
}

/// Matrices chosen by the names of their modules and by what they are for.
///
/// A pattern is a module's whole name, its end after a dot (`query`, `SelfAttention.q`), or either with `*` for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Patterns of those to take; none takes all of the roles.
    pub targets: Vec<String>,
    /// Patterns of those to leave, whatever else is said.
    pub exclude: Vec<String>,
    /// What those are for that are taken where there are no patterns; none means [`Role::USUAL`].
    pub roles: Vec<Role>,
}

impl Selection {
    /// Those of the usual roles that fit one of some patterns, or all where there are none.
    #[must_use]
    pub fn of(targets: &[&str]) -> Self {
        Self { targets: targets.iter().map(|&target| target.to_owned()).collect(), ..Self::default() }
    }

    /// Whether it takes a module's matrix.
    #[must_use]
    pub fn takes(&self, module: &str, role: Role) -> bool {
        let fits = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, module));
        let wanted = if self.targets.is_empty() { self.takes_role(role) } else { fits(&self.targets) };
        wanted && !fits(&self.exclude)
    }

    fn takes_role(&self, role: Role) -> bool {
        if self.roles.is_empty() { Role::USUAL.contains(&role) } else { self.roles.contains(&role) }
    }

    /// Refuses patterns that fit nothing, and says what there is.
    ///
    /// # Errors
    /// With a text that names the pattern and the modules.
    pub fn check<'a>(&self, modules: impl Iterator<Item = (&'a str, Role)> + Clone) -> Result<(), String> {
        let names = || modules.clone().map(|(name, _)| name);
        let idle = self.targets.iter().chain(&self.exclude).find(|pattern| !names().any(|name| fits(pattern, name)));
        let there = || families(names()).into_iter().collect::<Vec<_>>().join(", ");
        if let Some(pattern) = idle {
            return Err(format!("no matrix fits {pattern:?}; there are {}", there()));
        }
        if !modules.clone().any(|(name, role)| self.takes(name, role)) {
            return Err(format!("no matrix is chosen; there are {}", there()));
        }
        Ok(())
    }
}

/// The names of modules with `*` for numbers: the same module of all layers is one.
pub(crate) fn families<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    names.map(family).collect()
}

/// A module's name with `*` for numbers.
pub(crate) fn family(name: &str) -> String {
    let numbered = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name.split('.').map(|part| if numbered(&part) { "*" } else { part }).collect::<Vec<_>>().join(".")
}

/// Whether a pattern fits a name, or its end after a dot.
fn fits(pattern: &str, name: &str) -> bool {
    let ends = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
    std::iter::once(name).chain(ends).any(|end| matches(pattern, end))
}

/// Whether a pattern with `*` for any text fits all of a text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut middle: Vec<&str> = parts.collect();
    let Some(last) = middle.pop() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_ends_of_names_or_have_stars() {
        let name = "encoder.block.11.layer.0.SelfAttention.q";
        for pattern in ["q", "SelfAttention.q", name, "*.q", "encoder.*.q", "encoder.*", "*", "block.*.layer.0.*", "Self*.q"] {
            assert!(fits(pattern, name), "{pattern}");
        }
        for pattern in ["", "k", "Attention.q", "encoder", "decoder.*", "*.layer.1.*", "q*q", "*z*"] {
            assert!(!fits(pattern, name), "{pattern}");
        }
        assert!(matches("a*a", "aa") && !matches("a*a", "a") && matches("**", "") && matches("a*b*c", "axbxbc"));
    }

    #[test]
    fn roles_choose_where_no_names_do() {
        let all = Selection::default();
        assert!(all.takes("x.q", Role::Projection) && all.takes("x.h", Role::Recurrent));
        assert!(!all.takes("qa_outputs", Role::Head) && !all.takes("x.v", Role::Vector));
        assert!(Selection::of(&["qa_outputs"]).takes("qa_outputs", Role::Head));
        let some = Selection { exclude: vec!["wo".into()], ..Selection::of(&["w*"]) };
        assert!(some.takes("x.wi", Role::Projection) && !some.takes("x.wo", Role::Projection));
        let heads = Selection { roles: vec![Role::Head], ..Selection::default() };
        assert!(heads.takes("lm_head", Role::Head) && !heads.takes("x.q", Role::Projection));
    }

    #[test]
    fn patterns_that_fit_nothing_are_refused_with_what_there_is() {
        let modules = [("a.0.q", Role::Projection), ("a.1.q", Role::Projection), ("a.1.k", Role::Projection), ("head", Role::Head)];
        let check = |selection: &Selection| selection.check(modules.into_iter());
        assert_eq!(check(&Selection::of(&["q", "0.k"])), Err("no matrix fits \"0.k\"; there are a.*.k, a.*.q, head".to_owned()));
        assert_eq!(
            check(&Selection { exclude: vec!["*".into()], ..Selection::default() }).unwrap_err().find("no matrix is chosen"),
            Some(0)
        );
        assert_eq!(check(&Selection::default()), Ok(()));
    }
}
