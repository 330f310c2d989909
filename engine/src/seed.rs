//! The seed at the top of a file where it is another in every cell: then each stage has it that draws random numbers and has none of its own.

use crate::check::takes_seed;
use crate::kinds::Kinds;
use crate::part::Part;
use crate::raw::{Entry, Node, Raw};

const SEED: &str = "seed";

/// Hands a seed that is made from variables or axes down to the stages.
pub(crate) fn hand_down(parts: &mut [Part], kinds: &Kinds) {
    for part in parts {
        let is_made = part.root.get(SEED).and_then(Node::as_text).is_some_and(|text| text.contains("${"));
        let Some(seed) = is_made.then(|| part.root.take(SEED)).flatten() else { continue };
        let Some(Raw::Table(stages)) = part.root.get_mut("stages").map(|stages| &mut stages.value) else { continue };
        for stage in &mut stages.0 {
            let Raw::Table(table) = &mut stage.node.value else { continue };
            let kind = table.get("kind").and_then(Node::as_text).and_then(|kind| kinds.get(kind));
            if table.get(SEED).is_none() && kind.is_some_and(takes_seed) {
                table.0.push(Entry { key: SEED.to_owned(), span: seed.span.clone(), node: seed.clone() });
            }
        }
    }
}
