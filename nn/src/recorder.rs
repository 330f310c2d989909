//! What a pass through a model leaves behind besides its answer: the states after each layer, and what its last attention looks with.

use std::cell::RefCell;
use std::rc::Rc;

use tch::Tensor;

use crate::layers::{Heads, Look};
use crate::packed::Packed;

/// Keeps what the layers of a model hand out in a pass, with its gradient, until it is taken or the next pass begins.
#[derive(Clone, Debug)]
pub struct Recorder {
    wanted: Wanted,
    stacks: Rc<RefCell<Vec<Stack>>>,
}

/// What a recorder keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// States after each layer.
    pub states: bool,
    /// Queries and keys of the last layer's attention.
    pub attention: bool,
}

/// What one stack of layers handed out: a model has one, and an encoder with a decoder two.
#[derive(Debug)]
pub struct Stack {
    /// The sequences that it read.
    pub(crate) packed: Packed,
    /// What went into the first layer, and what came out of each: `[tokens, width]`.
    pub(crate) states: Vec<Tensor>,
    /// The last attention of the sequences to themselves.
    pub(crate) attention: Option<Scores>,
}

/// What the scores of an attention are made of.
#[derive(Debug)]
pub(crate) struct Scores {
    /// `[tokens, heads, head_dim]`.
    pub(crate) query: Tensor,
    /// As many.
    pub(crate) key: Tensor,
    /// What is added to the scores, `[1, heads, width, width]`.
    pub(crate) bias: Option<Tensor>,
    /// What the products are multiplied with; 1/√head_dim where it is not said.
    pub(crate) scale: Option<f64>,
}

impl Stack {
    /// How many layers handed out their states.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.states.len().saturating_sub(1)
    }
}

impl Recorder {
    /// One that keeps what is wanted.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, stacks: Rc::default() }
    }

    /// What the last pass left, in the order in which the stacks were run; afterwards there is nothing.
    #[must_use]
    pub fn take(&self) -> Vec<Stack> {
        self.stacks.take()
    }

    /// A stack begins to read.
    pub(crate) fn enter(&self, packed: &Packed, states: &Tensor) {
        let states = if self.wanted.states { vec![states.shallow_clone()] } else { Vec::new() };
        self.stacks.borrow_mut().push(Stack { packed: packed.shallow_clone(), states, attention: None });
    }

    /// A layer of the stack that began last hands out its states.
    pub(crate) fn leave(&self, states: &Tensor) {
        if let (true, Some(stack)) = (self.wanted.states, self.stacks.borrow_mut().last_mut()) {
            stack.states.push(states.shallow_clone());
        }
    }

    /// A layer of the stack that began last looks at its own sequences. Of several the last counts.
    pub(crate) fn look(&self, heads: &Heads, look: &Look<'_>) {
        if let (true, Some(stack)) = (self.wanted.attention, self.stacks.borrow_mut().last_mut()) {
            stack.attention = Some(Scores {
                query: heads.query.shallow_clone(),
                key: heads.key.shallow_clone(),
                bias: look.bias.map(|bias| bias.table().shallow_clone()),
                scale: look.scale,
            });
        }
    }
}
